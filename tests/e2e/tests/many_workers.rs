//! Three speed processes, one batch and one serving process on Apache Kafka and S3: killed, frozen, and asked all the time.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_e2e::compare::time_us;
use anabranch_e2e::dev::{acknowledged, run_batch, wait_landed};
use anabranch_e2e::oracle::{Measure, Part, Question};
use anabranch_e2e::orders::{self, Orders};
use anabranch_e2e::{Backend, Cluster, Feed, Http, Loader, Witness, data, gate, master, until};
use anabranch_model::TopicOffsets;
use serde_json::{Value, json};

use crate::edits::{ADDED, EVENTS};
use crate::examples::{self, Examples, TABLES};

const WORKERS: usize = 3;
const KILLS: usize = 6;
/// From one kill to the next.
const BETWEEN_KILLS: Duration = Duration::from_secs(3);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest that partitions may take to move: a session, a rebalance, a rebuild.
const MOVE: Duration = Duration::from_secs(180);
/// Parts in which the edits come in.
const PARTS: usize = 12;

/// Prefixes of these are checked against every answer; all cases at the end.
fn questions(prefix: &str) -> Vec<Question> {
    fn edit(event: &Value, key: Vec<Value>) -> Option<Part> {
        Some(Part {
            key,
            amount: event["added"].as_i64()?,
            member: event["user"].as_str()?.to_owned(),
        })
    }
    fn hour(event: &Value) -> Option<Value> {
        const HOUR_US: i64 = 3_600_000_000;
        let start = time_us(event["timestamp"].as_str()?)?.div_euclid(HOUR_US) * HOUR_US;
        Some(json!(chrono::DateTime::from_timestamp_micros(start)?.to_rfc3339()))
    }
    let measures = vec![Measure::Count, Measure::Sum, Measure::Distinct];
    vec![
        Question {
            view: "edits".into(),
            topic: examples::topic(prefix, "wikipedia"),
            sql: "SELECT edits, added, editors FROM edits".into(),
            keys: 0,
            measures: measures.clone(),
            part: |event| edit(event, Vec::new()),
        },
        Question {
            view: "channels".into(),
            topic: examples::topic(prefix, "wikipedia"),
            sql: "SELECT channel, edits, added, editors FROM channels".into(),
            keys: 1,
            measures,
            part: |event| edit(event, vec![event["channel"].clone()]),
        },
        Question {
            view: "hourly_cars".into(),
            topic: examples::topic(prefix, "cars"),
            sql: "SELECT hour, events FROM hourly_cars".into(),
            keys: 1,
            measures: vec![Measure::Count],
            part: |event| {
                Some(Part {
                    key: vec![hour(event)?],
                    amount: 0,
                    member: String::new(),
                })
            },
        },
    ]
}

/// Every answer is of the prefix that it claims, or says what is missing; in the end all is there, exactly once.
#[test]
fn one_of_three_workers_is_killed_every_few_seconds() {
    const TEST: &str = "many-workers";
    let (Some(examples), Some(backend)) = (Examples::load(TEST), Backend::kafka_and_s3()) else {
        return;
    };
    let _gate = gate::heavy();
    let settings = format!(
        "{}\n[landing]\nmax_age = '300ms'\n[batch]\nschedule = '*/7 * * * * *'",
        backend.settings(TEST, None)
    );
    let mut cluster = Cluster::new(&examples::views(&backend, TEST), &settings, WORKERS, 1);
    cluster.start();
    let topics: Vec<String> = TABLES.iter().map(|table| examples::topic(TEST, table)).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let feed = Feed::kafka(&backend.kafka_properties(), &topics);
    let witness = Witness::start(&[cluster.http()], questions(TEST), feed, PAUSE);

    let lines = data::lines(&examples.files["wikipedia"]);
    let site = cluster.batch.site();
    let mut through: BTreeMap<&str, TopicOffsets> = BTreeMap::new();
    let speed = &mut cluster.speed;
    std::thread::scope(|scope| {
        let examples = &examples;
        let producer = scope.spawn(move || {
            let mut through: BTreeMap<&str, TopicOffsets> = BTreeMap::new();
            let mut others = TABLES.iter().filter(|table| **table != "wikipedia");
            // The other tables' events come in between.
            for part in lines.chunks(lines.len().div_ceil(PARTS)) {
                let args = ["ingest", "wikipedia", "-", "--config", site.config(), "--key", "user"];
                let output = site.cli_with_input(&args, &data::ndjson(part)).success();
                through.entry("wikipedia").or_default().extend(acknowledged(&output).1);
                if let Some(table) = others.next() {
                    through.insert(table, examples.produce(site, table));
                }
            }
            through
        });
        for kill in 0..KILLS {
            std::thread::sleep(BETWEEN_KILLS);
            let worker = &mut speed[kill % WORKERS];
            worker.kill9();
            worker.spawn();
        }
        speed.iter_mut().for_each(|worker| worker.ready());
        through = producer.join().expect("producing succeeds");
    });

    let http = cluster.http();
    let exact = |moment: &str| {
        let edits = http.query_at_least("SELECT edits, added FROM edits", &through["wikipedia"]);
        assert_eq!(edits.integers(), [EVENTS, ADDED], "{moment}: the published totals");
        examples.check(moment, &http, &through);
    };
    exact("after the last kill");
    for (table, through) in &through {
        wait_landed(&http, table, through);
    }
    run_batch(&http);
    exact("and recomputed");
    let (figures, ..) = witness.finish();
    println!("{KILLS} kills: {figures:?}");
    figures.assert_consistent();
    assert!(
        figures.answers > figures.inexact,
        "no exact answer in all that time: {figures:?}"
    );
    for table in TABLES {
        master::read(cluster.batch.site(), table).assert_each_offset_once();
    }
}

