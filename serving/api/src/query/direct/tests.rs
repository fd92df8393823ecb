use anabranch_catalog::Catalog;
use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, new_null_array};
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::MemTable;
use datafusion::common::ParamValues;
use datafusion::prelude::SessionContext;

use super::*;
use crate::query::prepared::parameters;
use crate::query::session::template;

fn view() -> View {
    let sql = "CREATE TABLE clicks (page TEXT, at TIMESTAMP NOT NULL, n BIGINT, price DECIMAL(10, 2), score DOUBLE, tags TEXT[])
                 WITH (connector = 'log', topic = 'clicks', format = 'json', event_time = 'at');
               CREATE MATERIALIZED VIEW pages AS
                 SELECT page, count(*) AS hits, sum(n) AS n, max(score) AS score, max(at) AS last, sum(price) AS paid
                 FROM clicks GROUP BY page;";
    View::compile(&Catalog::parse(sql).unwrap().views["pages"]).unwrap()
}

/// Rows of the view in two batches, with nulls in every column.
fn rows(view: &View) -> Vec<RecordBatch> {
    let schema = view.output_schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        let every = |k: i64, one: i64| (one % k != 0).then_some(one);
        match field.name().as_str() {
            "page" => Arc::new(StringArray::from_iter(
                (0..40).map(|i| every(9, i).map(|i| format!("p{:02}", i / 2))),
            )),
            "hits" => Arc::new(Int64Array::from_iter_values((0..40).map(|i| i * 7 % 5))),
            "score" => Arc::new(Float64Array::from_iter(
                (0..40).map(|i| every(4, i).map(|i| i as f64 / 8.0)),
            )),
            "last" => Arc::new(
                TimestampMicrosecondArray::from_iter((0..40).map(|i| every(6, i).map(|i| i * 1_000_000)))
                    .with_timezone("UTC"),
            ),
            _ => match field.data_type() {
                DataType::Int64 => Arc::new(Int64Array::from_iter((0..40).map(|i| every(7, i).map(|i| i - 20)))),
                other => {
                    let numbers: ArrayRef =
                        Arc::new(Int64Array::from_iter((0..40).map(|i| every(7, i).map(|i| i - 20))));
                    arrow::compute::cast(&numbers, other).unwrap_or_else(|_| new_null_array(other, 40))
                }
            },
        }
    });
    let all = RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
    vec![all.slice(0, 15), all.slice(15, 0), all.slice(15, 25)]
}

/// A session that knows the rows as a table.
fn session(view: &View) -> SessionContext {
    let context = SessionContext::new_with_state(template());
    let table = MemTable::try_new(view.output_schema(), vec![rows(view)]).unwrap();
    let schema = datafusion::catalog::memory::MemorySchemaProvider::new();
    let catalog = datafusion::catalog::memory::MemoryCatalogProvider::new();
    use datafusion::catalog::{CatalogProvider, SchemaProvider};
    schema.register_table("pages".into(), Arc::new(table)).unwrap();
    catalog.register_schema(SCHEMA, Arc::new(schema)).unwrap();
    context.register_catalog(crate::query::session::CATALOG, Arc::new(catalog));
    context
}

async fn planned(context: &SessionContext, sql: &str) -> LogicalPlan {
    context.state().create_logical_plan(sql).await.unwrap()
}

fn direct(context: &SessionContext, plan: &LogicalPlan, view: &View) -> Option<Direct> {
    let state = context.state();
    let analysed = state
        .analyzer()
        .execute_and_check(plan.clone(), state.config_options(), |_, _| {});
    Direct::of(&analysed.unwrap(), view)
}

fn shown(batches: &[RecordBatch]) -> String {
    let kept: Vec<RecordBatch> = batches.iter().filter(|batch| batch.num_rows() > 0).cloned().collect();
    pretty_format_batches(&kept).unwrap().to_string()
}

