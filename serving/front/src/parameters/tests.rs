use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::datasource::empty::EmptyTable;
use datafusion::prelude::SessionContext;

use super::*;

/// Types of `$1` and `$2` in a query over `t (n BIGINT, name TEXT, tags TEXT[])`.
async fn types(sql: &str) -> [Option<DataType>; 2] {
    let context = SessionContext::new();
    let table = Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("tags", DataType::new_list(DataType::Utf8, true), true),
    ]);
    let table = Arc::new(EmptyTable::new(Arc::new(table)));
    context.register_table("t", table).unwrap();
    let plan = context.state().create_logical_plan(sql).await.unwrap();
    let mut types = parameter_types(&plan).unwrap();
    ["$1", "$2"].map(|name| types.remove(name).flatten())
}

#[tokio::test]
async fn arrays_are_of_what_is_looked_for_in_them() {
    let integers = Some(DataType::new_list(DataType::Int64, true));
    let texts = Some(DataType::new_list(DataType::Utf8, true));
    for (sql, expected) in [
        ("SELECT 1 FROM t WHERE n = ANY($1)", [&integers, &None]),
        (
            "SELECT 1 FROM t WHERE name = ANY($1) AND n = ANY($2)",
            [&texts, &integers],
        ),
        ("SELECT 1 FROM t WHERE name <> ALL($1)", [&texts, &None]),
        ("SELECT 1 FROM t WHERE n > ANY($1)", [&integers, &None]),
        ("SELECT 1 FROM t WHERE n <= ALL($1)", [&integers, &None]),
        ("SELECT 1 FROM t WHERE n + 1 = ANY($1)", [&integers, &None]),
        ("SELECT 1 FROM t WHERE $1 = ANY(tags)", [&Some(DataType::Utf8), &None]),
        ("SELECT 1 FROM t WHERE n = ANY($1::BIGINT[])", [&integers, &None]),
        (
            "SELECT 1 FROM t WHERE n IN (SELECT n FROM t WHERE name = ANY($1))",
            [&texts, &None],
        ),
    ] {
        let found = types(sql).await;
        assert_eq!([&found[0], &found[1]], expected, "{sql}");
    }
}

#[tokio::test]
async fn comparisons_come_before_casts() {
    assert_eq!(
        types("SELECT 1 FROM t WHERE n = $1 AND n = $2::INT").await,
        [Some(DataType::Int64), Some(DataType::Int32)]
    );
    assert_eq!(
        types("SELECT $2::DOUBLE FROM t LIMIT 1").await,
        [None, Some(DataType::Float64)]
    );
}
