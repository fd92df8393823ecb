//! The Kafka implementation against a real Apache Kafka, where Java and Maven are there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anabranch_log::conformance::{self, plain, read_through, record_for, wide};
use anabranch_log::{Error, KafkaLog, LogEvent, PartitionedLog, ReadLimits, Subscription};
use anabranch_model::{ErrorKind, Offset, OffsetVector, PartitionId};
use anabranch_testkit::servers::{self, KafkaServer};
use futures::FutureExt;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(120);
const ZERO: PartitionId = PartitionId(0);

fn properties(server: &KafkaServer) -> BTreeMap<String, String> {
    [
        ("bootstrap.servers", server.bootstrap().as_str()),
        ("topic.metadata.refresh.interval.ms", "1000"),
        ("delivery.timeout.ms", "120000"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value.to_string()))
    .collect()
}

async fn connect(server: &KafkaServer, topic: &str, partitions: u32) -> KafkaLog {
    KafkaLog::connect(&properties(server), topic, Some(partitions))
        .await
        .unwrap()
}

fn client(server: &KafkaServer) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", server.bootstrap());
    config
}

fn admin(server: &KafkaServer) -> AdminClient<DefaultClientContext> {
    client(server).create().unwrap()
}

fn limits(wait: Duration) -> ReadLimits {
    wide(wait)
}

