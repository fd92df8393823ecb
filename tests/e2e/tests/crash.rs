//! The process dies at every crash point, starts again, goes on; and nothing is lost or counted twice.
//!
//! Every point of [`POINTS`] has its turn, in a copy of one prepared folder. A point that the work never passes fails the
//! test: whoever adds one teaches [`work`] the step it belongs to. `ANABRANCH_CRASH_POINTS=land.` tries only those whose name
//! holds that text.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anabranch_dataset::REDRIVE_HEADER;
use anabranch_e2e::oracle::{Oracle, Question};
use anabranch_e2e::orders::{self, Orders, TABLE};
use anabranch_e2e::{Answer, Dev, Feed, Process, Site, gate, master, until};
use anabranch_model::TopicOffsets;
use anabranch_model::crash::{POINTS, VARIABLE};
use serde_json::{Value, json};

const PARTITIONS: u32 = 2;
const TOPIC: &str = "orders";
/// Lands many times a second, and recomputes as often as it is asked to.
const SETTINGS: &str = "[landing]\nmax_age = '40ms'\n[speed]\npublication_poll = '50ms'\n[batch]\npoll = '50ms'";
/// Points tried side by side. Most of the time each waits for the dead process's leases to expire.
const AT_ONCE: usize = 4;
/// Nothing is left for long.
const TIDY: &str = "[maintenance]
every = '200ms'
compact_min_files = 2
vacuum_every = '300ms'
vacuum_after = '1m'
log_retention = '1h'
expire_every = '300ms'
keep_publications = 1
keep_runs = 1";
/// Longer ago than anything is kept by [`TIDY`].
const LONG: Duration = Duration::from_secs(3 * 24 * 3600);
/// Longest that the work may go on without passing the point. It only ends a hang: four processes share few cores with
/// whatever else runs.
const WORK: Duration = Duration::from_secs(180);
/// The table's version in the prepared folder: a few landings before a checkpoint is due.
const VERSION: u64 = 96;
const SIGABRT: i32 = 6;

fn with() -> String {
    format!("connector = 'log', topic = '{TOPIC}', partitions = {PARTITIONS}")
}

/// Maintenance goes on beside everything, unless it would be quicker than what is to be tried.
fn settings(point: &str) -> String {
    if point.starts_with("run.remove_results.") {
        format!("{SETTINGS}\n[maintenance]\nenabled = false")
    } else {
        format!("{SETTINGS}\n{TIDY}")
    }
}

/// What the table is declared with in the process that dies. The next one lets nothing expire any more.
fn with_until_then(point: &str) -> String {
    match point.starts_with("retention.") {
        true => format!("{}, retention = '1 second'", with()),
        false => with(),
    }
}

/// At which pass of a point the process dies: far enough in for there to be something to lose.
fn pass(point: &str) -> u64 {
    match point {
        "local.place.before" => 23,
        "local.place.after" => 37,
        _ if point.starts_with("land.") || point.starts_with("seal.") || point.starts_with("log.") => 3,
        _ if point.starts_with("run.record.") => 2,
        _ => 1,
    }
}

/// A folder with events landed long ago, a publication, a batch run that its process did not survive, files that were never
/// committed, and a checkpoint soon due.
fn prepared() -> Site {
    let mut orders = Orders::new(1);
    let mut dev = Dev::start(&orders::views(&with()), &settings("run.remove_results."));
    let through = dev.ingest(TABLE, orders.lines(300));
    dev.land_and_run(TABLE, &through);
    dev.terminate();
    let site = dev.into_site();
    for point in ["land.upload.after", "publish.before"] {
        let mut process = site.spawn_with("dev", &[(VARIABLE, point)]);
        work(point, &site, &mut process, &mut orders);
        drop(process);
        site.let_pass(LONG);
    }
    master::raise_version(&site, TABLE, VERSION);
    site
}