/// Both ways must give the same rows, in the same order: orders are without ties.
async fn compare(sql: &str, values: Vec<ScalarValue>) {
    let view = view();
    let context = session(&view);
    let plan = planned(&context, sql).await;
    let types = parameters(&plan).unwrap();
    let values: Vec<ScalarValue> = values
        .into_iter()
        .zip(&types)
        .map(|(value, wanted)| value.cast_to(wanted.as_ref().unwrap()).unwrap())
        .collect();
    let direct = direct(&context, &plan, &view).unwrap_or_else(|| panic!("{sql} is plain"));
    let (steps, _) = direct.bound(&values).unwrap_or_else(|| panic!("{sql} can be bound"));
    let (mut schema, mut batches) = (view.output_schema(), rows(&view));
    for step in &steps {
        (schema, batches) = step.apply(schema, batches).unwrap();
    }
    let bound = plan.replace_params_with_values(&ParamValues::from(values)).unwrap();
    let long = context.execute_logical_plan(bound).await.unwrap();
    let types = |schema: &Schema| -> Vec<(String, DataType)> {
        let fields = schema.fields().iter();
        fields
            .map(|field| (field.name().clone(), field.data_type().clone()))
            .collect()
    };
    let long_types = types(long.schema().as_arrow());
    let long = long.collect().await.unwrap();
    assert_eq!(types(&schema), long_types, "{sql}");
    assert_eq!(shown(&batches), shown(&long), "{sql}");
}

#[tokio::test]
async fn plain_queries_answer_as_the_query_engine_does() {
    for sql in [
        "SELECT * FROM pages",
        "SELECT * FROM public.pages WHERE page = 'p07'",
        "SELECT page, hits FROM pages WHERE 'p07' <= page AND hits > 2 ORDER BY page DESC, hits",
        "SELECT hits * 2 + n AS twice, -n AS minus, score / 2, hits % 3 FROM pages WHERE n IS NOT NULL ORDER BY n",
        "SELECT n, n AS again FROM (SELECT n FROM pages) q ORDER BY n NULLS FIRST LIMIT 7 OFFSET 3",
        "SELECT page FROM pages p WHERE p.page IN ('p03', 'p04', NULL) ORDER BY p.hits, p.page",
        "SELECT page FROM pages WHERE page NOT IN ('p03', 'p04') ORDER BY n DESC NULLS LAST LIMIT 5",
        "SELECT page FROM pages WHERE n BETWEEN -5 AND 5 AND NOT (hits = 1 OR hits = 2) ORDER BY n",
        "SELECT * FROM pages WHERE page = NULL",
        "SELECT page, score FROM pages WHERE (page IS DISTINCT FROM 'p03') AND ((score > 1.5) IS NOT FALSE) AND hits > 1 ORDER BY n, page",
        "SELECT page, 'x' AS x, NULL AS nothing, CAST(hits AS TEXT) AS text, hits::double FROM pages ORDER BY n LIMIT 4",
        "SELECT paid, paid + 1 AS more FROM pages WHERE hits > 1 ORDER BY paid",
        "SELECT page FROM (SELECT page, n FROM pages WHERE n > 0 ORDER BY n LIMIT 10) q WHERE page > 'p12' ORDER BY page",
        "WITH best AS (SELECT * FROM pages WHERE hits > 3) SELECT best.page, n FROM best ORDER BY n LIMIT 3",
        "SELECT page FROM pages WHERE false",
        "SELECT page FROM pages WHERE hits > score ORDER BY n, page",
        "SELECT page FROM pages LIMIT 0",
        "SELECT page FROM pages ORDER BY n, page OFFSET 38",
        "SELECT page FROM pages OFFSET 100",
    ] {
        compare(sql, Vec::new()).await;
    }
}

#[tokio::test]
async fn plain_queries_take_parameters() {
    let text = |text: &str| ScalarValue::from(text);
    let number = |number: i64| ScalarValue::from(number);
    compare("SELECT * FROM pages WHERE page = $1", vec![text("p07")]).await;
    compare("SELECT * FROM pages WHERE page = $1", vec![ScalarValue::Utf8(None)]).await;
    compare(
        "SELECT page, hits + $2 AS more FROM pages WHERE page > $1 AND n < $2 ORDER BY n",
        vec![text("p04"), number(12)],
    )
    .await;
    compare(
        "SELECT page FROM pages WHERE last > $1 AND score <= $2 ORDER BY last",
        vec![text("1970-01-01T00:00:05Z"), number(3)],
    )
    .await;
    compare(
        "SELECT page FROM pages WHERE page IN ($1, $2) ORDER BY n",
        vec![text("p01"), text("p02")],
    )
    .await;
}

