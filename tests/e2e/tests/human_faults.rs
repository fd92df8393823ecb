//! What people get wrong, and put right on the command line: columns declared too strictly, events that should never have
//! been sent.

use std::time::Duration;

use anabranch_e2e::{Dev, data, gate, until};
use anabranch_model::TopicOffsets;
use serde_json::{Value, json};

/// Ends a hang.
const WITHIN: Duration = Duration::from_secs(120);
const SOON: &str = "[landing]\nmax_age = '200ms'\n[speed]\npublication_poll = '100ms'";

fn orders(n: &str) -> String {
    format!(
        "CREATE TABLE orders (at TIMESTAMP NOT NULL, n {n})
         WITH (connector = 'log', event_time = 'at', partitions = 1);
         CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS orders, sum(n) AS n FROM orders;\n"
    )
}

fn line(n: impl Into<Value>) -> String {
    json!({"at": "2024-01-01T00:00:00Z", "n": n.into()}).to_string()
}

fn run(dev: &Dev, args: &[&str]) -> String {
    let site = dev.site();
    site.cli(&[args, &["--config", site.config()]].concat())
        .success()
        .stdout
}

fn json_of(dev: &Dev, args: &[&str]) -> Value {
    serde_json::from_str(&run(dev, &[args, &["--json"]].concat())).expect("it prints JSON")
}

fn totals(dev: &Dev, through: &TopicOffsets) -> Vec<i64> {
    dev.query_at_least("SELECT orders, n FROM totals", through).integers()
}

/// Everything that is in the log by now.
fn ends(dev: &Dev) -> TopicOffsets {
    let status = dev.status();
    let partitions = status["sources"]["orders"]["partitions"]
        .as_object()
        .expect("it has partitions");
    let end = |(name, partition): (&String, &Value)| Some((name.clone(), partition["end"].as_i64()?));
    partitions.iter().filter_map(end).collect()
}

