use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use anabranch_model::ErrorKind;
use futures::FutureExt;
use tempfile::TempDir;

use super::*;
use crate::conformance::{self, plain, read_through, record_for, wide};

const PATIENCE: Duration = Duration::from_secs(120);

fn open(dir: &TempDir) -> IngestLog {
    IngestLog::open(dir.path()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_log_conforms() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let number = AtomicU32::new(0);
    conformance::all(&|partitions| {
        let name = format!("topic-{}", number.fetch_add(1, Ordering::Relaxed));
        let topic = log.topic(&name, partitions, Retention::default()).unwrap();
        async move { topic }.boxed()
    })
    .await;
}

#[tokio::test]
async fn everything_is_there_after_opening_again() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let topic = log.topic("clicks", 2, Retention::default()).unwrap();
    let identity = topic.identity().await.unwrap();
    for n in 0..50 {
        topic
            .append(vec![record_for(PartitionId(n % 2), 2, format!("{n}"))])
            .await
            .unwrap();
    }
    let (begins, ends) = (topic.begins().await.unwrap(), topic.ends().await.unwrap());
    drop((topic, log));

    let log = open(&dir);
    assert_eq!(log.topics(), ["clicks"]);
    let topic = log.topic("clicks", 2, Retention::default()).unwrap();
    assert_eq!(topic.identity().await.unwrap(), identity);
    assert_eq!(topic.begins().await.unwrap(), begins);
    assert_eq!(topic.ends().await.unwrap(), ends);
    let batches = read_through(&*topic, PartitionId(1), Offset(0), Offset(25), wide(PATIENCE)).await;
    assert_eq!(batches.len(), 1, "small blocks come together");
    assert_eq!(batches[0].payloads.value(24), b"49");
    let next = topic.append(vec![record_for(PartitionId(1), 2, "more")]).await.unwrap();
    assert_eq!(next.get(PartitionId(1)), Some(Offset(26)));
}