/// Produces and recomputes until the process dies at the point.
fn work(point: &str, site: &Site, process: &mut Process, orders: &mut Orders) {
    let (began, http) = (Instant::now(), site.http());
    for round in 0.. {
        if let Some(status) = process.ended() {
            let word = format!("crash point {point}:");
            assert!(
                status.signal() == Some(SIGABRT) && process.stderr().contains(&word),
                "{point}: it ended with {status}, but not there\n{}",
                process.tail()
            );
            return;
        }
        assert!(
            began.elapsed() < WORK,
            "crash point {point} was not passed {} times within {WORK:?}",
            pass(point)
        );
        // Whether it is still there to answer is what this is about.
        let _ = http.try_post_bytes("/v1/ingest/orders?on_invalid=dead_letter", orders.lines(10));
        if round % 5 == 4 {
            let _ = http.try_post("/v1/batch/runs", &json!({}));
            if point.starts_with("redrive.") {
                let path = "/v1/tables/orders/dead-letters/redrive";
                let _ = http.try_post(path, &json!({"undecodable": true}));
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Everything that is asked, each answer exact.
fn ask(dev: &Dev, through: &TopicOffsets) -> Vec<Answer> {
    let ask = |question: &Question| dev.query_at_least(&question.sql, through);
    orders::questions(TOPIC).iter().map(ask).collect()
}

/// Dies at one point, comes back, and is held against the log.
fn dies_and_comes_back(point: &str, prepared: &Site, seed: u64) {
    let mut orders = Orders::new(seed);
    // A table is created once.
    let site = if point.starts_with("table.create.") {
        Site::new("", &settings(point))
    } else {
        prepared.fork(&settings(point))
    };
    site.write_views(&orders::grown_views(&with_until_then(point)));
    if point.starts_with("clean_log.") {
        // A checkpoint of long ago.
        master::raise_version(&site, TABLE, VERSION + 10);
        let hint = site.file(&format!(".anabranch/store/sources/{TABLE}/_delta_log/_last_checkpoint"));
        until("the checkpoint is written", WORK, || hint.exists().then_some(()));
        site.let_pass(LONG);
    }
    let armed = format!("{point}:{}", pass(point));
    let mut process = site.spawn_with("dev", &[(VARIABLE, &armed)]);
    work(point, &site, &mut process, &mut orders);
    drop(process);

    site.write_views(&orders::grown_views(&with()));
    let mut dev = Dev::at(site);
    let redriven = until("every redrive is done", WORK, || {
        let redrives = dev
            .http()
            .get("/v1/tables/orders/dead-letters/redrives")
            .expect(200)
            .json();
        let redrives = redrives["redrives"].as_array().expect("redrives are listed").clone();
        let letters = |redrive: &Value| redrive["letters"].as_u64().filter(|_| redrive["state"] == "done");
        redrives.iter().map(letters).sum::<Option<u64>>()
    });
    let through = dev.ingest(TABLE, orders.lines(40));
    let after_restart = ask(&dev, &through);
    let through = after_restart[0].covered().served_through.clone();
    dev.wait_landed(TABLE, &through);
    dev.run_batch();
    let recomputed = ask(&dev, &through);
    until("no batch run is left unsettled", WORK, || {
        let runs = dev.http().get("/v1/batch/runs").expect(200).json();
        let runs = runs["runs"].as_array().or(runs.as_array())?.clone();
        let settled = |run: &serde_json::Value| run["state"] == "published" || run["state"] == "failed";
        runs.iter().all(settled).then_some(())
    });
    dev.terminate();
    let site = dev.into_site();

    let feed = Feed::embedded(&site.file(".anabranch/log"), TOPIC, PARTITIONS);
    let ends = feed.ends();
    let origins = feed.header(REDRIVE_HEADER, &ends);
    let different: BTreeSet<&String> = origins.iter().collect();
    assert_eq!(
        (origins.len() as u64, different.len() as u64),
        (redriven, redriven),
        "{point}: each dead letter was redriven once"
    );
    let asked = point.starts_with("redrive.") && point != "redrive.ask.before";
    assert_eq!(redriven > 0, asked, "{point}: what was asked for is done");
    let mut oracles: BTreeMap<TopicOffsets, Oracle> = BTreeMap::new();
    for (moment, answers) in [("after the restart", after_restart), ("recomputed", recomputed)] {
        for (question, answer) in answers.iter().enumerate() {
            let since = answer.covered().since.clone();
            let oracle = oracles.entry(since).or_insert_with_key(|since| {
                let mut oracle = Oracle::since(orders::questions(TOPIC), since.clone());
                feed.extend(&mut oracle, &ends, WORK)
                    .unwrap_or_else(|error| panic!("{point}: {error}"));
                oracle
            });
            if let Some(contradiction) = oracle.contradiction(question, answer) {
                panic!("{point}, {moment}: {contradiction}");
            }
            let served = &answer.covered().served_through;
            assert_eq!(served, &ends, "{point}, {moment}: not the whole log");
        }
    }
    let landed = master::read(&site, TABLE);
    landed.assert_each_offset_once();
    let (events, dead) = landed.counts();
    assert_eq!(
        (events + dead) as i64,
        landed.positions(),
        "{point}: landed and dead letters are what was produced and has not expired"
    );
    let next: i64 = landed.snapshot.next.iter().map(|(_, next)| next.0).sum();
    assert_eq!(next, ends.values().sum::<i64>(), "{point}: everything has landed");
    assert!(dead > 0 || events < 300, "{point}: some lines do not decode");
    assert_eq!(
        oracles.keys().any(|since| !since.is_empty()),
        point == "retention.commit.after",
        "{point}: events expire only where that is asked for"
    );
}

fn reason(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
        .to_owned()
}

#[test]
fn every_crash_point_is_survived() {
    let _gate = gate::heavy();
    let only = std::env::var("ANABRANCH_CRASH_POINTS").ok();
    let wanted = |point: &&&str| only.as_ref().is_none_or(|only| point.contains(only.as_str()));
    let prepared = prepared();
    // The slowest first.
    let mut queue: VecDeque<(u64, &str)> = (100..).zip(POINTS.iter().filter(wanted).copied()).collect();
    queue
        .make_contiguous()
        .sort_by_key(|(_, point)| !point.starts_with("expire."));
    let (queue, failures) = (Mutex::new(queue), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("nobody panics with the queue").pop_front();
                    let Some((seed, point)) = next else { return };
                    let began = Instant::now();
                    let outcome = catch_unwind(AssertUnwindSafe(|| dies_and_comes_back(point, &prepared, seed)));
                    println!("{point}: {:.1} s", began.elapsed().as_secs_f64());
                    if let Err(panic) = outcome {
                        let mut failures = failures.lock().expect("nobody panics with the failures");
                        failures.push(format!("{point}: {}", reason(panic.as_ref())));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nobody panicked with the failures");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
