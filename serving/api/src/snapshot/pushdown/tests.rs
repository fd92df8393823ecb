use anabranch_catalog::Catalog;
use datafusion::logical_expr::{col, lit};

use super::*;

fn view(name: &str) -> View {
    let sql = "CREATE TABLE clicks (page TEXT, n BIGINT) WITH (connector = 'log', topic = 'clicks', format = 'json');
               CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS hits FROM clicks GROUP BY page;
               CREATE MATERIALIZED VIEW both AS SELECT page, n, count(*) AS hits FROM clicks GROUP BY page, n;";
    View::compile(&Catalog::parse(sql).unwrap().views[name]).unwrap()
}

#[test]
fn only_a_filter_for_one_group_is_a_point() {
    let pages = view("pages");
    let point = |filters: &[Expr]| Pushdown::new(&pages, filters).point;
    let of = |value: &str| {
        Some(Point {
            column: "\"page\"".into(),
            value: value.into(),
        })
    };
    assert_eq!(point(&[col("page").eq(lit("home"))]), of("'home'"));
    assert_eq!(point(&[lit("o'brien").eq(col("page"))]), of("'o''brien'"));
    let with_more = [col("page").eq(lit("home")), col("hits").gt(lit(3_i64))];
    assert_eq!(point(&with_more), of("'home'"), "what is no key is not pushed down");
    assert_eq!(point(&[col("page").gt(lit("home"))]), None);
    assert_eq!(point(&[col("page").eq(lit("a")), col("page").not_eq(lit("b"))]), None);
    assert_eq!(point(&[]), None);
    let part = Pushdown::new(&view("both"), &[col("page").eq(lit("home"))]);
    assert!(
        part.sql.is_some() && part.point.is_none(),
        "a part of a key is many groups"
    );
}

#[test]
fn a_filter_for_several_points_keeps_all_of_them() {
    let pages = view("pages");
    let names = ["home", "o'brien", "ü\"", "a, b)"];
    let points: Vec<Point> = names
        .iter()
        .map(|name| Pushdown::new(&pages, &[col("page").eq(lit(*name))]).point.unwrap())
        .collect();
    for count in 1..=points.len() {
        let filter = pages.key_filter(&Point::any_of(&points[..count]).unwrap()).unwrap();
        assert_eq!(filter.ranges().unwrap().iter().count(), count);
        let keys: Vec<&str> = names.iter().copied().chain(["other"]).collect();
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(arrow::array::StringArray::from(keys.clone())),
            Arc::new(arrow::array::Int64Array::from_iter_values(0..keys.len() as i64)),
        ];
        let state = arrow::array::RecordBatch::try_new(pages.state_schema(), columns).unwrap();
        assert_eq!(filter.apply(&state).unwrap().num_rows(), count);
    }
    assert_eq!(Point::any_of(&[]), None);
}
