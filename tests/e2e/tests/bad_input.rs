//! Events that are none: counted, kept with their bytes and the reason, and never in the way of the others.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch::platform::Platform;
use anabranch_e2e::{Dev, Site, block_on, data, gate, master, until};
use anabranch_model::{RawRecord, TopicOffsets};
use serde_json::json;

const SQL: &str = "
CREATE TABLE readings (at TIMESTAMP NOT NULL, sensor TEXT, value BIGINT, ratio DOUBLE, ok BOOLEAN, note TEXT)
WITH (connector = 'log', format = 'json', event_time = 'at', partitions = 2);
CREATE MATERIALIZED VIEW sensors AS SELECT sensor, count(*) AS readings, sum(value) AS value FROM readings GROUP BY sensor;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS readings, sum(value) AS value FROM readings;
";
const SOON: &str = "[landing]\nmax_age = '200ms'";
const MEGABYTE: usize = 1 << 20;

/// Lines that are events, with their values.
fn good() -> Vec<(String, i64)> {
    let mut lines: Vec<(String, i64)> = (0..500)
        .map(|n| {
            (
                json!({"at": "2024-01-01T00:00:00Z", "sensor": format!("s{}", n % 7), "value": n}).to_string(),
                n,
            )
        })
        .collect();
    lines.push((
        json!({"at": "2024-01-01T00:00:00Z", "value": 1, "note": "x".repeat(MEGABYTE)}).to_string(),
        1,
    ));
    lines.push((
        json!({"at": "2024-01-01T00:00:00Z", "value": 2, "undeclared": {"deep": [1, 2, {"er": null}]}}).to_string(),
        2,
    ));
    lines.push((
        json!({"at": "2024-01-01T00:00:00Z", "sensor": null, "value": null, "ok": null}).to_string(),
        0,
    ));
    lines
}

/// Lines that are no events.
fn bad() -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = [
        // Malformed.
        r#"{"at":"2024-01-01T00:00:00Z","value":1"#,
        r#"{"at":"2024-01-01T00:00:00Z","value":}"#,
        "not json at all",
        "[1,2,3]",
        "42",
        "null",
        r#"{"at":"2024-01-01T00:00:00Z"} trailing"#,
        // Wrong types.
        r#"{"at":"2024-01-01T00:00:00Z","value":"many"}"#,
        r#"{"at":"2024-01-01T00:00:00Z","value":{"a":1}}"#,
        r#"{"at":"2024-01-01T00:00:00Z","value":1.5}"#,
        r#"{"at":"2024-01-01T00:00:00Z","value":99999999999999999999}"#,
        r#"{"at":"2024-01-01T00:00:00Z","ok":"maybe"}"#,
        r#"{"at":"yesterday","value":1}"#,
        // Missing event time.
        r#"{"sensor":"s1","value":1}"#,
        r#"{"at":null,"sensor":"s1","value":1}"#,
        "{}",
    ]
    .iter()
    .map(|line| line.as_bytes().to_vec())
    .collect();
    lines.push(
        [
            br#"{"at":"2024-01-01T00:00:00Z","note":""#.as_slice(),
            &vec![b'x'; MEGABYTE],
            b"\"".as_slice(),
        ]
        .concat(),
    );
    lines.push(
        [
            br#"{"at":"2024-01-01T00:00:00Z","note":""#.as_slice(),
            b"\xff\xfe\x80",
            br#""}"#.as_slice(),
        ]
        .concat(),
    );
    lines.push(vec![0xff; 64]);
    lines
}

fn dead_letters(dev: &Dev) -> Option<u64> {
    dev.status()["sources"]["readings"]["dead_letters"].as_u64()
}

/// Waits until the status says so: services report to each other with a delay.
fn wait_for_dead_letters(dev: &Dev, expected: usize) {
    until(
        &format!("/v1/status counts {expected} dead letters"),
        Duration::from_secs(120),
        || (dead_letters(dev)? == expected as u64).then_some(()),
    );
}

