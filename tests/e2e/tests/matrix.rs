//! {embedded log, Apache Kafka} × {local folder, S3}: the edits and the worked cases on each. The embedded log with a local
//! folder has all the other tests of this crate; here are the other three.

use std::time::Duration;

use anabranch_e2e::dev::start_run;
use anabranch_e2e::{Backend, Dev, gate, master, until};
use anabranch_model::TopicOffsets;

use crate::edits::{EVENTS, Edits, TABLE, views};
use crate::examples::{Examples, every_case};

const PARTITIONS: u32 = 3;

/// Realtime, half and half, recomputed; killed in each of these states and during a run, and stopped in order.
fn edits(test: &str, backend: Option<Backend>) {
    let (Some(edits), Some(backend)) = (Edits::load(test), backend) else {
        return;
    };
    let _gate = gate::heavy();
    let settings = backend.settings(test, None);
    let mut dev = Dev::start(
        &views(&backend.with(test, PARTITIONS)),
        &format!("{settings}\n[landing]\nmax_age = '200ms'"),
    );
    let (half, all) = (edits.half(), edits.lines.len());
    let first = dev.ingest(TABLE, edits.body(0..half));
    edits.check("realtime", dev.http(), half, &first);
    dev.kill9();
    dev.restart();
    edits.check("realtime, after kill -9", dev.http(), half, &first);
    dev.land_and_run(TABLE, &first);
    edits.check("first half in a batch run", dev.http(), half, &first);

    let second = dev.ingest(TABLE, edits.body(half..all));
    let through: TopicOffsets = first.into_iter().chain(second).collect();
    edits.check("half batch, half realtime", dev.http(), all, &through);
    dev.terminate();
    dev.restart();
    edits.check("half batch, half realtime, after SIGTERM", dev.http(), all, &through);

    dev.wait_landed(TABLE, &through);
    let run = start_run(dev.http());
    until("the run has published", Duration::from_secs(180), || {
        let answer = dev.query_at_least("SELECT edits FROM totals", &through);
        assert_eq!(answer.integers(), [EVENTS], "while a run publishes");
        let state = dev.http().get(&format!("/v1/batch/runs/{run}")).expect(200).json()["state"].clone();
        assert_ne!(state, "failed");
        (state == "published").then_some(())
    });
    edits.check("all in a batch run", dev.http(), all, &through);
    start_run(dev.http());
    dev.kill9();
    dev.restart();
    edits.check("killed during a batch run", dev.http(), all, &through);

    let landed = master::read(dev.site(), TABLE);
    landed.assert_each_offset_once();
    assert_eq!(landed.counts(), (all, 0));
}

fn cases(test: &str, backend: Option<Backend>) {
    let (Some(examples), Some(backend)) = (Examples::load(test), backend) else {
        return;
    };
    let _gate = gate::heavy();
    every_case(&examples, &backend, test);
}

#[test]
fn edits_on_log_and_s3() {
    edits("edits-log-s3", Backend::log_and_s3());
}

#[test]
fn edits_on_kafka_and_folder() {
    edits("edits-kafka-folder", Backend::kafka_and_folder());
}

#[test]
fn edits_on_kafka_and_s3() {
    edits("edits-kafka-s3", Backend::kafka_and_s3());
}

#[test]
fn examples_on_log_and_s3() {
    cases("examples-log-s3", Backend::log_and_s3());
}

#[test]
fn examples_on_kafka_and_folder() {
    cases("examples-kafka-folder", Backend::kafka_and_folder());
}

#[test]
fn examples_on_kafka_and_s3() {
    cases("examples-kafka-s3", Backend::kafka_and_s3());
}
