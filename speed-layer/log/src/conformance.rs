//! The suite that every [`PartitionedLog`] passes: the embedded log, Kafka, and whatever comes later.
//!
//! Each check takes a factory that makes a fresh, empty topic of so many partitions, and panics with what was wrong.
//! [`all`] runs every check.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use futures::future::BoxFuture;

use anabranch_model::{ErrorKind, Offset, OffsetVector, PartitionId, RawBatch, RawRecord};

use crate::{MAX_RECORD_BYTES, PartitionedLog, ReadLimits, partition_of_key};

mod subscriptions;

pub use subscriptions::*;

/// Makes a fresh, empty topic with so many partitions.
pub type Factory<'f> = dyn Fn(u32) -> BoxFuture<'f, Arc<dyn PartitionedLog>> + Sync + 'f;

/// How long anything may take before the suite gives up, real brokers' rebalances included.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the whole suite.
pub async fn all(factory: &Factory<'_>) {
    an_empty_log_begins_and_ends_at_zero(factory).await;
    records_come_back_as_they_were(factory).await;
    keys_choose_their_partition_as_kafka_does(factory).await;
    reads_begin_anywhere_and_keep_to_their_limits(factory).await;
    a_waiting_read_wakes_on_append(factory).await;
    offsets_outside_the_log_are_refused(factory).await;
    offsets_are_found_by_time(factory).await;
    large_records_pass_and_oversized_ones_are_refused(factory).await;
    concurrent_appends_are_all_there_once(factory).await;
    a_subscription_delivers_from_where_it_is_started(factory).await;
    a_subscription_pauses_and_resumes(factory).await;
    a_subscription_refuses_what_it_cannot_deliver(factory).await;
    a_subscription_delivers_soon_and_fairly(factory).await;
    a_second_member_takes_over_without_overlap(factory).await;
}

/// Limits that no test reaches.
pub fn wide(wait: Duration) -> ReadLimits {
    ReadLimits {
        max_records: 1 << 20,
        max_bytes: 1 << 30,
        wait,
    }
}

/// A record with a payload only.
pub fn plain(payload: impl Into<Vec<u8>>) -> RawRecord {
    RawRecord {
        payload: Some(payload.into()),
        ..Default::default()
    }
}

/// A record that goes to the given partition: its key is chosen for it.
pub fn record_for(partition: PartitionId, partitions: u32, payload: impl Into<Vec<u8>>) -> RawRecord {
    let key = (0..)
        .map(|n: u32| format!("key-{n}").into_bytes())
        .find(|key| partition_of_key(key, partitions) == partition)
        .expect("some number hashes to every partition");
    RawRecord {
        key: Some(key),
        ..plain(payload)
    }
}

/// Reads one partition from `from` up to `to`, checking that the ranges meet.
pub async fn read_through(
    log: &dyn PartitionedLog,
    partition: PartitionId,
    from: Offset,
    to: Offset,
    limits: ReadLimits,
) -> Vec<RawBatch> {
    let mut batches = Vec::new();
    let mut next = from;
    let begun = Instant::now();
    while next < to {
        assert!(
            begun.elapsed() < PATIENCE,
            "partition {partition}: read up to {next} of {to} only"
        );
        let Some(batch) = log.read(partition, next, limits).await.expect("reading what is held") else {
            continue;
        };
        check_batch(&batch);
        assert_eq!(batch.range.start, next, "ranges meet");
        next = batch.range.end;
        batches.push(batch);
    }
    batches
}

fn check_batch(batch: &RawBatch) {
    let len = batch.len();
    assert_eq!(batch.payloads.len(), len);
    assert_eq!(batch.keys.len(), len);
    assert_eq!(batch.timestamps.len(), len);
    assert!(batch.headers.as_ref().is_none_or(|headers| headers.len() == len));
    assert_eq!(batch.offsets.null_count(), 0);
    let offsets = batch.offsets.values();
    assert!(offsets.windows(2).all(|pair| pair[0] < pair[1]), "offsets ascend");
    if let (Some(first), Some(last)) = (offsets.first(), offsets.last()) {
        assert!(
            batch.range.start.0 <= *first && *last < batch.range.end.0,
            "offsets lie inside the range"
        );
    }
}