/// Polls until all of `partitions` are assigned.
fn assigned(subscription: &mut dyn Subscription, partitions: usize) {
    let begun = Instant::now();
    let mut owned = BTreeSet::new();
    while owned.len() < partitions {
        assert!(begun.elapsed() < PATIENCE, "assigned {owned:?} only");
        match subscription.poll(limits(Duration::from_millis(200))).unwrap() {
            Some(LogEvent::Assigned(more)) => owned.extend(more),
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
}

/// Polls partition 0 from `from` until its position is `to`; returns the payloads.
fn poll_through(subscription: &mut dyn Subscription, from: i64, to: i64) -> Vec<String> {
    let begun = Instant::now();
    let mut next = Offset(from);
    let mut payloads = Vec::new();
    while next < Offset(to) {
        assert!(begun.elapsed() < PATIENCE, "at {next} of {to}");
        match subscription.poll(limits(Duration::from_millis(200))).unwrap() {
            Some(LogEvent::Batch(batch)) => {
                assert_eq!(batch.range.start, next, "ranges meet");
                next = batch.range.end;
                let text = batch
                    .payloads
                    .iter()
                    .map(|payload| String::from_utf8(payload.unwrap().to_vec()).unwrap());
                payloads.extend(text);
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    payloads
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_conforms() {
    let Some(server) = servers::kafka() else { return };
    let number = AtomicU32::new(0);
    conformance::all(&|partitions| {
        let topic = format!("conformance-{}", number.fetch_add(1, Ordering::Relaxed));
        async move { Arc::new(connect(server, &topic, partitions).await) as Arc<dyn PartitionedLog> }.boxed()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_markers_are_covered_and_aborted_records_are_not_delivered() {
    let Some(server) = servers::kafka() else { return };
    let log = connect(server, "transactions", 1).await;
    log.append(vec![plain("before")]).await.unwrap();
    let written = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = client(server).set("transactional.id", "t").create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        let transaction = |payloads: &[&str], commit: bool| {
            producer.begin_transaction().unwrap();
            for payload in payloads {
                producer
                    .send(BaseRecord::<(), str>::to("transactions").partition(0).payload(payload))
                    .unwrap();
            }
            producer.flush(PATIENCE).unwrap();
            if commit {
                producer.commit_transaction(PATIENCE).unwrap();
            } else {
                producer.abort_transaction(PATIENCE).unwrap();
            }
        };
        transaction(&["a", "b"], true);
        transaction(&["never"], false);
        transaction(&["c"], true);
        transaction(&["never again"], false);
    });
    written.await.unwrap();
    // before, a, b, commit, never, abort, c, commit, never again, abort.
    assert_eq!(log.ends().await.unwrap().get(ZERO), Some(Offset(10)));

    let mut subscription = log.subscribe("transactions").await.unwrap();
    let delivered = tokio::task::spawn_blocking(move || {
        assigned(&mut *subscription, 1);
        subscription.start(ZERO, Offset(0)).unwrap();
        let all = poll_through(&mut *subscription, 0, 10);
        subscription.start(ZERO, Offset(8)).unwrap();
        (all, poll_through(&mut *subscription, 8, 10))
    });
    let (all, tail) = delivered.await.unwrap();
    assert_eq!(all, ["before", "a", "b", "c"]);
    assert!(tail.is_empty(), "a range without records: {tail:?}");
    let batches = read_through(&log, ZERO, Offset(0), Offset(10), limits(Duration::from_secs(2))).await;
    assert_eq!(batches.iter().map(|batch| batch.len()).sum::<usize>(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_was_deleted_is_refused_with_what_is_held() {
    let Some(server) = servers::kafka() else { return };
    let log = connect(server, "deleted", 1).await;
    log.append((0..10).map(|n| plain(n.to_string())).collect())
        .await
        .unwrap();
    let mut subscription = log.subscribe("deleted").await.unwrap();
    let mut subscription = tokio::task::spawn_blocking(move || {
        assigned(&mut *subscription, 1);
        subscription
    })
    .await
    .unwrap();
    let mut upto = TopicPartitionList::new();
    upto.add_partition_offset("deleted", 0, rdkafka::Offset::Offset(6))
        .unwrap();
    admin(server).delete_records(&upto, &AdminOptions::new()).await.unwrap();
    assert_eq!(log.begins().await.unwrap().get(ZERO), Some(Offset(6)));
    let found = log.read(ZERO, Offset(2), limits(PATIENCE)).await.unwrap_err();
    assert!(
        matches!(
            found,
            Error::OutOfRange {
                wanted: Offset(2),
                first: Offset(6),
                ..
            }
        ),
        "{found}"
    );
    let started = tokio::task::spawn_blocking(move || {
        let refused = subscription.start(ZERO, Offset(5));
        subscription.start(ZERO, Offset(6)).unwrap();
        (refused, poll_through(&mut *subscription, 6, 10))
    });
    let (refused, delivered) = started.await.unwrap();
    let refused = refused.unwrap_err();
    assert!(
        matches!(
            refused,
            Error::OutOfRange {
                partition: ZERO,
                first: Offset(6),
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(delivered, ["6", "7", "8", "9"]);
}

/// Retention passes a partition while it is being read: that one stops and says what is held, the other goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_retention_passes_stops_alone() {
    const RECORDS: i64 = 60;
    let Some(server) = servers::kafka() else { return };
    let one = PartitionId(1);
    // So little is fetched ahead that most of it is still to come when it is deleted.
    let mut properties = properties(server);
    for (name, value) in [
        ("queued.min.messages", "1"),
        ("queued.max.messages.kbytes", "1"),
        ("fetch.message.max.bytes", "20000"),
        ("compression.type", "none"),
    ] {
        properties.insert(name.into(), value.into());
    }
    let log = KafkaLog::connect(&properties, "passed", Some(2)).await.unwrap();
    for partition in [ZERO, one] {
        for n in 0..RECORDS {
            let record = record_for(partition, 2, format!("{n:15000}"));
            log.append(vec![record]).await.unwrap();
        }
    }
    let mut subscription = log.subscribe("passed").await.unwrap();
    let mut subscription = tokio::task::spawn_blocking(move || {
        assigned(&mut *subscription, 2);
        subscription.start(ZERO, Offset(0)).unwrap();
        subscription
    })
    .await
    .unwrap();
    let (next, mut subscription) = tokio::task::spawn_blocking(move || {
        let limits = ReadLimits {
            max_records: 1,
            ..limits(PATIENCE)
        };
        let Some(LogEvent::Batch(batch)) = subscription.poll(limits).unwrap() else {
            panic!("there are records")
        };
        (batch.range.end, subscription)
    })
    .await
    .unwrap();
    assert!(next < Offset(RECORDS - 10), "little is fetched ahead: {next}");
    let mut upto = TopicPartitionList::new();
    upto.add_partition_offset("passed", 0, rdkafka::Offset::Offset(RECORDS - 5))
        .unwrap();
    admin(server).delete_records(&upto, &AdminOptions::new()).await.unwrap();
    tokio::task::spawn_blocking(move || {
        subscription.start(one, Offset(0)).unwrap();
        let (begun, mut next, mut stopped, mut others) = (Instant::now(), next, None, 0);
        while others < RECORDS || stopped.is_none() {
            assert!(
                begun.elapsed() < PATIENCE,
                "{others} records of the other one, {stopped:?}, at {next}"
            );
            match subscription.poll(limits(Duration::from_millis(200))).unwrap() {
                Some(LogEvent::Batch(batch)) if batch.partition == one => others += batch.len() as i64,
                // Fetched before it was deleted.
                Some(LogEvent::Batch(batch)) => {
                    assert_eq!((batch.range.start, stopped), (next, None), "nothing after the stop");
                    next = batch.range.end;
                }
                Some(LogEvent::OutOfRange {
                    partition,
                    wanted,
                    first,
                    ..
                }) => stopped = Some((partition, wanted, first)),
                Some(other) => panic!("{other:?}"),
                None => {}
            }
        }
        assert_eq!(stopped, Some((ZERO, next, Offset(RECORDS - 5))));
        subscription.start(ZERO, Offset(RECORDS - 5)).unwrap();
        assert_eq!(poll_through(&mut *subscription, RECORDS - 5, RECORDS).len(), 5);
    })
    .await
    .unwrap();
}

/// A log can be opened while no broker is there; it works as soon as one is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_not_there_yet_is_waited_for() {
    if servers::kafka().is_none() {
        return;
    }
    let server = Arc::new(KafkaServer::provision_and_start().unwrap());
    server.stop();
    let log = KafkaLog::open(&properties(&server), "later", Some(3)).unwrap();
    let error = log.identity().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let broker = server.clone();
    tokio::task::spawn_blocking(move || broker.restart())
        .await
        .unwrap()
        .unwrap();
    let begun = Instant::now();
    while let Err(error) = log.identity().await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(begun.elapsed() < PATIENCE, "{error}");
    }
    assert_eq!(log.partitions().await.unwrap().len(), 3, "the topic is created then");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn landed_offsets_are_committed_for_lag_tools() {
    let Some(server) = servers::kafka() else { return };
    let log = connect(server, "landed", 1).await;
    log.append((0..5).map(|n| plain(n.to_string())).collect())
        .await
        .unwrap();
    let mut subscription = log.subscribe("lag").await.unwrap();
    tokio::task::spawn_blocking(move || {
        assigned(&mut *subscription, 1);
        subscription.start(ZERO, Offset(0)).unwrap();
        poll_through(&mut *subscription, 0, 5);
        let next: OffsetVector = [(ZERO, Offset(4))].into_iter().collect();
        subscription.landed(&next);
        let tool: BaseConsumer = client(server).set("group.id", "lag").create().unwrap();
        let begun = Instant::now();
        loop {
            subscription.poll(limits(Duration::from_millis(50))).unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition("landed", 0);
            let committed = tool.committed_offsets(list, PATIENCE).unwrap();
            if committed.elements()[0].offset() == rdkafka::Offset::Offset(4) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{committed:?}");
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_ends_while_it_drains_holds_nobody_up() {
    let Some(server) = servers::kafka() else { return };
    let log = connect(server, "ends", 4).await;
    let mut first = log.subscribe("ends").await.unwrap();
    let first = tokio::task::spawn_blocking(move || {
        assigned(&mut *first, 4);
        first.start(ZERO, Offset(0)).unwrap();
        first.pause(ZERO).unwrap();
        first
    })
    .await
    .unwrap();
    let second = log.subscribe("ends").await.unwrap();
    tokio::task::spawn_blocking(move || {
        let (mut first, mut second) = (Some(first), second);
        let mut owned = BTreeSet::new();
        let begun = Instant::now();
        while owned.len() < 4 {
            assert!(begun.elapsed() < PATIENCE, "the second member has {owned:?} only");
            if let Some(member) = &mut first
                && let Some(LogEvent::Revoked { lost, .. }) = member.poll(limits(Duration::from_millis(50))).unwrap()
            {
                assert!(!lost);
                // Gone without having released anything.
                first = None;
            }
            if let Some(LogEvent::Assigned(more)) = second.poll(limits(Duration::from_millis(50))).unwrap() {
                owned.extend(more);
            }
        }
        assert!(first.is_none(), "the first member was asked to hand over");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_partitions_are_assigned() {
    let Some(server) = servers::kafka() else { return };
    let log = connect(server, "grows", 1).await;
    let mut subscription = log.subscribe("grows").await.unwrap();
    let mut subscription = tokio::task::spawn_blocking(move || {
        assigned(&mut *subscription, 1);
        subscription
    })
    .await
    .unwrap();
    admin(server)
        .create_partitions([&NewPartitions::new("grows", 3)], &AdminOptions::new())
        .await
        .unwrap();
    tokio::task::spawn_blocking(move || assigned(&mut *subscription, 2))
        .await
        .unwrap();
    assert_eq!(log.partitions().await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_not_there_is_an_error_that_says_so() {
    let Some(server) = servers::kafka() else { return };
    let error = KafkaLog::connect(&properties(server), "absent", None)
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().contains("absent") && error.to_string().contains("partitions"),
        "{error}"
    );
}

/// The broker is killed and comes back; nothing that is polled fails meanwhile, and nothing is lost or delivered twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_restarts_is_waited_for() {
    if servers::kafka().is_none() {
        return;
    }
    let server = Arc::new(KafkaServer::provision_and_start().unwrap());
    let log = connect(&server, "restarts", 2).await;
    let identity = log.identity().await.unwrap();
    log.append(vec![record_for(ZERO, 2, "before")]).await.unwrap();
    // One that gives a record up soon.
    let mut impatient = properties(&server);
    impatient.insert("delivery.timeout.ms".into(), "2000".into());
    let impatient = KafkaLog::connect(&impatient, "restarts", None).await.unwrap();
    let mut subscription = log.subscribe("restarts").await.unwrap();
    let broker = server.clone();
    let mut subscription = tokio::task::spawn_blocking(move || {
        assigned(&mut *subscription, 2);
        subscription.start(ZERO, Offset(0)).unwrap();
        assert_eq!(poll_through(&mut *subscription, 0, 1), ["before"]);
        broker.stop();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            let event = subscription.poll(limits(Duration::from_millis(200))).unwrap();
            assert!(event.is_none(), "{event:?}");
        }
        subscription
    })
    .await
    .unwrap();
    let error = impatient.append(vec![record_for(ZERO, 2, "never")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = log.ends().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");

    let broker = server.clone();
    tokio::task::spawn_blocking(move || broker.restart())
        .await
        .unwrap()
        .unwrap();
    let begun = Instant::now();
    let next = loop {
        match log.append(vec![record_for(ZERO, 2, "after")]).await {
            Ok(next) => break next,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    };
    assert_eq!(log.identity().await.unwrap(), identity);
    let end = next.get(ZERO).unwrap().0;
    let delivered = tokio::task::spawn_blocking(move || {
        // The coordinator may have let the member go meanwhile; then it is assigned anew, and starts where it was.
        let (begun, mut next, mut records) = (Instant::now(), 1, Vec::new());
        while next < end {
            assert!(begun.elapsed() < PATIENCE, "at {next} of {end}");
            match subscription.poll(limits(Duration::from_millis(200))).unwrap() {
                Some(LogEvent::Batch(batch)) => {
                    assert_eq!(batch.range.start, Offset(next));
                    next = batch.range.end.0;
                    records.extend(batch.payloads.iter().map(|payload| payload.unwrap().to_vec()));
                }
                Some(LogEvent::Assigned(partitions)) if partitions.contains(&ZERO) => {
                    subscription.start(ZERO, Offset(next)).unwrap();
                }
                _ => {}
            }
        }
        records
    });
    let records = delivered.await.unwrap();
    assert_eq!(records.last().map(Vec::as_slice), Some(b"after".as_slice()));
}
