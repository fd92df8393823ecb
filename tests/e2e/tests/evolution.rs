//! What may change between two starts on the same folder, and what may not.

use anabranch_e2e::compare::assert_same_rows;
use anabranch_e2e::{Dev, data, gate};
use anabranch_model::TopicOffsets;
use serde_json::{Value, json};

const SOON: &str = "[landing]\nmax_age = '200ms'";

/// A table of ticks with these columns beside `at`, and its totals.
fn ticks(columns: &str, partitions: u32) -> String {
    format!(
        "CREATE TABLE ticks (at TIMESTAMP NOT NULL, {columns})
         WITH (connector = 'log', event_time = 'at', partitions = {partitions});
         CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS ticks, sum(n) AS n FROM ticks;\n"
    )
}

fn lines(range: std::ops::Range<i64>) -> Vec<u8> {
    let color = |n: i64| ["red", "green", "blue"][n as usize % 3];
    data::ndjson(range.map(|n| json!({"at": "2024-01-01T00:00:00Z", "n": n, "color": color(n)}).to_string()))
}

fn totals(dev: &Dev, through: &TopicOffsets) -> Vec<i64> {
    dev.query_at_least("SELECT ticks, n FROM totals", through).integers()
}

/// Colours of 300 events from before the column was declared, and of 300 from after.
fn colors_declared_later(options: &str, expected: &[Vec<Value>]) {
    let with = |sql: String| sql.replace("partitions = 1", &format!("partitions = 1{options}"));
    let mut dev = Dev::start(&with(ticks("n BIGINT", 1)), SOON);
    let first = dev.ingest("ticks", lines(0..300));
    dev.wait_landed("ticks", &first);
    dev.terminate();
    let colors =
        "CREATE MATERIALIZED VIEW colors AS SELECT color, count(*) AS ticks, sum(n) AS n FROM ticks GROUP BY color;";
    let views = format!("{}{colors}", ticks("n BIGINT, color TEXT", 1));
    dev.site().write_views(&with(views));
    dev.restart();
    let through = dev.ingest("ticks", lines(300..600));
    let check = |dev: &Dev, moment: &str| {
        assert_same_rows(
            moment,
            expected,
            &dev.query_at_least("SELECT color, ticks, n FROM colors", &through).rows,
        );
        assert_eq!(totals(dev, &through), [600, (0..600).sum::<i64>()], "{moment}");
    };
    check(&dev, "realtime");
    dev.land_and_run("ticks", &through);
    check(&dev, "after a batch run");
}

fn color(name: &str, index: i64, events: std::ops::Range<i64>) -> Vec<Value> {
    let events = events.filter(|n| n % 3 == index);
    vec![json!(name), json!(events.clone().count()), json!(events.sum::<i64>())]
}

#[test]
fn a_column_declared_later_is_filled_from_raw_bytes() {
    let _gate = gate::heavy();
    let expected = [("red", 0), ("green", 1), ("blue", 2)].map(|(name, index)| color(name, index, 0..600));
    colors_declared_later("", &expected);
}

#[test]
fn without_raw_bytes_it_is_null_in_what_was_landed_before() {
    let _gate = gate::heavy();
    let mut expected = [("red", 0), ("green", 1), ("blue", 2)]
        .map(|(name, index)| color(name, index, 300..600))
        .to_vec();
    expected.push(vec![json!(null), json!(300), json!((0..300).sum::<i64>())]);
    colors_declared_later(", keep_raw = 'false'", &expected);
}

#[test]
fn a_topic_may_get_more_partitions() {
    let _gate = gate::heavy();
    let mut dev = Dev::start(&ticks("n BIGINT", 1), SOON);
    let first = dev.ingest("ticks", lines(0..100));
    dev.land_and_run("ticks", &first);
    dev.terminate();
    dev.site().write_views(&ticks("n BIGINT", 3));
    dev.restart();
    let mut through = first;
    // Batches without a key go round the partitions.
    for start in (100..700).step_by(100) {
        through.extend(dev.ingest("ticks", lines(start..start + 100)));
    }
    assert_eq!(through.len(), 3, "all partitions are used: {through:?}");
    assert_eq!(totals(&dev, &through), [700, (0..700).sum::<i64>()]);
    dev.kill9();
    dev.restart();
    assert_eq!(totals(&dev, &through), [700, (0..700).sum::<i64>()]);
    dev.land_and_run("ticks", &through);
    assert_eq!(totals(&dev, &through), [700, (0..700).sum::<i64>()]);
}

#[test]
fn another_type_of_a_landed_column_is_refused() {
    let _gate = gate::heavy();
    let mut dev = Dev::start(&ticks("n BIGINT", 1), SOON);
    let through = dev.ingest("ticks", lines(0..10));
    dev.wait_landed("ticks", &through);
    dev.terminate();
    let site = dev.site();
    site.write_views(&ticks("n DOUBLE", 1));
    let refused = site.cli(&["dev", "--config", site.config()]).refused();
    for part in ["ticks", "`n`"] {
        assert!(
            refused.stderr.contains(part),
            "the error does not name {part}: {}",
            refused.stderr
        );
    }
}

#[test]
fn another_log_under_a_landed_table_is_refused() {
    let _gate = gate::heavy();
    let mut dev = Dev::start(&ticks("n BIGINT", 1), SOON);
    let through = dev.ingest("ticks", lines(0..10));
    dev.wait_landed("ticks", &through);
    dev.terminate();
    let site = dev.site();
    let log = site.file(".anabranch/log");
    std::fs::rename(&log, site.file("moved")).expect("the log can be moved");
    let refused = site.cli(&["dev", "--config", site.config()]).refused();
    assert!(
        refused.stderr.contains("ticks") && refused.stderr.contains("log"),
        "{}",
        refused.stderr
    );
    // With the right log back, it goes on.
    std::fs::remove_dir_all(&log).expect("the new log can be removed");
    std::fs::rename(site.file("moved"), &log).expect("the log can be moved back");
    dev.restart();
    assert_eq!(totals(&dev, &through), [10, 45]);
}
