//! Runs that build on each other, are compared with what is served, are held, and are gone back on: answers stay right
//! throughout, and a publication that is wrong is found.

use std::time::Duration;

use anabranch_e2e::{Dev, Site, gate, until};
use anabranch_model::TopicOffsets;
use serde_json::{Value, json};

use crate::edits::{Edits, TABLE, views};

const LOG: &str = "connector = 'log', partitions = 2";
const WITHIN: Duration = Duration::from_secs(120);
const SETTINGS: &str = "[landing]\nmax_age = '200ms'\n[batch]\nmode = 'incremental'\nfull_every = 0\non_diff = 'hold'";

/// Runs a command to its end; returns its exit code and what it printed.
fn command(site: &Site, args: &[&str]) -> (i32, String) {
    let output = site.cli(&[args, &["--config", site.config()]].concat());
    let code = output.code.expect("the command ended by itself");
    (code, format!("{}{}", output.stdout, output.stderr))
}

/// Sends a part of the file and waits until it has landed.
fn feed(dev: &Dev, edits: &Edits, part: std::ops::Range<usize>) -> TopicOffsets {
    let through = dev.ingest(TABLE, edits.body(part));
    dev.wait_landed(TABLE, &through);
    through
}

/// Every view of a run was compared in full, realtime state and all, and nothing differs.
#[track_caller]
fn assert_agrees(run: &Value) {
    let views = run["diff"]["views"].as_object().expect("the run was compared");
    assert_eq!(views.len(), 4, "{run}");
    for (name, view) in views {
        let differing = ["differing", "only_computed", "only_served"].map(|key| view[key].as_u64());
        assert_eq!(differing, [Some(0); 3], "{name}: {view}");
        assert_eq!(
            (&view["skipped"], &view["not_compared"]),
            (&Value::Null, &json!({})),
            "{name}"
        );
        assert!(view["compared"].as_u64() > Some(0), "{name}: {view}");
    }
}

fn publication(dev: &Dev) -> u64 {
    let status = dev.status();
    status["publication"]["number"]
        .as_u64()
        .expect("something is published")
}

/// What is served of `totals` from now on is what an older publication says, as a bug in a run might leave it.
fn falsify(site: &Site, number: u64, older: u64) {
    let file = |number: u64| site.file(&format!(".anabranch/store/publications/{number:020}.json"));
    let read = |number: u64| -> Value {
        let text = std::fs::read(file(number)).expect("the publication can be read");
        serde_json::from_slice(&text).expect("it is JSON")
    };
    let mut publication = read(number);
    publication["manifest"]["views"]["totals"] = read(older)["manifest"]["views"]["totals"].clone();
    let text = serde_json::to_vec_pretty(&publication).expect("it is JSON again");
    std::fs::write(file(number), text).expect("the publication can be written");
}

