//! Producers with transactions: aborted records count nowhere, and the gaps they leave are no gaps in coverage.

use std::collections::BTreeSet;
use std::time::Duration;

use anabranch_e2e::{Backend, Dev, Feed, block_on, gate, master, until};
use anabranch_model::TopicOffsets;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use serde_json::json;

const TEST: &str = "transactions";
const PARTITIONS: i32 = 2;
const WAIT: Duration = Duration::from_secs(120);

const VIEWS: &str = "
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS payments, sum(n) AS n FROM payments;
";

/// Sends payments in one transaction, to the partitions in turn; returns where each one is.
fn send(producer: &FutureProducer, payments: std::ops::Range<i64>) -> Vec<(i32, i64)> {
    let sent: Vec<_> = payments
        .map(|n| {
            let payload = json!({"at": "2024-01-01T00:00:00Z", "n": n}).to_string();
            let record = FutureRecord::<str, str>::to(TEST)
                .partition((n % i64::from(PARTITIONS)) as i32)
                .payload(&payload);
            producer
                .send_result(record)
                .map_err(|(error, _)| error)
                .expect("the queue has room")
        })
        .collect();
    producer.flush(WAIT).expect("Kafka takes the records");
    sent.into_iter()
        .map(|delivery| {
            let delivered = block_on(delivery)
                .expect("the producer is there")
                .expect("it was delivered");
            (delivered.partition, delivered.offset)
        })
        .collect()
}

#[test]
fn aborted_records_count_nowhere() {
    let Some(backend) = Backend::kafka_and_folder() else {
        return;
    };
    let _gate = gate::heavy();
    let table = format!(
        "CREATE TABLE payments (at TIMESTAMP NOT NULL, n BIGINT) WITH ({}, event_time = 'at');",
        backend.with(TEST, PARTITIONS as u32)
    );
    let settings = format!("{}\n[landing]\nmax_age = '100ms'", backend.settings(TEST, None));
    let mut dev = Dev::start(&format!("{table}{VIEWS}"), &settings);
    let properties = backend.kafka_properties();
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &properties["bootstrap.servers"])
        .set("transactional.id", "payments")
        .create()
        .expect("a producer can be made");
    producer.init_transactions(WAIT).expect("Kafka knows transactions");

    let (mut committed, mut sum) = (BTreeSet::new(), 0);
    for round in 0..12 {
        producer.begin_transaction().expect("a transaction begins");
        let payments = round * 50..(round + 1) * 50;
        let sent = send(&producer, payments.clone());
        // The last one is aborted, so that the log ends with what counts nowhere.
        if round % 3 == 2 {
            producer.abort_transaction(WAIT).expect("it can be aborted");
        } else {
            producer.commit_transaction(WAIT).expect("it can be committed");
            committed.extend(sent);
            sum += payments.sum::<i64>();
        }
    }
    let expected = [committed.len() as i64, sum];
    let ends = Feed::kafka(&properties, &[TEST]).ends();
    assert!(
        ends.values().sum::<i64>() > 12 * 50,
        "markers take offsets of their own: {ends:?}"
    );
    let check = |dev: &Dev, moment: &str, ends: &TopicOffsets, expected: [i64; 2]| {
        let answer = dev.query_at_least("SELECT payments, n FROM totals", ends);
        assert_eq!(answer.integers(), expected, "{moment}");
        assert_eq!(
            &answer.covered().served_through,
            ends,
            "{moment}: coverage reaches the end"
        );
        until(&format!("{moment}: nothing lags behind"), WAIT, || {
            let status = dev.status();
            let partitions = status["sources"]["payments"]["partitions"].as_object()?.clone();
            let caught_up = partitions.values().all(|partition| partition["lag"] == 0);
            (partitions.len() == PARTITIONS as usize && caught_up).then_some(())
        });
    };
    check(&dev, "realtime", &ends, expected);
    dev.wait_landed("payments", &ends);
    let landed = master::read(dev.site(), "payments");
    let found: Vec<(i32, i64)> = landed.rows.iter().map(|row| (row.partition, row.offset)).collect();
    let expected_rows: Vec<(i32, i64)> = committed.iter().copied().collect();
    assert_eq!(found, expected_rows, "each committed offset once, no other");
    assert_eq!(landed.counts().1, 0);
    dev.run_batch();
    check(&dev, "recomputed", &ends, expected);

    // An open transaction holds back what comes behind it, until it ends.
    producer.begin_transaction().expect("a transaction begins");
    let open = send(&producer, 1_000..1_010);
    assert_eq!(
        dev.query("SELECT payments, n FROM totals").integers(),
        expected,
        "nothing of an open transaction counts"
    );
    dev.kill9();
    dev.restart();
    check(&dev, "after kill -9, beside an open transaction", &ends, expected);
    producer.commit_transaction(WAIT).expect("it can be committed");
    let ends = Feed::kafka(&properties, &[TEST]).ends();
    let expected = [expected[0] + open.len() as i64, sum + (1_000..1_010).sum::<i64>()];
    check(&dev, "after its commit", &ends, expected);
}