#[tokio::test]
async fn partitions_grow_and_never_shrink() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let topic = log.topic("clicks", 1, Retention::default()).unwrap();
    let mut subscription = topic.subscribe("g").await.unwrap();
    let assigned = |event| match event {
        Some(crate::LogEvent::Assigned(partitions)) => partitions,
        other => panic!("{other:?}"),
    };
    assert_eq!(assigned(subscription.poll(wide(PATIENCE)).unwrap()), [PartitionId(0)]);
    let error = log.topic("clicks", 0, Retention::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    log.topic("clicks", 3, Retention::default()).unwrap();
    assert_eq!(
        assigned(subscription.poll(wide(PATIENCE)).unwrap()),
        [PartitionId(1), PartitionId(2)]
    );
    let error = log.topic("clicks", 2, Retention::default()).err().unwrap();
    assert!(
        matches!(error, Error::PartitionsShrink { have: 3, wanted: 2, .. }),
        "{error}"
    );
    drop((topic, subscription, log));
    assert_eq!(
        open(&dir)
            .topic("clicks", 3, Retention::default())
            .unwrap()
            .partitions()
            .await
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn a_large_append_becomes_blocks_that_share_their_memory() {
    let dir = TempDir::new().unwrap();
    let topic = open(&dir).topic("clicks", 1, Retention::default()).unwrap();
    let records: Vec<_> = (0..100_000)
        .map(|n| plain(format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(60))))
        .collect();
    topic.append(records).await.unwrap();
    let limits = ReadLimits {
        max_records: 32_768,
        max_bytes: 8 << 20,
        wait: PATIENCE,
    };
    let batches = read_through(&*topic, PartitionId(0), Offset(0), Offset(100_000), limits).await;
    assert_eq!(batches.iter().map(RawBatch::len).sum::<usize>(), 100_000);
    assert!(batches.len() <= 4, "{} batches", batches.len());
    let again = topic.read(PartitionId(0), Offset(10), limits).await.unwrap().unwrap();
    assert_eq!(
        again.payloads.value(0).as_ptr(),
        batches[0].payloads.value(10).as_ptr(),
        "two reads of a block in memory give the same bytes, not copies"
    );
}

fn with_clock(dir: &TempDir, now: &Arc<AtomicI64>) -> IngestLog {
    let now = now.clone();
    let options = Options {
        clock: Arc::new(move || now.load(Ordering::SeqCst)),
        retention_check: Duration::from_millis(10),
        ..Options::default()
    };
    IngestLog::open_with(dir.path(), options).unwrap()
}

async fn begins_at(topic: &dyn PartitionedLog, expected: i64) {
    let begun = Instant::now();
    loop {
        let begin = topic.begins().await.unwrap().get(PartitionId(0)).unwrap();
        if begin == Offset(expected) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "begins at {begin}, not at {expected}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

use std::time::Instant;

#[tokio::test]
async fn retention_by_age_deletes_from_the_head_and_spares_the_last_block() {
    let dir = TempDir::new().unwrap();
    let now = Arc::new(AtomicI64::new(1_000_000));
    let log = with_clock(&dir, &now);
    let retention = Retention {
        bytes: None,
        age: Some(Duration::from_secs(60)),
    };
    let topic = log.topic("clicks", 1, retention).unwrap();
    for _ in 0..3 {
        topic.append(vec![plain("a"), plain("b")]).await.unwrap();
        now.fetch_add(30_000, Ordering::SeqCst);
    }
    // Blocks of 1_000, 1_030 and 1_060 s; it is 1_090 s.
    begins_at(&*topic, 2).await;
    now.fetch_add(1_000_000, Ordering::SeqCst);
    begins_at(&*topic, 4).await;
    assert_eq!(topic.ends().await.unwrap().get(PartitionId(0)), Some(Offset(6)));
    let error = topic.read(PartitionId(0), Offset(3), wide(PATIENCE)).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::OutOfRange {
                wanted: Offset(3),
                first: Offset(4),
                ..
            }
        ),
        "{error}"
    );
    let mut subscription = topic.subscribe("late").await.unwrap();
    subscription.poll(wide(PATIENCE)).unwrap();
    assert!(subscription.start(PartitionId(0), Offset(0)).is_err());
    assert_eq!(topic.offsets_at(0).await.unwrap().get(PartitionId(0)), Some(Offset(4)));
    drop((subscription, topic, log));

    let topic = with_clock(&dir, &now).topic("clicks", 1, retention).unwrap();
    assert_eq!(topic.begins().await.unwrap().get(PartitionId(0)), Some(Offset(4)));
    assert_eq!(topic.ends().await.unwrap().get(PartitionId(0)), Some(Offset(6)));
}

#[tokio::test]
async fn retention_by_size_keeps_to_its_limit() {
    let dir = TempDir::new().unwrap();
    let now = Arc::new(AtomicI64::new(0));
    let log = with_clock(&dir, &now);
    let topic = log
        .topic(
            "clicks",
            1,
            Retention {
                bytes: Some(500_000),
                age: None,
            },
        )
        .unwrap();
    for _ in 0..20 {
        topic.append(vec![plain(vec![b'x'; 100_000])]).await.unwrap();
    }
    // Four blocks of 100,032 bytes each stay below the limit.
    begins_at(&*topic, 16).await;
    let batches = read_through(&*topic, PartitionId(0), Offset(16), Offset(20), wide(PATIENCE)).await;
    assert_eq!(batches.iter().map(RawBatch::len).sum::<usize>(), 4);
}

#[tokio::test]
async fn search_by_time_is_right_after_the_highest_timestamp_has_been_deleted() {
    let dir = TempDir::new().unwrap();
    let now = Arc::new(AtomicI64::new(0));
    let log = with_clock(&dir, &now);
    let topic = log.topic("clicks", 1, Retention::default()).unwrap();
    for stamp in [900, 100, 200, 300] {
        topic
            .append(vec![RawRecord {
                timestamp_ms: Some(stamp),
                ..plain(vec![b'x'; 1_000])
            }])
            .await
            .unwrap();
    }
    log.topic(
        "clicks",
        1,
        Retention {
            bytes: Some(3_200),
            age: None,
        },
    )
    .unwrap();
    begins_at(&*topic, 1).await;
    for (wanted, expected) in [(0, 1), (100, 1), (150, 2), (300, 3), (301, 4), (900, 4)] {
        let found = topic.offsets_at(wanted).await.unwrap();
        assert_eq!(found.get(PartitionId(0)), Some(Offset(expected)), "at {wanted}");
    }
}

#[tokio::test]
async fn a_newer_member_of_a_group_takes_all_partitions() {
    let dir = TempDir::new().unwrap();
    let topic = open(&dir).topic("clicks", 2, Retention::default()).unwrap();
    let mut old = topic.subscribe("speed").await.unwrap();
    old.poll(wide(PATIENCE)).unwrap();
    let _other_group = topic.subscribe("other").await.unwrap();
    assert!(old.poll(wide(Duration::ZERO)).unwrap().is_none());
    let _new = topic.subscribe("speed").await.unwrap();
    match old.poll(wide(PATIENCE)).unwrap() {
        Some(crate::LogEvent::Revoked { partitions, lost: true }) => assert_eq!(partitions.len(), 2),
        other => panic!("{other:?}"),
    }
    topic.append(vec![plain("x")]).await.unwrap();
    assert!(old.poll(wide(Duration::ZERO)).unwrap().is_none());
    assert!(old.start(PartitionId(0), Offset(0)).is_err());
}

/// What the child processes of the tests below do; chosen by environment variables, and an ordinary pass without them.
#[test]
fn child_process() {
    let Ok(dir) = std::env::var("ANABRANCH_LOG_TEST_CHILD") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let log = match IngestLog::open(&dir) {
        Ok(log) => log,
        Err(error) => {
            println!("refused {:?} {error}", error.kind());
            return;
        }
    };
    let topic = log.topic("clicks", 3, Retention::default()).unwrap();
    println!("open");
    runtime.block_on(async {
        let callers = (0..4).map(|caller| {
            let topic = topic.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let key = format!("{caller}-{}", n % 7);
                    let record = RawRecord {
                        key: Some(key.into()),
                        ..plain(format!("{caller}:{n}:{}", "x".repeat(n % 500)))
                    };
                    let next = topic.append(vec![record]).await.unwrap();
                    let (partition, next) = next.iter().next().unwrap();
                    // One write, so that lines of several callers do not mix; it is the acknowledgement under test.
                    println!("ack {caller}:{n} {partition} {next}");
                }
            })
        });
        futures::future::join_all(callers).await;
    });
}