#[test]
fn answers_stay_right_while_runs_build_on_each_other_are_rolled_back_and_verified() {
    let Some(edits) = Edits::load("answers_stay_right_while_runs_build_on_each_other_are_rolled_back_and_verified")
    else {
        return;
    };
    let _gate = gate::heavy();
    let mut dev = Dev::start(&views(LOG), SETTINGS);
    let quarter = edits.lines.len() / 4;

    let mut through = feed(&dev, edits, 0..quarter);
    let first = dev.run_batch();
    assert_eq!(
        (&first["mode"], &first["reason"]),
        (&json!("full"), &json!("nothing is published yet"))
    );
    assert_agrees(&first);
    edits.check("after a full run", dev.http(), quarter, &through);

    // What a run costs follows what is new.
    for (part, base) in [(1, &first["run_id"]), (2, &Value::Null)] {
        through = feed(&dev, edits, part * quarter..(part + 1) * quarter);
        edits.check("before an incremental run", dev.http(), (part + 1) * quarter, &through);
        let run = dev.run_batch();
        assert_eq!(
            (&run["mode"], &run["rows"]),
            (&json!("incremental"), &json!(quarter)),
            "{run}"
        );
        assert!(base.is_null() || run["base"] == *base, "{run}");
        assert_agrees(&run);
        edits.check("after an incremental run", dev.http(), (part + 1) * quarter, &through);
    }
    let (code, printed) = command(dev.site(), &["verify"]);
    assert_eq!(code, 0, "the chain says what all of history says: {printed}");

    // Back by one run, and by number to the first: realtime state begins at the old cut again.
    for (args, of) in [(&["runs", "rollback"][..], 2), (&["runs", "rollback", "1"][..], 1)] {
        let (code, printed) = command(dev.site(), args);
        assert_eq!(code, 0, "{printed}");
        assert!(printed.contains(&format!("back to {of}")), "{printed}");
        edits.check("after a rollback", dev.http(), 3 * quarter, &through);
    }
    until("the rollback is served", WITHIN, || {
        (publication(&dev) == 5).then_some(())
    });
    let totals = dev.query("SELECT * FROM totals");
    let cut: i64 = totals.coverage["totals"].batch_cut.values().sum();
    assert_eq!(cut, quarter as i64, "{:?}", totals.coverage);
    edits.check("after two rollbacks", dev.http(), 3 * quarter, &through);

    // Life goes on from there: over a restart, with new events, and with a run that builds on what is served.
    dev.restart();
    through = feed(&dev, edits, 3 * quarter..edits.lines.len());
    edits.check(
        "after a rollback and a restart",
        dev.http(),
        edits.lines.len(),
        &through,
    );
    let run = dev.run_batch();
    assert_eq!(run["mode"], "incremental");
    assert_eq!(run["base"], first["run_id"], "what is served is the first run");
    assert_agrees(&run);
    edits.check(
        "after a run on what was rolled back to",
        dev.http(),
        edits.lines.len(),
        &through,
    );

    // A publication that is wrong is found, since somebody looks at all of history.
    let number = publication(&dev);
    dev.terminate();
    falsify(dev.site(), number, 1);
    dev.restart();
    let (code, printed) = command(dev.site(), &["verify", "totals"]);
    assert_eq!(code, 1, "{printed}");
    assert!(
        printed.contains("totals") && printed.contains("editors = "),
        "{printed}"
    );
    // A full run is held, since it differs; publishing it puts things right.
    let (code, printed) = command(dev.site(), &["runs", "start", "--full"]);
    assert_eq!(code, 2, "held: {printed}");
    let runs = dev.http().get("/v1/batch/runs?limit=1").expect(200).json();
    let held = &runs["runs"][0];
    assert_eq!(
        (&held["state"], &held["diff"]["views"]["totals"]["differing"]),
        (&json!("held"), &json!(1)),
        "{held}"
    );
    assert_eq!(
        held["diff"]["views"]["hourly"]["differing"], 0,
        "only what is wrong differs"
    );
    let id = held["run_id"].as_str().expect("a run has an id");
    let (code, printed) = command(dev.site(), &["runs", "show", id]);
    assert_eq!(code, 0);
    assert!(
        printed.contains("held") && printed.contains("runs publish"),
        "{printed}"
    );
    assert_eq!(publication(&dev), number, "nothing was published");
    let (code, printed) = command(dev.site(), &["runs", "publish", id]);
    assert_eq!(code, 0, "{printed}");
    until("it is served", WITHIN, || {
        (publication(&dev) == number + 1).then_some(())
    });
    edits.check(
        "after the held run was published",
        dev.http(),
        edits.lines.len(),
        &through,
    );
    let (code, printed) = command(dev.site(), &["verify"]);
    assert_eq!(code, 0, "{printed}");
    let (code, printed) = command(dev.site(), &["runs", "discard", id]);
    assert_eq!(code, 1, "it is not held any more: {printed}");
}