#[test]
fn dead_letters_are_redriven_once_on_the_command_line() {
    let _gate = gate::heavy();
    let mut dev = Dev::start(&orders("BIGINT NOT NULL"), SOON);
    let mut lines: Vec<String> = (0..20).map(line).collect();
    lines.extend((0..5).map(|_| line(Value::Null)));
    lines.push("{ no json".to_owned());
    let through = dev.ingest("orders", data::ndjson(lines));
    dev.wait_landed("orders", &through);
    assert_eq!(totals(&dev, &through), [20, 190]);

    let listed = run(&dev, &["dead-letters", "list"]);
    for part in ["6 dead letters of orders", "{ no json", "dead letters", "reason"] {
        assert!(listed.contains(part), "no `{part}` in\n{listed}");
    }
    let listed = json_of(&dev, &["dead-letters", "list", "--limit", "2"]);
    assert_eq!(
        (&listed["matched"], listed["dead_letters"].as_array().map(Vec::len)),
        (&json!(6), Some(2))
    );
    let counted: u64 = listed["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|r| r["count"].as_u64())
        .sum();
    assert_eq!(counted, 6);
    let letter = json_of(&dev, &["dead-letters", "show", "0", "25"]);
    assert_eq!(
        (&letter["payload"]["text"], &letter["decodes_now"]),
        (&json!("{ no json"), &json!(false))
    );
    let shown = run(&dev, &["dead-letters", "show", "0", "22"]);
    assert!(shown.contains("\"n\":null"), "{shown}");
    let refused = dev
        .site()
        .cli(&["dead-letters", "show", "0", "3", "--config", dev.site().config()])
        .refused();
    assert!(refused.stderr.contains("no dead letter"), "{}", refused.stderr);
    let nothing = json_of(&dev, &["dead-letters", "redrive"]);
    assert_eq!(
        (&nothing["letters"], &nothing["undecodable"]),
        (&json!(0), &json!(6)),
        "nothing has changed yet"
    );

    dev.terminate();
    dev.site().write_views(&orders("BIGINT"));
    dev.restart();
    let planned = json_of(&dev, &["dead-letters", "redrive", "--dry-run"]);
    assert_eq!((&planned["letters"], &planned["undecodable"]), (&json!(5), &json!(1)));
    let redriven = run(&dev, &["dead-letters", "redrive", "--by", "ada"]);
    assert!(redriven.contains("redrive 1 is done: 5 produced"), "{redriven}");
    let through = until("what was produced is seen", WITHIN, || {
        let ends = ends(&dev);
        (ends.values().sum::<i64>() == 31).then_some(ends)
    });
    assert_eq!(totals(&dev, &through), [25, 190]);
    let again = json_of(&dev, &["dead-letters", "redrive"]);
    assert_eq!(
        (&again["letters"], &again["redriven_before"]),
        (&json!(0), &json!(5)),
        "not twice unless asked"
    );
    let asked = json_of(&dev, &["dead-letters", "redrive", "--again", "--offsets", "20..22"]);
    assert_eq!(asked["done"]["produced"], 2);
    let redrives = run(&dev, &["dead-letters", "redrives"]);
    assert!(redrives.contains("ada") && redrives.contains("done"), "{redrives}");

    // The same after a batch run and a crash: they are events like all others.
    let through = until("what was produced is seen", WITHIN, || {
        let ends = ends(&dev);
        (ends.values().sum::<i64>() == 33).then_some(ends)
    });
    dev.land_and_run("orders", &through);
    assert_eq!(totals(&dev, &through), [27, 190]);
    dev.kill9();
    dev.restart();
    assert_eq!(totals(&dev, &through), [27, 190]);
    assert_eq!(
        json_of(&dev, &["dead-letters", "list"])["matched"],
        6,
        "letters stay where they are"
    );
}

#[test]
fn events_are_excluded_and_included_on_the_command_line() {
    let _gate = gate::heavy();
    let dev = Dev::start(&orders("BIGINT"), SOON);
    let through = dev.ingest("orders", data::ndjson((0..30).map(line)));
    dev.land_and_run("orders", &through);
    let all = [30, (0..30).sum::<i64>()];
    let rest = [20, (0..10).chain(20..30).sum::<i64>()];
    assert_eq!(totals(&dev, &through), all);

    let said = run(
        &dev,
        &[
            "exclude",
            "--partition",
            "0",
            "--offsets",
            "10..20",
            "--reason",
            "sent twice",
            "--by",
            "ada",
        ],
    );
    let id = json_of(&dev, &["exclude", "--list"])["exclusions"][0]["id"].to_string();
    assert!(said.contains(&format!("exclusion {id}: offsets 10..20")), "{said}");
    assert!(said.contains(&format!("anabranch include {id}")), "{said}");
    let wait = |expected: [i64; 2]| {
        until("the answer is right", WITHIN, || {
            (totals(&dev, &through) == expected).then_some(())
        });
    };
    wait(rest);
    let listed = run(&dev, &["exclude", "--list"]);
    for part in ["10..20", "sent twice", "ada"] {
        assert!(listed.contains(part), "no `{part}` in\n{listed}");
    }
    let published = || json_of(&dev, &["exclude", "--list"])["exclusions"][0]["published"] == true;
    until("a run has applied it", WITHIN, || published().then_some(()));
    assert_eq!(totals(&dev, &through), rest);

    let site = dev.site();
    let unreasoned = site.cli(&[
        "exclude",
        "--partition",
        "0",
        "--offsets",
        "1..2",
        "--config",
        site.config(),
    ]);
    assert!(unreasoned.stderr.contains("--reason"), "{}", unreasoned.stderr);
    let backwards = [
        "exclude",
        "--partition",
        "0",
        "--offsets",
        "5..2",
        "--reason",
        "x",
        "--config",
        site.config(),
    ];
    assert!(site.cli(&backwards).refused().stderr.contains("A..B"));

    let said = run(&dev, &["include", &id, "--by", "bob"]);
    assert!(said.contains(&format!("exclusion {id} is undone")), "{said}");
    wait(all);
    let unknown = site.cli(&["include", &id, "--config", site.config()]).refused();
    assert!(
        unknown.stderr.contains(&format!("has no exclusion {id}")),
        "{}",
        unknown.stderr
    );
}
