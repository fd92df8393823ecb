//! The same edits through Apache Kafka, with one process per layer, and with two speed processes that share or fight over
//! partitions.

use std::time::Duration;

use anabranch_e2e::dev::{acknowledged, run_batch, wait_landed};
use anabranch_e2e::{Http, Process, Site, gate, master, until};
use anabranch_model::{PartitionId, TopicOffsets};
use anabranch_testkit::servers;

use crate::edits::{EVENTS, Edits, TABLE, views};

/// How long a dead member of the consumer group keeps its partitions.
const SESSION: &str = "\"session.timeout.ms\" = '6000'\n\"heartbeat.interval.ms\" = '500'";
/// Longest that partitions may take to move: a session, a rebalance, a rebuild.
const MOVE: Duration = Duration::from_secs(60);
const PARTITIONS: usize = 4;

/// The settings and views of one test; `topic` is its own.
fn configuration(topic: &str, bootstrap: &str, landing: &str) -> (String, String) {
    let with = format!("connector = 'kafka', topic = '{topic}', partitions = {PARTITIONS}");
    let toml = format!("[kafka]\n\"bootstrap.servers\" = '{bootstrap}'\n{SESSION}\n[landing]\nmax_age = '{landing}'");
    (views(&with), toml)
}

/// One half of the edits, produced with `anabranch ingest` straight to Kafka.
fn produce(edits: &Edits, site: &Site, range: std::ops::Range<usize>) -> TopicOffsets {
    let events = range.len() as u64;
    let args = ["ingest", TABLE, "-", "--config", site.config(), "--key", "user"];
    let (sent, through) = acknowledged(&site.cli_with_input(&args, &edits.body(range)).success());
    assert_eq!(sent, events);
    through
}

/// Which speed worker owns each partition.
fn owners(http: &Http) -> Vec<String> {
    let status = http.status();
    let partitions = status["sources"][TABLE]["partitions"]
        .as_object()
        .expect("partitions are listed");
    partitions
        .values()
        .filter_map(|partition| partition["owner"].as_str().map(str::to_owned))
        .collect()
}

/// Waits until every partition is owned, and `enough` of the owners.
fn wait_for_owners(what: &str, http: &Http, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
    until(what, MOVE, || {
        Some(owners(http)).filter(|owners| owners.len() == PARTITIONS && enough(owners))
    })
}

fn of_one_worker(owners: &[String]) -> bool {
    owners.windows(2).all(|pair| pair[0] == pair[1])
}

/// Every event landed exactly once, whoever landed it.
#[track_caller]
fn check_landed_once(site: &Site, events: usize) {
    let landed = master::read(site, TABLE);
    landed.assert_each_offset_once();
    assert_eq!(landed.counts(), (events, 0));
}

#[test]
fn wikipedia_through_kafka() {
    let Some(edits) = Edits::load("wikipedia_through_kafka") else {
        return;
    };
    let Some(kafka) = servers::kafka() else { return };
    let _gate = gate::heavy();
    let (sql, toml) = configuration("wikipedia-edits", &kafka.bootstrap(), "200ms");
    let site = Site::new(&sql, &toml);
    let (mut speed, mut batch, mut serve) = (site.start("speed"), site.start("batch"), site.start("serve"));
    let http = site.http();
    wait_for_owners("the speed process owns every partition", &http, of_one_worker);
    let (half, all) = (edits.half(), edits.lines.len());

    let first = produce(edits, &site, 0..half);
    edits.check("first half realtime", &http, half, &first);
    wait_landed(&http, TABLE, &first);
    assert_eq!(run_batch(&http)["rows"].as_u64(), Some(half as u64));
    edits.check("first half in a batch run", &http, half, &first);

    // The other half over HTTP.
    let (accepted, second) = http.ingest(TABLE, edits.body(half..all));
    assert_eq!(accepted, (all - half) as u64);
    let through: TopicOffsets = first.into_iter().chain(second).collect();
    assert_eq!(
        through.values().sum::<i64>(),
        EVENTS,
        "the log holds each event once: {through:?}"
    );
    edits.check("half batch, half realtime", &http, all, &through);

    for (process, service) in [(&mut speed, "speed"), (&mut batch, "batch"), (&mut serve, "serve")] {
        process.kill9();
        *process = site.start(service);
        edits.check(
            &format!("half and half, after kill -9 of {service}"),
            &http,
            all,
            &through,
        );
    }
    wait_landed(&http, TABLE, &through);
    assert_eq!(run_batch(&http)["rows"].as_u64(), Some(all as u64));
    edits.check("all in a batch run", &http, all, &through);
    check_landed_once(&site, all);
    for process in [&mut serve, &mut batch, &mut speed] {
        assert!(
            process.terminate().success(),
            "SIGTERM ends it in order\n{}",
            process.tail()
        );
    }
}

/// A second speed process on the same partitions, store and topic, with ports of its own.
fn second_site(first: &Site, sql: &str, toml: &str) -> Site {
    let store = first.file(".anabranch/store");
    Site::new(sql, &format!("{toml}\n[storage]\nurl = 'file://{}'", store.display()))
}