#[test]
fn bad_lines_are_kept_as_dead_letters() {
    let _gate = gate::heavy();
    let (good, bad) = (good(), bad());
    let mut dev = Dev::start(SQL, SOON);
    // Bad lines among the good ones.
    let mut lines: Vec<Vec<u8>> = good.iter().map(|(line, _)| line.as_bytes().to_vec()).collect();
    for (at, line) in bad.iter().enumerate() {
        lines.insert(at * 20, line.clone());
    }
    let produced = lines.len();
    // Blank lines are no events, for HTTP as for the command line.
    let half = lines.split_off(produced / 2);
    let body = |lines: Vec<Vec<u8>>| [b"\n  \n\r\n".to_vec(), data::ndjson(lines), b" \t\n".to_vec()].concat();
    let (accepted, mut through) = dev.http().ingest("readings", body(lines));
    let file = dev.site().file("half.ndjson");
    std::fs::write(&file, body(half)).expect("the folder can be written to");
    let (acknowledged, more) = dev.ingest_file("readings", &file);
    through.extend(more);
    assert_eq!(accepted + acknowledged, produced as u64);
    let sums = [good.len() as i64, good.iter().map(|(_, value)| value).sum()];
    let check = |dev: &Dev, moment: &str| {
        let answer = dev.query_at_least("SELECT readings, value FROM totals", &through);
        assert_eq!(answer.integers(), sums, "{moment}");
        wait_for_dead_letters(dev, bad.len());
    };
    check(&dev, "realtime");
    dev.wait_landed("readings", &through);
    check(&dev, "landed");

    let landed = master::read(dev.site(), "readings");
    landed.assert_each_offset_once();
    assert_eq!(
        landed.counts(),
        (good.len(), bad.len()),
        "landed + dead letters = events produced"
    );
    let mut kept: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for (raw, reason) in landed.rows.iter().filter_map(|row| row.dead.as_ref()) {
        assert!(
            !reason.is_empty(),
            "a dead letter without a reason: {}",
            String::from_utf8_lossy(raw)
        );
        *kept.entry(raw.clone()).or_default() += 1;
    }
    let expected: BTreeMap<Vec<u8>, usize> = bad.iter().map(|line| (line.clone(), 1)).collect();
    let lost: Vec<_> = expected
        .keys()
        .filter(|line| !kept.contains_key(*line))
        .map(|line| String::from_utf8_lossy(line))
        .collect();
    assert!(kept == expected, "dead letters keep their bytes; not found: {lost:?}");

    let run = dev.run_batch();
    assert_eq!(
        run["rows"].as_u64(),
        Some(good.len() as u64),
        "dead letters are not folded"
    );
    check(&dev, "after a batch run");
    dev.kill9();
    dev.restart();
    check(&dev, "after kill -9");
}

/// What HTTP cannot send: records without a value, and with an empty one.
#[test]
fn empty_values_and_tombstones_are_dead_letters() {
    let _gate = gate::heavy();
    let site = Site::new(SQL, SOON);
    let event = |value: i64| {
        json!({"at": "2024-01-01T00:00:00Z", "sensor": "s", "value": value})
            .to_string()
            .into_bytes()
    };
    let payloads = [
        Some(event(1)),
        Some(Vec::new()),
        None,
        Some(event(2)),
        Some(b"\n".to_vec()),
        None,
    ];
    let through: TopicOffsets = block_on(async {
        let platform = Platform::load(site.path()).expect("the folder is in order");
        let source = platform.source("readings").expect("it is declared");
        let log = platform.opener().log(source).await.expect("nobody else holds the log");
        let records = payloads.iter().map(|payload| RawRecord {
            payload: payload.clone(),
            ..RawRecord::default()
        });
        let through = log.append(records.collect()).await.expect("the log takes records");
        through
            .iter()
            .map(|(p, next)| (anabranch_model::topic_partition("readings", p), next.0))
            .collect()
    });
    let dev = Dev::at(site);
    let answer = dev.query_at_least("SELECT readings, value FROM totals", &through);
    assert_eq!(answer.integers(), [2, 3]);
    wait_for_dead_letters(&dev, 4);
    dev.wait_landed("readings", &through);
    let landed = master::read(dev.site(), "readings");
    landed.assert_each_offset_once();
    assert_eq!(landed.counts(), (2, 4));
}

/// `on_invalid=reject`, the default: a bad line refuses the whole request, and nothing is produced.
#[test]
fn a_rejected_request_produces_nothing() {
    let _gate = gate::heavy();
    let dev = Dev::start(SQL, SOON);
    let line = |n: i64| json!({"at": "2024-01-01T00:00:00Z", "sensor": "s", "value": n}).to_string();
    let body = data::ndjson([
        line(1),
        line(2),
        r#"{"at":"2024-01-01T00:00:00Z","value":"many"}"#.to_owned(),
        line(4),
    ]);
    for path in ["/v1/ingest/readings", "/v1/ingest/readings?on_invalid=reject"] {
        let (code, message, _) = dev.http().post_bytes(path, body.clone()).error(400);
        assert_eq!(code, "invalid");
        assert!(message.contains("line 3"), "the line's number: {message}");
        assert!(message.contains("value"), "the reason: {message}");
    }
    let reply = dev
        .http()
        .post_bytes("/v1/ingest/readings", data::ndjson([line(1), line(2)]))
        .expect(200)
        .json();
    assert_eq!(reply["accepted"], 2);
    let through: TopicOffsets =
        serde_json::from_value(reply["through"].clone()).expect("`through` maps partitions to offsets");
    assert_eq!(
        through.values().sum::<i64>(),
        2,
        "nothing of the refused requests was produced: {through:?}"
    );
    let answer = dev.query_at_least("SELECT readings, value FROM totals", &through);
    assert_eq!(answer.integers(), [2, 3]);
    assert_eq!(dead_letters(&dev).unwrap_or(0), 0);
}
