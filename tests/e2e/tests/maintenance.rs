//! Small files, old events, and the commands that look after them.

use std::time::Duration;

use anabranch_e2e::oracle::Oracle;
use anabranch_e2e::orders::{self, Orders, TABLE};
use anabranch_e2e::{Dev, Feed, gate, master, until};
use serde_json::Value;

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 2;
const WITHIN: Duration = Duration::from_secs(180);

fn with() -> String {
    format!("connector = 'log', topic = '{TOPIC}', partitions = {PARTITIONS}")
}

/// What `--json` prints.
fn told(dev: &Dev, command: &[&str]) -> Value {
    let args: Vec<&str> = command
        .iter()
        .copied()
        .chain(["--json", "--config", dev.site().config()])
        .collect();
    let output = dev.site().cli(&args).success();
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
}

/// What a person reads.
fn shown(dev: &Dev, command: &[&str]) -> String {
    let args: Vec<&str> = command
        .iter()
        .copied()
        .chain(["--config", dev.site().config()])
        .collect();
    dev.site().cli(&args).success().stdout
}

#[test]
fn small_files_are_merged_while_everything_goes_on() {
    let _gate = gate::heavy();
    let settings = "[landing]\nmax_age = '20ms'\n[maintenance]\nevery = '150ms'\ncompact_min_files = 4";
    let mut dev = Dev::start(&orders::views(&with()), settings);
    let mut orders = Orders::new(5);
    let mut through = anabranch_model::TopicOffsets::new();
    for chunk in 0..80 {
        let sent = dev.ingest(TABLE, orders.lines(25));
        dev.wait_landed(TABLE, &sent);
        through.extend(sent);
        match chunk {
            30 => drop(dev.run_batch()),
            50 => {
                dev.kill9();
                dev.restart();
            }
            _ => {}
        }
    }
    let state = until("files are merged", WITHIN, || {
        let state = told(&dev, &["maintenance"]);
        (state["tables"][TABLE]["files"].as_u64() < Some(30)).then_some(state)
    });
    assert_eq!(state["last"]["error"], Value::Null, "{state}");
    assert!(state["done_by"].is_string(), "{state}");
    assert!(state["tables"][TABLE]["version"].as_u64() > Some(80), "{state}");
    assert!(shown(&dev, &["maintenance"]).contains(TABLE));
    dev.run_batch();

    let mut oracle = Oracle::new(orders::questions(TOPIC));
    let answers: Vec<_> = oracle
        .questions()
        .iter()
        .map(|question| dev.query_at_least(&question.sql, &through))
        .collect();
    dev.terminate();
    let site = dev.into_site();
    let feed = Feed::embedded(&site.file(".anabranch/log"), TOPIC, PARTITIONS);
    let ends = feed.ends();
    feed.extend(&mut oracle, &ends, WITHIN)
        .unwrap_or_else(|error| panic!("{error}"));
    for (question, answer) in answers.iter().enumerate() {
        if let Some(contradiction) = oracle.contradiction(question, answer) {
            panic!("{contradiction}");
        }
        assert_eq!(&answer.covered().served_through, &ends, "the whole log");
    }
    let landed = master::read(&site, TABLE);
    landed.assert_each_offset_once();
    let (events, dead) = landed.counts();
    assert_eq!((events + dead) as i64, ends.values().sum::<i64>());
}

#[test]
fn what_expires_leaves_the_views_and_answers_say_since_when() {
    let _gate = gate::heavy();
    let with = format!("{}, retention = '3 seconds'", with());
    // Nothing expires by itself here.
    let settings = "[landing]\nmax_age = '50ms'\n[batch]\npoll = '100ms'\n[maintenance]\nenabled = false";
    let dev = Dev::start(&orders::views(&with), settings);
    let mut orders = Orders::new(6);
    let old = dev.ingest(TABLE, orders.lines(400));
    dev.land_and_run(TABLE, &old);
    let before = dev.query_at_least("SELECT orders FROM totals", &old);
    assert!(before.covered().since.is_empty(), "{:?}", before.coverage);

    let foreseen = until("all of that is old enough", WITHIN, || {
        let foreseen = told(&dev, &["retention", "--dry-run"]);
        (foreseen["tables"][TABLE]["rows"] == 400).then_some(foreseen)
    });
    assert_eq!(foreseen["dry_run"], true);
    let told_since = |report: &Value| -> anabranch_model::TopicOffsets {
        let partitions = report["tables"][TABLE]["partitions"]
            .as_object()
            .expect("partitions expire");
        let since = |part: &Value| part["since"].as_i64().expect("an offset");
        partitions
            .iter()
            .map(|(name, part)| (name.clone(), since(part)))
            .collect()
    };
    assert_eq!(told_since(&foreseen), old);
    let words = shown(&dev, &["retention", "--dry-run"]);
    assert!(
        words.contains("Nothing was changed") && words.contains("400"),
        "{words}"
    );
    assert_eq!(dev.query("SELECT orders FROM totals").rows, before.rows);

    // What comes now is young.
    let mut through = old.clone();
    through.extend(dev.ingest(TABLE, orders.lines(30)));
    dev.wait_landed(TABLE, &through);
    let report = told(&dev, &["retention"]);
    let since = told_since(&report);
    let answer = until("a run has dropped what expired", WITHIN, || {
        let answer = dev.query_at_least("SELECT orders, amount FROM totals", &through);
        let covered = answer.covered();
        (covered.since == since && covered.exact).then_some(answer)
    });
    let runs = dev.http().get("/v1/batch/runs").expect(200).json();
    assert_eq!(runs["runs"][0]["trigger"], "retention", "{runs}");

    let mut oracle = Oracle::new(orders::questions(TOPIC));
    let mut dev = dev;
    dev.terminate();
    let site = dev.into_site();
    let feed = Feed::embedded(&site.file(".anabranch/log"), TOPIC, PARTITIONS);
    feed.extend(&mut oracle, &feed.ends(), WITHIN)
        .unwrap_or_else(|error| panic!("{error}"));
    let expected = |through: &anabranch_model::TopicOffsets, column: usize| -> i64 {
        oracle.rows(0, through)[0][column].as_i64().unwrap_or_default()
    };
    for column in [0, 1] {
        assert_eq!(
            answer.integers()[column],
            expected(&through, column) - expected(&since, column),
            "column {column}"
        );
    }
}
