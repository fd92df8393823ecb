//! A day of Wikipedia edits: the same answers whatever arm of the river the events are in, and whatever was killed.

use std::time::{Duration, Instant};

use anabranch_e2e::dev::start_run;
use anabranch_e2e::{Dev, gate, master};
use anabranch_model::TopicOffsets;
use serde_json::json;

use crate::edits::{EVENTS, Edits, TABLE, views};

const LOG: &str = "connector = 'log', partitions = 3";
/// Lands within a fraction of a second.
const SOON: &str = "[landing]\nmax_age = '200ms'";
/// Lands nothing by itself while a test runs.
const NEVER: &str = "[landing]\nmax_age = '1h'\nmax_bytes = '1GiB'";

/// Checks all answers as they are, after kill -9, and after a graceful stop.
fn check_through_restarts(edits: &Edits, moment: &str, dev: &mut Dev, events: usize, through: &TopicOffsets) {
    edits.check(moment, dev.http(), events, through);
    dev.kill9();
    dev.restart();
    edits.check(&format!("{moment}, after kill -9"), dev.http(), events, through);
    let status = dev.terminate();
    assert!(status.success(), "{moment}: SIGTERM ended it with {status}\n");
    dev.restart();
    edits.check(&format!("{moment}, after SIGTERM"), dev.http(), events, through);
}

/// Sums of the batch part and of the served part of `totals`.
fn cut_and_served(dev: &Dev, through: &TopicOffsets) -> (i64, i64) {
    let answer = dev.query_at_least("SELECT edits FROM totals", through);
    (answer.covered().batch_cut.values().sum(), answer.events_covered())
}

#[test]
fn realtime_only_not_landed() {
    let Some(edits) = Edits::load("realtime_only_not_landed") else {
        return;
    };
    let _gate = gate::heavy();
    let mut dev = Dev::start(&views(LOG), NEVER);
    let (acknowledged, through) = dev.ingest_file(TABLE, &edits.file);
    assert_eq!(acknowledged, EVENTS as u64);
    assert_eq!(
        through.values().sum::<i64>(),
        EVENTS,
        "each event has one offset: {through:?}"
    );
    edits.check("realtime only", dev.http(), edits.lines.len(), &through);
    assert_eq!(
        master::read(dev.site(), TABLE).counts(),
        (0, 0),
        "this test is about events that have not landed"
    );
    check_through_restarts(edits, "realtime only", &mut dev, edits.lines.len(), &through);
    assert_eq!(cut_and_served(&dev, &through), (0, EVENTS));
    let status = dev.process().interrupt();
    assert!(status.success(), "Ctrl-C ended it with {status}");
}

#[test]
fn landed_then_half_in_a_batch_run_then_all() {
    let Some(edits) = Edits::load("landed_then_half_in_a_batch_run_then_all") else {
        return;
    };
    let _gate = gate::heavy();
    let mut dev = Dev::start(&views(LOG), SOON);
    let (half, all) = (edits.half(), edits.lines.len());

    let first = dev.ingest(TABLE, edits.body(0..half));
    dev.wait_landed(TABLE, &first);
    check_through_restarts(edits, "landed, no publication", &mut dev, half, &first);

    let run = dev.land_and_run(TABLE, &first);
    assert_eq!(
        run["rows"].as_i64(),
        Some(half as i64),
        "the run folded every landed row: {run}"
    );
    assert_eq!(cut_and_served(&dev, &first), (half as i64, half as i64));
    edits.check("first half in a batch run", dev.http(), half, &first);

    let through = dev.ingest(TABLE, edits.body(half..all));
    // An ingest answer names the partitions it wrote to.
    let through: TopicOffsets = first.into_iter().chain(through).collect();
    assert_eq!(cut_and_served(&dev, &through), (half as i64, EVENTS));
    check_through_restarts(edits, "half batch, half realtime", &mut dev, all, &through);
    assert_eq!(
        cut_and_served(&dev, &through),
        (half as i64, EVENTS),
        "no run was asked for"
    );

    dev.land_and_run(TABLE, &through);
    assert_eq!(cut_and_served(&dev, &through), (EVENTS, EVENTS));
    check_through_restarts(edits, "all in a batch run", &mut dev, all, &through);
}