#[test]
fn two_speed_processes_share_partitions_and_one_takes_over() {
    let Some(edits) = Edits::load("two_speed_processes_share_partitions_and_one_takes_over") else {
        return;
    };
    let Some(kafka) = servers::kafka() else { return };
    let _gate = gate::heavy();
    let (sql, toml) = configuration("wikipedia-shared", &kafka.bootstrap(), "300ms");
    let site = Site::new(&sql, &toml);
    let (mut first, _batch, _serve) = (site.start("speed"), site.start("batch"), site.start("serve"));
    let http = site.http();
    wait_for_owners("the first speed process owns every partition", &http, of_one_worker);
    let (quarter, all) = (edits.lines.len() / 4, edits.lines.len());
    let mut through = produce(edits, &site, 0..quarter);
    edits.check("one process", &http, quarter, &through);

    // The second one joins while events come in.
    let other = second_site(&site, &sql, &toml);
    let mut second = other.spawn("speed");
    through.extend(produce(edits, &site, quarter..2 * quarter));
    other.ready("speed", &mut second);
    wait_for_owners("two processes share the partitions", &http, |owners| {
        !of_one_worker(owners)
    });
    edits.check("two processes", &http, 2 * quarter, &through);
    wait_landed(&http, TABLE, &through);
    run_batch(&http);

    // What the killed one held but had not landed is read again by the other.
    through.extend(produce(edits, &site, 2 * quarter..3 * quarter));
    first.kill9();
    through.extend(produce(edits, &site, 3 * quarter..all));
    wait_for_owners("the second process has taken over", &http, of_one_worker);
    edits.check("one was killed, the other took over", &http, all, &through);
    wait_landed(&http, TABLE, &through);
    check_landed_once(&site, all);
    assert_eq!(run_batch(&http)["rows"].as_u64(), Some(all as u64));
    edits.check("and recomputed", &http, all, &through);
}

/// A process that stands still past its session comes back believing that it owns its partitions. Whoever tells it first,
/// the group or the master dataset: it says so, discards what it had not landed, and nothing is there twice.
#[test]
fn a_process_that_stood_still_lands_nothing_twice() {
    let Some(edits) = Edits::load("a_process_that_stood_still_lands_nothing_twice") else {
        return;
    };
    let Some(kafka) = servers::kafka() else { return };
    let _gate = gate::heavy();
    // Long enough for the first one to be frozen with events that it has folded and not landed.
    let (sql, toml) = configuration("wikipedia-frozen", &kafka.bootstrap(), "3s");
    let site = Site::new(&sql, &toml);
    let (first, _batch, _serve) = (site.start("speed"), site.start("batch"), site.start("serve"));
    let http = site.http();
    let former = wait_for_owners("the first speed process owns every partition", &http, of_one_worker);
    let (half, all) = (edits.half(), edits.lines.len());
    let mut through = produce(edits, &site, 0..half);
    assert_eq!(totals(&http, &through), half as i64);
    first.freeze();

    let other = second_site(&site, &sql, &toml);
    let _second = other.start("speed");
    let now = |owners: &[String]| of_one_worker(owners) && owners[0] != former[0];
    wait_for_owners("the second process has taken over", &http, now);
    edits.check("taken over from a frozen process", &http, half, &through);
    through.extend(produce(edits, &site, half..all));
    edits.check("more events", &http, all, &through);

    first.thaw();
    until("the former owner says that its partitions are gone", MOVE, || {
        let log = first.stderr();
        (log.contains("lost=true") || says_refused(&first)).then_some(())
    });
    edits.check("after the former owner came back", &http, all, &through);
    wait_landed(&http, TABLE, &through);
    check_landed_once(&site, all);
    run_batch(&http);
    edits.check("and recomputed", &http, all, &through);
}

/// Another owner that the consumer group knows nothing of: only the master dataset can refuse the former one. The test
/// itself plays the other owner, by the same claim that a speed process makes.
#[test]
fn a_former_owner_is_refused_and_says_so() {
    let Some(edits) = Edits::load("a_former_owner_is_refused_and_says_so") else {
        return;
    };
    let Some(kafka) = servers::kafka() else { return };
    let _gate = gate::heavy();
    let (sql, toml) = configuration("wikipedia-fought-over", &kafka.bootstrap(), "300ms");
    let site = Site::new(&sql, &toml);
    let (mut speed, _batch, _serve) = (site.start("speed"), site.start("batch"), site.start("serve"));
    let http = site.http();
    wait_for_owners("the speed process owns every partition", &http, of_one_worker);
    let (half, all) = (edits.half(), edits.lines.len());
    let mut through = produce(edits, &site, 0..half);
    wait_landed(&http, TABLE, &through);
    edits.check("before the claim", &http, half, &through);
    run_batch(&http);

    master::claim(&site, TABLE, &[PartitionId(0), PartitionId(1)]);
    through.extend(produce(edits, &site, half..all));
    until("the former owner is refused and says so", MOVE, || {
        says_refused(&speed).then_some(())
    });
    until("/v1/status tells of the refusal", MOVE, || {
        (refusals(&http) >= 1).then_some(())
    });
    // The group still gives it the partitions, and the other owner is never heard of again: it claims them once more, reads
    // again what it had to discard, and lands it under the new epoch.
    wait_landed(&http, TABLE, &through);
    check_landed_once(&site, all);
    edits.check("claimed again", &http, all, &through);

    speed.kill9();
    let _speed = site.start("speed");
    edits.check("by a process that came later", &http, all, &through);
    check_landed_once(&site, all);
}

fn totals(http: &Http, through: &TopicOffsets) -> i64 {
    http.query_at_least("SELECT edits FROM totals", through).integers()[0]
}

fn says_refused(process: &Process) -> bool {
    process.stderr().contains("landing refused")
}

/// Refused landings that the live speed processes report.
fn refusals(http: &Http) -> u64 {
    let status = http.status();
    let reports = status["speed"].as_object().expect("speed processes report").values();
    reports
        .filter_map(|report| report["sources"][TABLE]["refused_total"].as_u64())
        .sum()
}