fn payloads(batches: &[RawBatch]) -> Vec<Option<Vec<u8>>> {
    batches
        .iter()
        .flat_map(|batch| batch.payloads.iter().map(|value| value.map(<[u8]>::to_vec)))
        .collect()
}

fn text(batch: &RawBatch) -> Vec<String> {
    payloads(std::slice::from_ref(batch))
        .into_iter()
        .map(|payload| String::from_utf8(payload.expect("a payload")).expect("text"))
        .collect()
}

async fn append_all(log: &dyn PartitionedLog, records: Vec<RawRecord>) -> OffsetVector {
    log.append(records).await.expect("appending")
}

/// A fresh topic is there, is empty, and has an identity of its own.
pub async fn an_empty_log_begins_and_ends_at_zero(factory: &Factory<'_>) {
    let log = factory(3).await;
    let partitions: Vec<_> = (0..3).map(PartitionId).collect();
    assert_eq!(log.partitions().await.unwrap(), partitions);
    let zero: OffsetVector = partitions.iter().map(|p| (*p, Offset(0))).collect();
    assert_eq!(log.begins().await.unwrap(), zero);
    assert_eq!(log.ends().await.unwrap(), zero);
    assert_eq!(log.offsets_at(0).await.unwrap(), zero);
    assert_eq!(append_all(&*log, Vec::new()).await, OffsetVector::new());
    assert!(
        log.read(PartitionId(1), Offset(0), wide(Duration::from_millis(50)))
            .await
            .unwrap()
            .is_none()
    );
    let identity = log.identity().await.unwrap();
    assert!(!identity.is_empty());
    assert_eq!(log.identity().await.unwrap(), identity, "the identity stays");
    let other = factory(1).await;
    assert_ne!(
        other.identity().await.unwrap(),
        identity,
        "another topic is another log"
    );
    assert_ne!(other.topic(), log.topic());
}

/// Keys, payloads, headers, timestamps, nulls and order survive.
pub async fn records_come_back_as_they_were(factory: &Factory<'_>) {
    let log = factory(1).await;
    let records = vec![
        RawRecord {
            key: Some(b"key".to_vec()),
            payload: Some(b"{\"a\":1}".to_vec()),
            headers: vec![("trace".into(), b"17".to_vec()), ("empty".into(), Vec::new())],
            timestamp_ms: Some(1_700_000_000_123),
        },
        RawRecord {
            key: Some(Vec::new()),
            payload: Some(Vec::new()),
            timestamp_ms: Some(1_700_000_000_001),
            ..Default::default()
        },
        RawRecord {
            key: Some(b"tombstone".to_vec()),
            payload: None,
            ..Default::default()
        },
        plain([0xff, 0x00, 0xfe]),
    ];
    let next = append_all(&*log, records).await;
    assert_eq!(next.get(PartitionId(0)), Some(Offset(4)));
    assert_eq!(log.ends().await.unwrap(), next);

    let batches = read_through(&*log, PartitionId(0), Offset(0), Offset(4), wide(PATIENCE)).await;
    assert_eq!(
        payloads(&batches),
        [
            Some(b"{\"a\":1}".to_vec()),
            Some(Vec::new()),
            None,
            Some(vec![0xff, 0x00, 0xfe])
        ]
    );
    let keys: Vec<_> = batches
        .iter()
        .flat_map(|batch| batch.keys.iter().map(|key| key.map(<[u8]>::to_vec)))
        .collect();
    assert_eq!(
        keys,
        [
            Some(b"key".to_vec()),
            Some(Vec::new()),
            Some(b"tombstone".to_vec()),
            None
        ]
    );
    let stamps: Vec<_> = batches.iter().flat_map(|batch| batch.timestamps.iter()).collect();
    assert_eq!(
        stamps[..2],
        [Some(1_700_000_000_123_000), Some(1_700_000_000_001_000)],
        "microseconds"
    );
    assert!(
        stamps[2..]
            .iter()
            .all(|stamp| stamp.is_some_and(|us| us > 1_700_000_000_000_000)),
        "the log stamps the others"
    );
    let headers = batches[0].headers.as_ref().expect("headers").as_map().value(0);
    assert_eq!(
        headers
            .column(0)
            .as_string::<i32>()
            .iter()
            .flatten()
            .collect::<Vec<_>>(),
        ["trace", "empty"]
    );
    assert_eq!(
        headers
            .column(1)
            .as_binary::<i32>()
            .iter()
            .flatten()
            .collect::<Vec<_>>(),
        [b"17".as_slice(), b""]
    );
}