/// Which speed worker owns each partition that has one.
fn owners(http: &Http) -> Vec<String> {
    let status = http.status();
    let partitions = status["sources"][orders::TABLE]["partitions"].as_object();
    partitions
        .into_iter()
        .flat_map(|partitions| partitions.values())
        .filter_map(|partition| partition["owner"].as_str().map(str::to_owned))
        .collect()
}

/// A worker stands still past its session while events come in; others take over; it comes back believing that it owns its
/// partitions. It lands nothing of theirs, says so, and no answer is wrong at any time.
#[test]
fn a_worker_that_stood_still_changes_no_answer() {
    const TEST: &str = "stood-still";
    const PARTITIONS: u32 = 6;
    let Some(backend) = Backend::kafka_and_s3() else { return };
    let _gate = gate::heavy();
    // Long enough for it to be frozen with events that it has folded and not landed.
    let settings = format!("{}\n[landing]\nmax_age = '2s'", backend.settings(TEST, None));
    let mut cluster = Cluster::new(&orders::views(&backend.with(TEST, PARTITIONS)), &settings, WORKERS, 1);
    cluster.start();
    let http = cluster.http();
    let shared = until("three workers share the partitions", MOVE, || {
        let owners = owners(&http);
        let workers: std::collections::BTreeSet<&String> = owners.iter().collect();
        (owners.len() == PARTITIONS as usize && workers.len() == WORKERS).then_some(owners.len())
    });
    assert_eq!(shared, PARTITIONS as usize);
    let properties = backend.kafka_properties();
    let feed = Feed::kafka(&properties, &[TEST]);
    let witness = Witness::start(std::slice::from_ref(&http), orders::questions(TEST), feed, PAUSE);
    let loader = Loader::start(&properties, TEST, Orders::new(7), 1_000);
    until("events have landed", MOVE, || {
        let landed = master_next(&http);
        (landed > 2_000).then_some(())
    });

    let zombie = &mut cluster.speed[1];
    zombie.freeze();
    until("the two others have taken everything over", MOVE, || {
        let owners = owners(&http);
        let workers: std::collections::BTreeSet<&String> = owners.iter().collect();
        (owners.len() == PARTITIONS as usize && workers.len() == WORKERS - 1).then_some(())
    });
    let before = master_next(&http);
    until("the others land", MOVE, || {
        (master_next(&http) > before + 1_000).then_some(())
    });
    zombie.thaw();
    until("the former owner says that its partitions are gone", MOVE, || {
        let log = cluster.speed[1].process().stderr();
        (log.contains("lost=true") || log.contains("landing refused")).then_some(())
    });
    until("three workers share the partitions again", MOVE, || {
        let owners = owners(&http);
        let workers: std::collections::BTreeSet<&String> = owners.iter().collect();
        (owners.len() == PARTITIONS as usize && workers.len() == WORKERS).then_some(())
    });
    loader.finish();

    let ends = Feed::kafka(&properties, &[TEST]).ends();
    http.query_at_least("SELECT orders FROM totals", &ends);
    wait_landed(&http, orders::TABLE, &ends);
    let (figures, mut oracle, feed) = witness.finish();
    println!("a worker stood still: {figures:?}");
    figures.assert_consistent();
    feed.extend(&mut oracle, &ends, MOVE).expect("the log is there");
    for (index, question) in oracle.questions().iter().enumerate() {
        let answer = http.query_at_least(&question.sql, &ends);
        assert_eq!(oracle.contradiction(index, &answer), None);
    }
    let landed = master::read(cluster.batch.site(), orders::TABLE);
    landed.assert_each_offset_once();
    assert_eq!(landed.rows.len() as i64, ends.values().sum::<i64>());
}

/// Sum of the recorded next offsets.
fn master_next(http: &Http) -> i64 {
    let status = http.status();
    let partitions = status["sources"][orders::TABLE]["partitions"].as_object();
    partitions
        .into_iter()
        .flat_map(|partitions| partitions.values())
        .filter_map(|partition| partition["next_landed"].as_i64())
        .sum()
}