#[tokio::test]
async fn whatever_may_mean_something_else_goes_the_long_way() {
    let view = view();
    let context = session(&view);
    for sql in [
        "SELECT now() FROM pages",
        "SELECT * FROM pages WHERE last < now()",
        "SELECT random() FROM pages",
        "SELECT upper(page) FROM pages",
        "SELECT * FROM pages WHERE page LIKE 'p%'",
        "SELECT page || 'x' FROM pages",
        "SELECT count(*) FROM pages",
        "SELECT page, sum(hits) FROM pages GROUP BY page",
        "SELECT DISTINCT page FROM pages",
        "SELECT row_number() OVER (ORDER BY page) FROM pages",
        "SELECT * FROM pages WHERE n = (SELECT max(n) FROM pages)",
        "SELECT * FROM pages WHERE page IN (SELECT page FROM pages)",
        "SELECT * FROM pages a JOIN pages b ON a.page = b.page",
        "SELECT page FROM pages UNION ALL SELECT page FROM pages",
        "SELECT * FROM (VALUES (1)) q",
        "SELECT 1",
        // These fail on some rows, and not on those that another order of things leaves.
        "SELECT * FROM pages WHERE 10 / hits > 1",
        "SELECT * FROM pages WHERE CAST(page AS BIGINT) = 1",
        "SELECT * FROM pages WHERE page = 1",
        "SELECT last FROM pages WHERE last >= '1970-01-01T00:00:20Z'",
        "EXPLAIN SELECT * FROM pages",
    ] {
        let plan = planned(&context, sql).await;
        assert!(direct(&context, &plan, &view).is_none(), "{sql}");
    }
    let other = {
        let sql = "CREATE TABLE clicks (page TEXT) WITH (connector = 'log', topic = 'clicks', format = 'json');
                   CREATE MATERIALIZED VIEW other AS SELECT page, count(*) AS hits FROM clicks GROUP BY page;";
        View::compile(&Catalog::parse(sql).unwrap().views["other"]).unwrap()
    };
    let plan = planned(&context, "SELECT * FROM pages").await;
    assert!(direct(&context, &plan, &other).is_none(), "it reads another table");
}

#[tokio::test]
async fn filters_on_the_view_itself_are_found_and_others_are_not() {
    let view = view();
    let context = session(&view);
    let filters = async |sql: &str, values: &[ScalarValue]| -> Vec<String> {
        let plan = planned(&context, sql).await;
        let (_, filters) = direct(&context, &plan, &view).unwrap().bound(values).unwrap();
        filters.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        filters("SELECT * FROM pages WHERE page = $1", &["a".into()]).await,
        ["pages.page = Utf8(\"a\")"]
    );
    let outer = "SELECT * FROM (SELECT n AS page FROM pages WHERE hits = 2) q WHERE page = 3";
    assert_eq!(filters(outer, &[]).await, ["pages.hits = Int64(2)"]);
    let limited = "SELECT * FROM (SELECT * FROM pages LIMIT 2) q WHERE page = 'a'";
    assert!(filters(limited, &[]).await.is_empty());
}

#[tokio::test]
async fn a_limit_that_is_no_number_goes_the_long_way() {
    let view = view();
    let context = session(&view);
    let plan = planned(&context, "SELECT page FROM pages LIMIT $1").await;
    let direct = direct(&context, &plan, &view).unwrap();
    assert!(direct.bound(&["three".into()]).is_none());
    assert!(direct.bound(&[]).is_none(), "there is no value for it");
    assert!(
        direct.bound(&[ScalarValue::Int64(Some(-1))]).is_none(),
        "which is an error"
    );
    assert!(direct.bound(&[ScalarValue::Int64(Some(3))]).is_some());
}

#[tokio::test]
async fn long_chains_are_the_optimisers_affair() {
    let context = session(&view());
    let chain = |length: usize| {
        format!(
            "SELECT * FROM pages WHERE {}",
            vec!["page <> 'x'"; length].join(" AND ")
        )
    };
    assert!(is_small(&planned(&context, &chain(20)).await));
    assert!(!is_small(&planned(&context, &chain(200)).await));
}