/// `murmur2(key) % partitions`; records of one partition keep their order.
pub async fn keys_choose_their_partition_as_kafka_does(factory: &Factory<'_>) {
    let log = factory(4).await;
    let keys: Vec<_> = (0..200).map(|n| format!("user-{n}")).collect();
    let records = keys
        .iter()
        .map(|key| RawRecord {
            key: Some(key.clone().into()),
            ..plain(key.as_str())
        })
        .collect();
    let next = append_all(&*log, records).await;
    for partition in (0..4).map(PartitionId) {
        let expected: Vec<_> = keys
            .iter()
            .filter(|key| partition_of_key(key.as_bytes(), 4) == partition)
            .cloned()
            .collect();
        let end = next.get(partition).expect("200 keys reach each of 4 partitions");
        assert_eq!(end.0, expected.len() as i64);
        let batches = read_through(&*log, partition, Offset(0), end, wide(PATIENCE)).await;
        assert_eq!(batches.iter().flat_map(text).collect::<Vec<_>>(), expected);
    }
}

/// From every offset, with small limits and wide ones.
pub async fn reads_begin_anywhere_and_keep_to_their_limits(factory: &Factory<'_>) {
    let log = factory(1).await;
    let mut written = 0;
    for size in [1, 40, 2, 7] {
        let records = (written..written + size)
            .map(|n| plain(format!("record {n:03}")))
            .collect();
        append_all(&*log, records).await;
        written += size;
    }
    let end = Offset(written);
    for from in 0..written {
        let small = ReadLimits {
            max_records: 9,
            max_bytes: 55,
            wait: PATIENCE,
        };
        let batch = log
            .read(PartitionId(0), Offset(from), small)
            .await
            .unwrap()
            .expect("a batch");
        check_batch(&batch);
        assert_eq!(batch.range.start, Offset(from));
        assert!(
            batch.len() <= 5,
            "55 bytes hold five records of ten bytes, not {}",
            batch.len()
        );
        assert_eq!(text(&batch)[0], format!("record {from:03}"));
    }
    let limits = ReadLimits {
        max_records: 9,
        max_bytes: 1 << 20,
        wait: PATIENCE,
    };
    let batches = read_through(&*log, PartitionId(0), Offset(0), end, limits).await;
    assert!(batches.iter().all(|batch| batch.len() <= 9));
    let expected: Vec<_> = (0..written).map(|n| format!("record {n:03}")).collect();
    assert_eq!(batches.iter().flat_map(text).collect::<Vec<_>>(), expected);
    let tiny = ReadLimits {
        max_records: 1,
        max_bytes: 1,
        wait: PATIENCE,
    };
    let one = log
        .read(PartitionId(0), Offset(3), tiny)
        .await
        .unwrap()
        .expect("a batch");
    assert_eq!(text(&one), ["record 003"], "one record always comes");
}

