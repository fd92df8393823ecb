//! The kernel that every event passes: `(page, minute)` with count, sum and approx_distinct, in micro-batches of 32,768.
//!
//! `cargo bench -p anabranch-view`. Throughput is in events (of state: in groups).

use std::hint::black_box;
use std::sync::Arc;

use anabranch_catalog::Catalog;
use anabranch_view::View;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 32_768;

const SQL: &str =
    "CREATE TABLE clicks (time TIMESTAMP, page TEXT, visitor TEXT, bytes BIGINT) WITH (event_time = 'time');
CREATE MATERIALIZED VIEW pages AS
  SELECT page, tumble(time, INTERVAL '1 minute') AS minute, count(*) AS n, sum(bytes) AS bytes,
         approx_distinct(visitor) AS visitors
  FROM clicks GROUP BY page, minute;
CREATE MATERIALIZED VIEW counts AS
  SELECT page, tumble(time, INTERVAL '1 minute') AS minute, count(*) AS n FROM clicks GROUP BY page, minute;
CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n, sum(bytes) AS bytes FROM clicks WHERE bytes > 100;
";

/// Events of a web shop: few pages get most clicks, time moves on by 20 µs per event.
fn events(view: &View) -> RecordBatch {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let schema = view.source().event_schema();
    let pages: Vec<String> = (0..ROWS)
        .map(|_| {
            let uniform = (next() >> 11) as f64 / (1_u64 << 53) as f64;
            format!("/products/{}", (uniform.powi(3) * 2_000.0) as u64)
        })
        .collect();
    let visitors: Vec<String> = (0..ROWS).map(|_| format!("visitor-{}", next() % 20_000)).collect();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "time" => {
                let times = (0..ROWS as i64).map(|n| 1_700_000_000_000_000 + n * 20);
                Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
            }
            "page" => Arc::new(StringArray::from_iter_values(&pages)),
            "visitor" => Arc::new(StringArray::from_iter_values(&visitors)),
            "bytes" => Arc::new(Int64Array::from_iter_values((0..ROWS as i64).map(|n| n * 37 % 5_000))),
            _ => new_null_array(field.data_type(), ROWS),
        }
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
}

fn fold(c: &mut Criterion) {
    let catalog = Catalog::parse(SQL).unwrap_or_else(|d| panic!("{}", d[0]));
    for name in ["pages", "counts", "total"] {
        let view = View::compile(&catalog.views[name]).unwrap_or_else(|d| panic!("{d}"));
        let batch = events(&view);
        let prepared = view.prepare(&batch).unwrap();
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function("prepare", |b| b.iter(|| black_box(view.prepare(&batch).unwrap())));
        let mut aggregator = view.aggregator().unwrap();
        group.bench_function("fold", |b| b.iter(|| aggregator.fold(black_box(&prepared)).unwrap()));
        // What a micro-batch costs in the speed layer: fold it alone, and hand out its state.
        let mut small = view.aggregator().unwrap();
        group.bench_function("fold and emit", |b| {
            b.iter(|| {
                small.fold(&view.prepare(black_box(&batch)).unwrap()).unwrap();
                black_box(small.emit().unwrap())
            });
        });
        small.fold(&prepared).unwrap();
        let state = small.emit().unwrap();
        group.throughput(Throughput::Elements(state.num_rows() as u64));
        group.bench_function("merge two and emit", |b| {
            b.iter(|| {
                small.merge(black_box(&state)).unwrap();
                small.merge(black_box(&state)).unwrap();
                black_box(small.emit().unwrap())
            });
        });
        group.bench_function("finalise", |b| b.iter(|| black_box(view.finalise(&state).unwrap())));
        // The fixed cost of a micro-batch at light load: one event.
        let one = batch.slice(0, 1);
        group.throughput(Throughput::Elements(1));
        group.bench_function("one event, folded and emitted", |b| {
            b.iter(|| {
                small.fold(&view.prepare(black_box(&one)).unwrap()).unwrap();
                black_box(small.emit().unwrap())
            });
        });
        group.finish();
    }
}

criterion_group!(benches, fold);
criterion_main!(benches);
