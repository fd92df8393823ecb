//! What a merged answer costs for one group, against the number of groups that the batch view has.
//!
//! `cargo bench -p anabranch-merge`. `BENCH_GROUPS=10000,1000000,10000000` are the sizes (the largest takes about 2 GB).

use std::hint::black_box;
use std::sync::Arc;

use anabranch_catalog::Catalog;
use anabranch_merge::{BatchState, Selection, answer};
use anabranch_view::View;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{Field, Schema};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// Events that are folded at once while a view is built.
const STEP: usize = 100_000;

fn view() -> View {
    let sql = "CREATE TABLE clicks (page TEXT, n BIGINT) WITH (connector = 'log', topic = 'clicks', format = 'json');
               CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS hits, sum(n) AS total FROM clicks GROUP BY page;";
    let catalog = Catalog::parse(sql).expect("the definitions are valid");
    View::compile(&catalog.views["pages"]).expect("the view is valid")
}

fn name(page: usize) -> String {
    format!("/page/{page:09}")
}

fn state(view: &View, pages: impl Iterator<Item = usize>) -> RecordBatch {
    let pages: Vec<usize> = pages.collect();
    let source = view.source().event_schema();
    let column = |field: &Arc<Field>| -> ArrayRef {
        match field.name().as_str() {
            "page" => Arc::new(StringArray::from_iter_values(pages.iter().map(|page| name(*page)))),
            "n" => Arc::new(Int64Array::from_iter_values(pages.iter().map(|page| *page as i64))),
            _ => new_null_array(field.data_type(), pages.len()),
        }
    };
    let columns = source.fields().iter().map(column).collect();
    let nullable = source
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(nullable.collect::<Vec<Field>>()));
    let events = RecordBatch::try_new(schema, columns).expect("columns of the schema");
    let mut aggregator = view.aggregator().expect("an aggregator");
    aggregator
        .fold(&view.prepare(&events).expect("events of the source"))
        .expect("prepared events");
    aggregator.emit_sorted().expect("state")
}

fn sizes() -> Vec<usize> {
    let text = std::env::var("BENCH_GROUPS").unwrap_or_else(|_| "10000,1000000,10000000".into());
    text.split(',').filter_map(|size| size.trim().parse().ok()).collect()
}

fn point_queries(c: &mut Criterion) {
    let view = view();
    let mut group = c.benchmark_group("merged answer");
    for groups in sizes() {
        let steps = (0..groups)
            .step_by(STEP)
            .map(|start| state(&view, start..(start + STEP).min(groups)));
        let batch = BatchState::new(&view, steps.collect()).expect("sorted state");
        let middle = groups / 2;
        let live = [state(&view, std::iter::once(middle))];
        let select = |sql: String| Selection::filtered(Arc::new(view.key_filter(&sql).expect("a filter on the key")));
        let one = select(format!("page = '{}'", name(middle)));
        group.bench_function(BenchmarkId::new("one group", groups), |b| {
            b.iter(|| black_box(answer(&view, Some(&batch), &live, &one)));
        });
        let ten = (0..10)
            .map(|i| format!("'{}'", name(i * groups / 10)))
            .collect::<Vec<_>>();
        let ten = select(format!("page IN ({})", ten.join(", ")));
        group.bench_function(BenchmarkId::new("ten groups by name", groups), |b| {
            b.iter(|| black_box(answer(&view, Some(&batch), &live, &ten)));
        });
        let range = select(format!(
            "page >= '{}' AND page < '{}'",
            name(middle),
            name(middle + 100)
        ));
        group.bench_function(BenchmarkId::new("a hundred groups in a row", groups), |b| {
            b.iter(|| black_box(answer(&view, Some(&batch), &live, &range)));
        });
    }
    group.finish();
}

criterion_group!(benches, point_queries);
criterion_main!(benches);