/// A read that waits at the end returns as soon as something is appended.
pub async fn a_waiting_read_wakes_on_append(factory: &Factory<'_>) {
    let log = factory(1).await;
    append_all(&*log, vec![plain("first")]).await;
    let reader = {
        let log = log.clone();
        tokio::spawn(async move { log.read(PartitionId(0), Offset(1), wide(PATIENCE)).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    append_all(&*log, vec![plain("second")]).await;
    let acknowledged = Instant::now();
    let batch = reader.await.unwrap().unwrap().expect("a batch");
    assert_eq!(text(&batch), ["second"]);
    // Long before its own time was up, on however slow a machine.
    let late = acknowledged.elapsed();
    assert!(late < PATIENCE / 2, "the reader woke {late:?} after the append");
}

/// Neither silently skipped nor silently waited for.
pub async fn offsets_outside_the_log_are_refused(factory: &Factory<'_>) {
    let log = factory(1).await;
    append_all(&*log, vec![plain("only")]).await;
    let beyond = log.read(PartitionId(0), Offset(2), wide(Duration::from_secs(20))).await;
    let error = beyond.expect_err("an offset beyond the end");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let absent = log.read(PartitionId(7), Offset(0), wide(Duration::from_secs(20))).await;
    let error = absent.expect_err("a partition that is not there");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

/// The first record at or after a time, whatever the order of timestamps.
pub async fn offsets_are_found_by_time(factory: &Factory<'_>) {
    let log = factory(1).await;
    let base = 1_700_000_000_000;
    let stamps = [10, 20, 15, 30, 30, 5, 40];
    for chunk in stamps.chunks(2) {
        let records = chunk
            .iter()
            .map(|ms| RawRecord {
                timestamp_ms: Some(base + ms),
                ..plain(ms.to_string())
            })
            .collect();
        append_all(&*log, records).await;
    }
    for wanted in 0..45 {
        let expected = stamps.iter().position(|ms| *ms >= wanted).unwrap_or(stamps.len());
        let found = log.offsets_at(base + wanted).await.unwrap();
        assert_eq!(found.get(PartitionId(0)), Some(Offset(expected as i64)), "at {wanted}");
    }
}

/// Lines of 1 MB are ordinary; what no log takes is refused before anything is written.
pub async fn large_records_pass_and_oversized_ones_are_refused(factory: &Factory<'_>) {
    let log = factory(1).await;
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    append_all(&*log, vec![plain("small"), plain(large.clone()), plain("small")]).await;
    let limits = ReadLimits {
        max_records: 100,
        max_bytes: 10_000,
        wait: PATIENCE,
    };
    let batches = read_through(&*log, PartitionId(0), Offset(0), Offset(3), limits).await;
    assert_eq!(
        payloads(&batches),
        [Some(b"small".to_vec()), Some(large), Some(b"small".to_vec())]
    );
    let oversized = log
        .append(vec![plain("before"), plain(vec![b'x'; MAX_RECORD_BYTES + 1])])
        .await;
    assert_eq!(oversized.expect_err("an oversized record").kind(), ErrorKind::Invalid);
    assert_eq!(
        log.ends().await.unwrap().get(PartitionId(0)),
        Some(Offset(3)),
        "nothing was written"
    );
}

/// Many callers at once: dense offsets, each record once, each caller's records in order.
pub async fn concurrent_appends_are_all_there_once(factory: &Factory<'_>) {
    const CALLERS: usize = 16;
    const EACH: usize = 25;
    let log = factory(2).await;
    let callers = (0..CALLERS).map(|caller| {
        let log = log.clone();
        tokio::spawn(async move {
            for n in 0..EACH {
                let record = RawRecord {
                    key: Some(format!("{caller}").into()),
                    ..plain(format!("{caller}:{n}"))
                };
                let partition = partition_of_key(record.key.as_deref().unwrap(), 2);
                let next = append_all(&*log, vec![record])
                    .await
                    .get(partition)
                    .expect("its partition");
                assert!(
                    log.ends().await.unwrap().get(partition) >= Some(next),
                    "what is acknowledged is visible"
                );
            }
        })
    });
    futures::future::try_join_all(callers).await.unwrap();
    let mut seen: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (partition, end) in log.ends().await.unwrap().iter() {
        for batch in read_through(&*log, partition, Offset(0), end, wide(PATIENCE)).await {
            for line in text(&batch) {
                let (caller, n) = line.split_once(':').expect("caller:number");
                seen.entry(caller.into())
                    .or_default()
                    .push(n.parse().expect("a number"));
            }
        }
    }
    assert_eq!(seen.len(), CALLERS);
    for (caller, numbers) in seen {
        assert_eq!(numbers, (0..EACH).collect::<Vec<_>>(), "caller {caller}");
    }
}