fn spawn_child(dir: &TempDir) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "embedded::tests::child_process",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("ANABRANCH_LOG_TEST_CHILD", dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = TempDir::new().unwrap();
    let mut acknowledged: BTreeMap<(i32, i64), String> = BTreeMap::new();
    for round in 1..=3 {
        let mut child = spawn_child(&dir);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while seen < 300 {
            let line = lines.next().expect("the child ended early").unwrap();
            if note(&line, round, &mut acknowledged) {
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had acknowledged before it died, but we had not read yet, counts too. The last line may be cut.
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        for line in &rest[..rest.len().saturating_sub(1)] {
            note(line, round, &mut acknowledged);
        }
    }
    assert!(acknowledged.len() >= 900);
    let topic = open(&dir).topic("clicks", 3, Retention::default()).unwrap();
    let ends = topic.ends().await.unwrap();
    let mut found = BTreeMap::new();
    for (partition, end) in ends.iter() {
        for batch in read_through(&*topic, partition, Offset(0), end, wide(PATIENCE)).await {
            for (offset, payload) in batch.offsets.values().iter().zip(batch.payloads.iter()) {
                let payload = std::str::from_utf8(payload.unwrap()).unwrap();
                let name = payload.rsplit_once(':').unwrap().0.to_string();
                assert!(found.insert((partition.0, *offset), name).is_none());
            }
        }
    }
    for (place, name) in &acknowledged {
        assert_eq!(
            found.get(place),
            Some(&name.split_once('/').unwrap().1.to_string()),
            "acknowledged at {place:?}"
        );
    }
}

/// Notes an acknowledgement line of the child; returns whether it was one.
fn note(line: &str, round: u32, acknowledged: &mut BTreeMap<(i32, i64), String>) -> bool {
    let Some(ack) = line.strip_prefix("ack ") else {
        return false;
    };
    let [name, partition, next] = ack.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{line}")
    };
    let place = (partition.parse().unwrap(), next.parse::<i64>().unwrap() - 1);
    let before = acknowledged.insert(place, format!("{round}/{name}"));
    assert_eq!(before, None, "two acknowledgements of {place:?}");
    true
}

#[test]
fn a_second_process_is_refused_and_told_by_whom() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let mut child = spawn_child(&dir);
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    child.wait().unwrap();
    let refusal = output
        .lines()
        .find(|line| line.contains("refused"))
        .unwrap_or_else(|| panic!("{output}"));
    assert!(refusal.contains("Conflict"), "{refusal}");
    assert!(
        refusal.contains(&format!("process {}", std::process::id())),
        "{refusal}"
    );
    assert!(
        refusal.contains(&dir.path().display().to_string()) && refusal.contains("--url"),
        "{refusal}"
    );
    let again = IngestLog::open(dir.path()).err().unwrap();
    assert!(again.to_string().contains("this process"), "{again}");
    drop(log);
    open(&dir);
}

