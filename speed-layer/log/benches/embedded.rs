//! Throughput of the embedded log, fsync included: appends of 10,000 records of 113 bytes by 1 and by 8 callers, one small
//! append at a time, and reading in micro-batches of 32,768 records.

use std::hint::black_box;
use std::time::Duration;

use anabranch_log::{IngestLog, ReadLimits, Retention};
use anabranch_model::{Offset, PartitionId, RawRecord};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const RECORDS: usize = 10_000;
const RECORD_BYTES: usize = 113;

fn record(n: usize) -> RawRecord {
    let line = format!(
        r#"{{"time":"2015-09-12T00:46:58.771Z","url":"/product/{:05}","user":{:07},"session":"{:08x}","ms":{:04}}}"#,
        n % 10_007,
        n,
        n.wrapping_mul(2_654_435_761) as u32,
        n % 9_973
    );
    let mut payload = line.into_bytes();
    payload.resize(RECORD_BYTES, b' ');
    RawRecord {
        payload: Some(payload),
        ..Default::default()
    }
}

fn embedded(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let log = IngestLog::open(dir.path()).expect("a log");
    let retention = Retention {
        bytes: Some(256 << 20),
        age: None,
    };
    let topic = log.topic("bench", 1, retention).expect("a topic");
    let records: Vec<RawRecord> = (0..RECORDS).map(record).collect();

    let mut group = c.benchmark_group("embedded");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    for callers in [1, 8] {
        group.throughput(Throughput::Elements((callers * RECORDS) as u64));
        group.bench_function(format!("append/{callers}x{RECORDS}"), |b| {
            b.iter_batched(
                || vec![records.clone(); callers],
                |batches| {
                    runtime.block_on(async {
                        let appends = batches.into_iter().map(|batch| {
                            let topic = topic.clone();
                            tokio::spawn(async move { topic.append(batch).await })
                        });
                        for done in futures::future::join_all(appends).await {
                            done.expect("the task ran").expect("appended");
                        }
                    });
                },
                criterion::BatchSize::PerIteration,
            );
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("append/1x1", |b| {
        b.iter(|| runtime.block_on(topic.append(vec![record(1)])).expect("appended"));
    });

    let topic = log.topic("read", 1, Retention::default()).expect("a topic");
    const HELD: usize = 1_000_000;
    for _ in 0..HELD / RECORDS {
        runtime.block_on(topic.append(records.clone())).expect("appended");
    }
    group.throughput(Throughput::Elements(HELD as u64));
    group.bench_function("read/1M", |b| {
        let limits = ReadLimits {
            max_records: 32_768,
            max_bytes: 8 << 20,
            wait: Duration::from_secs(1),
        };
        b.iter(|| {
            runtime.block_on(async {
                let mut next = Offset(0);
                while next.0 < HELD as i64 {
                    let batch = topic
                        .read(PartitionId(0), next, limits)
                        .await
                        .expect("read")
                        .expect("a batch");
                    next = black_box(&batch).range.end;
                }
            });
        });
    });
    group.finish();
}

criterion_group!(benches, embedded);
criterion_main!(benches);
