//! Kafka is away for longer than a session lasts: the group's members lose their partitions, and answers stay exact over what
//! is held, while nobody can take them over.

use std::collections::BTreeSet;
use std::time::Duration;

use anabranch_e2e::dev::{run_batch, wait_landed};
use anabranch_e2e::oracle::Oracle;
use anabranch_e2e::orders::{self, Orders};
use anabranch_e2e::{Answer, Backend, Cluster, Feed, Http, Loader, gate, master, until};
use anabranch_model::TopicOffsets;
use anabranch_testkit::servers::{self, KafkaServer};
use serde_json::{Value, json};

const TOPIC: &str = "broker-away";
const PARTITIONS: usize = 4;
const WORKERS: usize = 2;
/// Longest that partitions may take to move, or to be lost.
const MOVE: Duration = Duration::from_secs(120);

/// The partitions as serving tells of them.
fn partitions(http: &Http) -> Vec<Value> {
    let status = http.status();
    let partitions = status["sources"][orders::TABLE]["partitions"].as_object();
    partitions.into_iter().flat_map(|map| map.values().cloned()).collect()
}

/// Partitions that speed processes say they serve without reading them.
fn lost(http: &Http) -> usize {
    let status = http.status();
    let workers = status["speed"]
        .as_object()
        .into_iter()
        .flat_map(|workers| workers.values());
    let partitions = workers.filter_map(|worker| worker["sources"][orders::TABLE]["partitions"].as_object());
    let lost = |partition: &&Value| partition["lost_since"].is_string();
    partitions
        .flat_map(|partitions| partitions.values().filter(lost))
        .count()
}

/// Every view is answered exactly and rightly, though nobody can read on.
#[track_caller]
fn assert_exact(moment: &str, http: &Http, oracle: &Oracle, through: &TopicOffsets) {
    for (index, question) in oracle.questions().iter().enumerate() {
        let demand = json!({"sql": question.sql, "require": "exact", "at_least": through, "timeout": "30s"});
        let reply = http.post("/v1/sql", &demand);
        assert_eq!(reply.status, 200, "{moment}: {}", reply.text());
        let answer = Answer::parse(&reply.json());
        assert_eq!(oracle.contradiction(index, &answer), None, "{moment}");
    }
}

#[test]
fn a_broker_away_for_longer_than_a_session_leaves_answers_exact() {
    let Some(s3) = servers::s3() else { return };
    let kafka: &'static KafkaServer = match KafkaServer::provision_and_start() {
        Ok(kafka) => Box::leak(Box::new(kafka)),
        Err(reason) => return servers::skip(&reason),
    };
    let _gate = gate::heavy();
    let backend = Backend::of(kafka, s3);
    let settings = format!("{}\n[landing]\nmax_age = '300ms'", backend.settings(TOPIC, None));
    let sql = orders::views(&backend.with(TOPIC, PARTITIONS as u32));
    let mut cluster = Cluster::new(&sql, &settings, WORKERS, 1);
    cluster.start();
    let http = cluster.http();
    let shared = || {
        let partitions = partitions(&http);
        let owners: BTreeSet<&str> = partitions.iter().filter_map(|p| p["owner"].as_str()).collect();
        (partitions.len() == PARTITIONS && owners.len() == WORKERS).then_some(())
    };
    until("two workers share the partitions", MOVE, shared);
    let properties = backend.kafka_properties();
    let feed = Feed::kafka(&properties, &[TOPIC]);
    let mut oracle = Oracle::new(orders::questions(TOPIC));
    let load = |seed: u64| {
        let before: i64 = feed.ends().values().sum();
        let loader = Loader::start(&properties, TOPIC, Orders::new(seed), 1_000);
        until("some thousand events are in the log", MOVE, || {
            (feed.ends().values().sum::<i64>() > before + 3_000).then_some(())
        });
        loader.finish();
        feed.ends()
    };
    let connected = |wanted: bool| {
        let status = http.status();
        (status["sources"][orders::TABLE]["connected"] == wanted).then_some(())
    };
    let through = load(21);
    http.query_at_least("SELECT orders FROM totals", &through);
    feed.extend(&mut oracle, &through, MOVE).expect("the log is there");
    assert_exact("before", &http, &oracle, &through);

    kafka.stop();
    until("the group's members have lost every partition", MOVE, || {
        (lost(&http) == PARTITIONS).then_some(())
    });
    assert_exact("with every partition lost", &http, &oracle, &through);
    until("it is said that Kafka does not answer", MOVE, || connected(false));
    // What was read is landed, recomputed and published meanwhile.
    wait_landed(&http, orders::TABLE, &through);
    run_batch(&http);
    assert_exact("with every partition lost, and recomputed", &http, &oracle, &through);

    kafka.restart().expect("Kafka comes back");
    until("it is said that Kafka answers", MOVE, || connected(true));
    let through = load(22);
    http.query_at_least("SELECT orders FROM totals", &through);
    until("every partition is read again", MOVE, || {
        (lost(&http) == 0).then_some(())
    });
    wait_landed(&http, orders::TABLE, &through);
    feed.extend(&mut oracle, &through, MOVE).expect("the log is there");
    for (index, question) in oracle.questions().iter().enumerate() {
        let answer = http.query_at_least(&question.sql, &through);
        assert_eq!(oracle.contradiction(index, &answer), None, "after Kafka has come back");
    }
    let landed = master::read(cluster.batch.site(), orders::TABLE);
    landed.assert_each_offset_once();
    assert_eq!(landed.rows.len() as i64, through.values().sum::<i64>());
}
