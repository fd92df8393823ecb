//! Throughput of the Kafka log against a real broker on this machine, where one can run: appends of 10,000 records of 113
//! bytes, and a subscription that reads a million of them in micro-batches.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use anabranch_log::{KafkaLog, LogEvent, PartitionedLog, ReadLimits};
use anabranch_model::{Offset, PartitionId, RawRecord};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const RECORDS: usize = 10_000;
const HELD: usize = 1_000_000;

fn kafka(c: &mut Criterion) {
    let Some(server) = anabranch_testkit::servers::kafka() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let properties = BTreeMap::from([("bootstrap.servers".to_string(), server.bootstrap())]);
    let connect = |topic| {
        runtime
            .block_on(KafkaLog::connect(&properties, topic, Some(1)))
            .expect("connects")
    };
    let line = format!(
        r#"{{"time":"2015-09-12T00:46:58.771Z","url":"/product/00017","user":4711,"ms":{}}}"#,
        "1".repeat(40)
    );
    let record = RawRecord {
        payload: Some(line.into_bytes()),
        ..Default::default()
    };
    let records = vec![record; RECORDS];

    let mut group = c.benchmark_group("kafka");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    let log = connect("append");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function(format!("append/1x{RECORDS}"), |b| {
        b.iter_batched(
            || records.clone(),
            |batch| runtime.block_on(log.append(batch)).expect("appended"),
            criterion::BatchSize::PerIteration,
        );
    });

    let log = connect("read");
    for _ in 0..HELD / RECORDS {
        runtime.block_on(log.append(records.clone())).expect("appended");
    }
    let mut subscription = runtime.block_on(log.subscribe("bench")).expect("subscribes");
    let limits = ReadLimits {
        max_records: 32_768,
        max_bytes: 8 << 20,
        wait: Duration::from_millis(100),
    };
    while !matches!(subscription.poll(limits).expect("polls"), Some(LogEvent::Assigned(_))) {}
    group.throughput(Throughput::Elements(HELD as u64));
    group.bench_function("subscription/1M", |b| {
        b.iter(|| {
            subscription.start(PartitionId(0), Offset(0)).expect("starts");
            let mut next = Offset(0);
            while next.0 < HELD as i64 {
                if let Some(LogEvent::Batch(batch)) = subscription.poll(limits).expect("polls") {
                    next = black_box(&batch).range.end;
                }
            }
        });
    });
    group.finish();
}

criterion_group!(benches, kafka);
criterion_main!(benches);