/// Deleted blocks give their disk space back: the store keeps a bounded multiple of what retention holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_gives_disk_space_back() {
    let dir = TempDir::new().unwrap();
    let now = Arc::new(AtomicI64::new(0));
    let log = with_clock(&dir, &now);
    let retention = Retention {
        bytes: Some(8 << 20),
        age: None,
    };
    let topic = log.topic("clicks", 1, retention).unwrap();
    // Bytes that do not compress, so that what is on disk is what was written.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = move || {
        let mut bytes = vec![0; 64 << 10];
        for chunk in bytes.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        bytes
    };
    let mut highest = 0;
    for _ in 0..64 {
        topic.append((0..128).map(|_| plain(noise())).collect()).await.unwrap();
        highest = highest.max(log.disk_bytes().unwrap());
    }
    assert!(
        highest < 360 << 20,
        "{} MiB on disk of {} MiB written",
        highest >> 20,
        64 * 8
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    /// Whatever is appended, however it is read, and however often the log is opened again: what comes out went in.
    #[test]
    fn the_log_equals_a_vector(
        appends in proptest::collection::vec((1_usize..60, 0_usize..300, proptest::bool::weighted(0.1)), 1..25),
        reads in proptest::collection::vec((0_usize..2_000, 1_usize..100, 1_usize..5_000), 20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = TempDir::new().unwrap();
        let mut log = Some(open(&dir));
        let mut model: Vec<Vec<u8>> = Vec::new();
        let mut topic = log.as_ref().unwrap().topic("t", 1, Retention::default()).unwrap();
        for (count, bytes, reopen) in appends {
            let first = model.len();
            model.extend((first..first + count).map(|n| format!("{n}:{}", "x".repeat(bytes)).into_bytes()));
            let records = model[first..].iter().map(|payload| plain(payload.clone())).collect();
            let next = runtime.block_on(topic.append(records)).unwrap();
            proptest::prop_assert_eq!(next.get(PartitionId(0)), Some(Offset(model.len() as i64)));
            if reopen {
                drop((topic, log.take()));
                log = Some(open(&dir));
                topic = log.as_ref().unwrap().topic("t", 1, Retention::default()).unwrap();
            }
        }
        for (from, max_records, max_bytes) in reads {
            let from = from % model.len();
            let limits = ReadLimits { max_records, max_bytes, wait: PATIENCE };
            let batch = runtime.block_on(topic.read(PartitionId(0), Offset(from as i64), limits)).unwrap().unwrap();
            proptest::prop_assert_eq!(batch.range.start, Offset(from as i64));
            proptest::prop_assert_eq!(batch.range.len() as usize, batch.len());
            proptest::prop_assert!(batch.len() <= max_records);
            proptest::prop_assert!(batch.len() == 1 || batch.payload_bytes() <= max_bytes);
            let expected = model[from..from + batch.len()].iter().map(|payload| Some(payload.as_slice()));
            proptest::prop_assert!(batch.payloads.iter().eq(expected));
        }
    }
}

/// A disk whose free space the test decides.
fn on_a_small_disk(dir: &TempDir) -> (IngestLog, Arc<AtomicI64>) {
    let free = Arc::new(AtomicI64::new(10_000_000));
    let told = free.clone();
    let options = Options {
        disk: Arc::new(move |_| {
            Some(DiskSpace {
                free_bytes: told.load(Ordering::SeqCst) as u64,
                total_bytes: 20_000_000,
            })
        }),
        ..Options::default()
    };
    (IngestLog::open_with(dir.path(), options).unwrap(), free)
}

#[tokio::test]
async fn a_full_disk_refuses_appends_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let (log, free) = on_a_small_disk(&dir);
    let topic = log.topic("clicks", 1, Retention::default()).unwrap();
    topic.append(vec![plain("before")]).await.unwrap();

    free.store(2_000_100, Ordering::SeqCst);
    let error = topic.append(vec![plain(vec![b'x'; 10_000])]).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::DiskFull {
                free_bytes: 2_000_100,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let message = error.to_string();
    assert!(
        message.contains(&dir.path().display().to_string()) && message.contains("Free some space"),
        "{message}"
    );
    assert_eq!(topic.ends().await.unwrap().get(PartitionId(0)), Some(Offset(1)));
    let held = read_through(&*topic, PartitionId(0), Offset(0), Offset(1), wide(PATIENCE)).await;
    assert_eq!(held.len(), 1, "what is there is read all the same");

    free.store(10_000_000, Ordering::SeqCst);
    let next = topic.append(vec![plain("after")]).await.unwrap();
    assert_eq!(
        next.get(PartitionId(0)),
        Some(Offset(2)),
        "the refused record left no gap"
    );
    drop((topic, log));
    let log = open(&dir);
    let topic = log.topic("clicks", 1, Retention::default()).unwrap();
    let held = read_through(&*topic, PartitionId(0), Offset(0), Offset(2), wide(PATIENCE)).await;
    let payloads: Vec<_> = held.iter().flat_map(|batch| batch.payloads.iter().flatten()).collect();
    assert_eq!(payloads, [b"before".as_slice(), b"after"]);
}

/// A real, small disk that is really full; where the test may mount one.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_real_disk_that_fills_up_damages_nothing() {
    const DISK_BYTES: u64 = 96 << 20;
    let dir = TempDir::new().unwrap();
    let Some(_disk) = anabranch_testkit::SmallDisk::mount(dir.path(), DISK_BYTES) else {
        return;
    };
    let log = open(&dir);
    let topic = log.topic("clicks", 1, Retention::default()).unwrap();
    // Bytes that do not compress.
    let mut state = 1_u64;
    let mut noise = |len: usize| -> Vec<u8> {
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        (0..len).map(|_| next()).collect()
    };
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, noise(30 << 20)).unwrap();
    let mut held = Vec::new();
    let refusal = loop {
        let payload = noise(256 << 10);
        match topic.append(vec![plain(payload.clone())]).await {
            Ok(_) => held.push(payload),
            Err(error) => break error,
        }
        assert!(held.len() < 1_000, "the disk never fills");
    };
    assert!(matches!(refusal, Error::DiskFull { .. }), "{refusal}");
    let refusal = topic.append(vec![plain(noise(256 << 10))]).await.unwrap_err();
    assert!(matches!(refusal, Error::DiskFull { .. }), "{refusal}");

    std::fs::remove_file(&ballast).unwrap();
    for _ in 0..8 {
        let payload = noise(256 << 10);
        topic.append(vec![plain(payload.clone())]).await.unwrap();
        held.push(payload);
    }
    drop((topic, log));
    let log = open(&dir);
    let topic = log.topic("clicks", 1, Retention::default()).unwrap();
    let end = Offset(held.len() as i64);
    assert_eq!(topic.ends().await.unwrap().get(PartitionId(0)), Some(end));
    let batches = read_through(&*topic, PartitionId(0), Offset(0), end, wide(PATIENCE)).await;
    let payloads: Vec<_> = batches
        .iter()
        .flat_map(|batch| batch.payloads.iter().flatten())
        .collect();
    assert!(payloads.iter().zip(&held).all(|(found, sent)| found == sent));
    drop((topic, log));
}