/// One partition, so that every answer is of a prefix of the file, and its only right content is known.
#[test]
fn every_answer_while_runs_publish() {
    let Some(edits) = Edits::load("every_answer_while_runs_publish") else {
        return;
    };
    let _gate = gate::heavy();
    let mut dev = Dev::start(&views("connector = 'log', partitions = 1"), SOON);
    let prefixes = edits.prefixes();
    let answers_equal_their_coverage = |dev: &Dev, moment: &str| -> i64 {
        let answer = dev.query("SELECT edits, added, editors FROM totals");
        let coverage = answer.covered();
        assert!(coverage.exact, "{moment}: not exact: {coverage:?}");
        let events = answer.events_covered();
        assert_eq!(
            answer.integers(),
            prefixes[events as usize],
            "{moment}: the answer is not its prefix: {coverage:?}"
        );
        let cut: i64 = coverage.batch_cut.values().sum();
        assert!(cut <= events, "{moment}: {coverage:?}");
        events
    };

    let first = dev.ingest(TABLE, edits.body(0..edits.half()));
    dev.wait_landed(TABLE, &first);
    let (mut answers, mut published, mut last) = (0, 0, 0);
    std::thread::scope(|scope| {
        let (http, edits) = (dev.http().clone(), &edits);
        let producer = scope.spawn(move || {
            // The rest comes in while runs publish.
            for start in (edits.half()..edits.lines.len()).step_by(500) {
                http.ingest(TABLE, edits.body(start..edits.lines.len().min(start + 500)));
            }
        });
        while published < 3 || answers <= 10 || !producer.is_finished() {
            let run = start_run(dev.http());
            let began = Instant::now();
            loop {
                let events = answers_equal_their_coverage(&dev, "while a run publishes");
                assert!(events >= last, "answers went back from {last} to {events} events");
                last = events;
                answers += 1;
                let state = dev.http().get(&format!("/v1/batch/runs/{run}")).expect(200).json()["state"].clone();
                assert_ne!(state, "failed");
                if state == "published" {
                    published += 1;
                    break;
                }
                assert!(began.elapsed() < Duration::from_secs(180), "the run does not end");
            }
        }
    });
    let through = TopicOffsets::from([("wikipedia/0".to_owned(), EVENTS)]);
    edits.check("after runs published", dev.http(), edits.lines.len(), &through);

    // Killed in the middle of runs, at different points.
    for pause_ms in [0, 15, 40, 90] {
        start_run(dev.http());
        std::thread::sleep(Duration::from_millis(pause_ms));
        dev.kill9();
        dev.restart();
        let answer = dev.query_at_least("SELECT edits, added, editors FROM totals", &through);
        assert_eq!(
            answer.integers(),
            *prefixes.last().expect("there are prefixes"),
            "killed {pause_ms} ms into a run"
        );
    }
    edits.check("after kills during runs", dev.http(), edits.lines.len(), &through);
    dev.run_batch();
    edits.check("after a run that followed", dev.http(), edits.lines.len(), &through);
}

/// Killed while events come in: what was acknowledged is there, each once, and producing goes on.
#[test]
fn killed_while_events_come_in() {
    let Some(edits) = Edits::load("killed_while_events_come_in") else {
        return;
    };
    let _gate = gate::heavy();
    let mut dev = Dev::start(&views("connector = 'log', partitions = 1"), SOON);
    let chunk = edits.lines.len() / 8;
    let mut sent = 0;
    let mut through = TopicOffsets::new();
    while sent < edits.lines.len() {
        let end = edits.lines.len().min(sent + chunk);
        through = dev.ingest(TABLE, edits.body(sent..end));
        sent = end;
        // Anywhere between consuming, folding and landing.
        dev.kill9();
        dev.restart();
    }
    assert_eq!(through, TopicOffsets::from([("wikipedia/0".to_owned(), EVENTS)]));
    edits.check("killed after every chunk", dev.http(), edits.lines.len(), &through);
    dev.land_and_run(TABLE, &through);
    edits.check("and recomputed", dev.http(), edits.lines.len(), &through);
    let landed = master::read(dev.site(), TABLE);
    landed.assert_each_offset_once();
    assert_eq!(landed.counts(), (edits.lines.len(), 0));
}

/// A changed view is missing until a run has published it, and says so; the others stay.
#[test]
fn a_changed_view_is_recomputed() {
    let Some(edits) = Edits::load("a_changed_view_is_recomputed") else {
        return;
    };
    let _gate = gate::heavy();
    let sql = views(LOG);
    let mut dev = Dev::start(&sql, SOON);
    let (_, through) = dev.ingest_file(TABLE, &edits.file);
    let before = dev.land_and_run(TABLE, &through)["publication"].as_u64();
    let longest = "CREATE MATERIALIZED VIEW longest AS SELECT max(added) AS most, count(*) AS edits FROM wikipedia;";
    dev.terminate();
    dev.site().write_views(&format!("{sql}\n{longest}"));
    dev.restart();
    // Whether or not the run that the new view triggers has published yet: an answer that says it is exact is right.
    let answer = dev.http().sql_as(
        &json!({"sql": "SELECT edits, most FROM longest", "require": "exact", "timeout": "60s", "at_least": through}),
        "application/json",
    );
    assert_eq!(
        answer.clone().expect(200).json()["rows"][0][0],
        EVENTS,
        "{}",
        answer.text()
    );
    anabranch_e2e::until("the new view is published", Duration::from_secs(180), || {
        let published = dev.query("SELECT edits FROM longest").covered().publication;
        (published.is_some() && published > before).then_some(())
    });
    edits.check("after a new view", dev.http(), edits.lines.len(), &through);
}
