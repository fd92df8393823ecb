//! Batch runs: when they start by themselves, that they never overlap, that they spill, and that they are deterministic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anabranch_e2e::{Dev, gate, until};
use serde_json::Value;

use crate::edits::{EVENTS, Edits, TABLE, views};

const LOG: &str = "connector = 'log', partitions = 2";
const WITHIN: Duration = Duration::from_secs(180);

/// The edits' views and one with nearly as many groups as events.
fn with_many_groups() -> String {
    let edits = "CREATE MATERIALIZED VIEW edits AS
        SELECT time, page, \"user\", count(*) AS edits, sum(added) AS added FROM wikipedia GROUP BY time, page, \"user\";";
    format!("{}\n{edits}", views(LOG))
}

fn runs(dev: &Dev) -> Vec<Value> {
    let list = dev.http().get("/v1/batch/runs?limit=100").expect(200).json();
    list["runs"].as_array().expect("runs are listed").clone()
}

fn published(dev: &Dev, trigger: &str) -> usize {
    runs(dev)
        .iter()
        .filter(|run| run["trigger"] == trigger && run["state"] == "published")
        .count()
}

#[test]
fn runs_start_on_schedule_and_never_overlap() {
    let Some(edits) = Edits::load("runs_start_on_schedule_and_never_overlap") else {
        return;
    };
    let _gate = gate::heavy();
    let settings = "[landing]\nmax_age = '200ms'\n[batch]\nschedule = '* * * * * *'";
    let mut dev = Dev::start(&views(LOG), settings);
    let (_, through) = dev.ingest_file(TABLE, &edits.file);
    until("three runs have published by themselves", WITHIN, || {
        (published(&dev, "schedule") >= 3).then_some(())
    });
    edits.check("on schedule", dev.http(), edits.lines.len(), &through);
    let mut times: Vec<(String, String)> = runs(&dev)
        .iter()
        .filter(|run| run["state"] == "published")
        .map(|run| {
            ["started_at", "finished_at"].map(|key| run[key].as_str().expect("a published run has times").to_owned())
        })
        .map(|[started, finished]| (started, finished))
        .collect();
    times.sort();
    for pair in times.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "two runs overlap: {pair:?}");
    }
    assert!(dev.terminate().success(), "it stops in order while runs go on");
}

#[test]
fn state_beyond_its_budget_starts_a_run() {
    let Some(edits) = Edits::load("state_beyond_its_budget_starts_a_run") else {
        return;
    };
    let _gate = gate::heavy();
    let settings = "[landing]\nmax_age = '200ms'\n[speed]\nstate_budget = '1MiB'\n[batch]\nmemory_budget = '1MiB'";
    let dev = Dev::start(&with_many_groups(), settings);
    // At twice the budget the spout pauses until a run has published, and then goes on: everything comes in all the same.
    let (_, through) = dev.ingest_file(TABLE, &edits.file);
    edits.check("within the budget", dev.http(), edits.lines.len(), &through);
    until("a run was started by the budget", WITHIN, || {
        (published(&dev, "state_budget") >= 1).then_some(())
    });
    let sum = dev
        .query_at_least("SELECT count(*), sum(edits), sum(added) FROM edits", &through)
        .integers();
    assert_eq!(sum[1..], [EVENTS, crate::edits::ADDED]);
}

/// The same snapshot gives the same bytes, whether or not groups are spilled on the way.
#[test]
fn runs_are_deterministic_and_spill() {
    let Some(edits) = Edits::load("runs_are_deterministic_and_spill") else {
        return;
    };
    let _gate = gate::heavy();
    // Files that are merged between the two runs would make two snapshots of it.
    let settings = |budget: &str| {
        format!("[landing]\nmax_age = '200ms'\n[batch]\nmemory_budget = '{budget}'\n[maintenance]\nenabled = false")
    };
    let dev = Dev::start(&with_many_groups(), &settings("1MiB"));
    let (_, through) = dev.ingest_file(TABLE, &edits.file);
    let first = dev.land_and_run(TABLE, &through);
    let second = dev.run_batch();
    assert_eq!(first["cuts"], second["cuts"], "nothing was landed in between");
    let (first, second) = (view_files(&dev, &first), view_files(&dev, &second));
    assert!(first.len() >= 5, "every view has files: {:?}", first.keys());
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    for (name, bytes) in &first {
        assert!(
            bytes == &second[name],
            "{} differs between two runs over one snapshot",
            name.display()
        );
    }
    edits.check("spilled", dev.http(), edits.lines.len(), &through);
    let sum = dev
        .query_at_least("SELECT sum(edits), sum(added) FROM edits", &through)
        .integers();
    assert_eq!(sum, [EVENTS, crate::edits::ADDED]);
}

/// The Parquet files of a run, by their path in its folder.
fn view_files(dev: &Dev, run: &Value) -> BTreeMap<PathBuf, Vec<u8>> {
    fn below(folder: &Path, root: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).expect("the run's folder can be read") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() {
                below(&path, root, found);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                let name = path.strip_prefix(root).expect("it lies in the folder").to_owned();
                found.insert(name, std::fs::read(&path).expect("the file can be read"));
            }
        }
    }
    let id = run["run_id"].as_str().expect("a run has an id");
    let root = dev.site().file(".anabranch/store/runs").join(id);
    let mut found = BTreeMap::new();
    below(&root, &root, &mut found);
    found
}
