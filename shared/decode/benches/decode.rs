//! JSON decode of 113-byte click events, against arrow-json: `cargo bench -p anabranch-decode`.
//!
//! Throughput is in payload bytes per second; every benchmark decodes the same [`EVENTS`] events, so that events/s is
//! `EVENTS` divided by the time shown.

use std::hint::black_box;
use std::sync::Arc;

use anabranch_catalog::{Catalog, Source};
use anabranch_decode::Decoder;
use anabranch_model::{Offset, OffsetRange, PartitionId, RawBatch, RawBatchBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Events per micro-batch, the default of the spouts.
const EVENTS: usize = 32_768;

fn clicks() -> Arc<Source> {
    let sql = "CREATE TABLE clicks (ts TIMESTAMP NOT NULL, \"user\" TEXT, page TEXT, session TEXT, duration_ms BIGINT, bytes BIGINT)
        WITH (event_time = 'ts')";
    Arc::clone(&Catalog::parse(sql).expect("valid").sources["clicks"])
}

/// Payloads made by `click` from a number and a time.
fn payloads(click: impl Fn(usize, &str) -> String) -> Vec<String> {
    (0..EVENTS)
        .map(|n| {
            let ms = n % 1000;
            let (second, minute) = (n / 1000 % 60, n / 7 % 60);
            let ts = format!("2026-01-01T00:{minute:02}:{second:02}.{ms:03}Z");
            click(n, &ts)
        })
        .collect()
}

/// A web-shop click of 113 bytes.
fn click(n: usize, ts: &str) -> String {
    let (user, page, session) = (n * 7919 % 90_000 + 10_000, n * 31 % 900 + 100, n % 90 + 10);
    let (duration, bytes) = (n * 13 % 900 + 100, n * 17 % 9_000 + 1_000);
    format!(
        r#"{{"ts":"{ts}","user":"u{user}","page":"/p/{page}","session":"s-{session}","duration_ms":{duration},"bytes":{bytes}}}"#
    )
}

/// The same with a space after every `:` and `,`, as Python's json module writes it.
fn spaced(n: usize, ts: &str) -> String {
    click(n, ts).replace("\":", "\": ").replace(",\"", ", \"")
}

/// The same with four undeclared fields, one of them an object, and every third event without a session.
fn undeclared(n: usize, ts: &str) -> String {
    let mut text = click(n, ts);
    text.pop();
    let text = if n.is_multiple_of(3) {
        text.replace(&format!("\"session\":\"s-{}\",", n % 90 + 10), "")
    } else {
        text
    };
    format!(
        r#"{text},"agent":"Mozilla/5.0 (X11; Linux x86_64)","ab":{{"test":"blue","group":{}}},"ok":true,"score":{}.5}}"#,
        n % 8,
        n % 100
    )
}

/// What arrow-json reads the columns as. It knows UTC only as an offset.
fn arrow_json_schema(source: &Source) -> SchemaRef {
    let fields = source
        .declared_schema()
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Timestamp(unit, _) => {
                Field::new(field.name(), DataType::Timestamp(*unit, Some("+00:00".into())), true)
            }
            _ => field.as_ref().clone(),
        })
        .collect::<Vec<_>>();
    Arc::new(Schema::new(fields))
}

fn raw(payloads: &[String]) -> RawBatch {
    let mut builder = RawBatchBuilder::new();
    for (offset, payload) in (0..).zip(payloads) {
        builder.push(offset, Some(offset), None, Some(payload.as_bytes()), []);
    }
    let end = i64::try_from(payloads.len()).expect("small");
    builder.finish(PartitionId(0), OffsetRange::new(Offset(0), Offset(end)))
}

fn decode(criterion: &mut Criterion) {
    let source = clicks();
    let mut group = criterion.benchmark_group("decode");
    for (name, payloads) in [
        ("clicks", payloads(click)),
        ("spaced", payloads(spaced)),
        ("undeclared", payloads(undeclared)),
    ] {
        let batch = raw(&payloads);
        let lines = payloads.join("\n");
        group.throughput(Throughput::Bytes(batch.payload_bytes() as u64));
        group.bench_function(format!("anabranch/{name}"), |bencher| {
            let mut decoder = Decoder::new(&source);
            bencher.iter(|| {
                let decoded = decoder.decode(black_box(&batch));
                assert_eq!(decoded.events.num_rows(), EVENTS);
                decoded
            });
        });
        group.bench_function(format!("arrow-json/{name}"), |bencher| {
            let mut decoder = ReaderBuilder::new(arrow_json_schema(&source))
                .with_batch_size(EVENTS)
                .build_decoder()
                .expect("a supported schema");
            bencher.iter(|| {
                decoder.decode(black_box(lines.as_bytes())).expect("valid");
                let batch = decoder.flush().expect("valid").expect("not empty");
                assert_eq!(batch.num_rows(), EVENTS);
                batch
            });
        });
    }
    group.finish();
}

fn check(criterion: &mut Criterion) {
    let payloads = payloads(click);
    let mut decoder = Decoder::new(&clicks());
    let mut group = criterion.benchmark_group("check");
    group.throughput(Throughput::Bytes(
        payloads.iter().map(|payload| payload.len() as u64).sum(),
    ));
    group.bench_function("clicks", |bencher| {
        bencher.iter(|| {
            payloads
                .iter()
                .filter(|payload| decoder.check(payload.as_bytes()).is_ok())
                .count()
        });
    });
    group.finish();
}

criterion_group!(benches, decode, check);
criterion_main!(benches);
