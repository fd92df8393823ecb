//! Every type that a column of a view can have, with extremes, nulls and odd characters: each client shows what `/v1/sql` shows.

use std::process::Command;

use anabranch_e2e::{Dev, clients, data, gate, ports, python};
use serde_json::{Value, json};

use super::figure;

const VIEWS: &str = "
CREATE TABLE things (id BIGINT NOT NULL, flag BOOLEAN, small INT, medium INT, large BIGINT, ratio DOUBLE, exact DOUBLE,
    money DECIMAL(20, 4), label TEXT, day DATE, at TIMESTAMP)
WITH (connector = 'log', format = 'json', partitions = 1);
CREATE MATERIALIZED VIEW kinds AS SELECT id, flag, CAST(small AS SMALLINT) AS small, medium, large, CAST(ratio AS REAL) AS ratio, exact, money, label, day, at,
    count(*) AS times, sum(money) AS spent, avg(exact) AS mean, min(at) AS first_at, max(label) AS last_label
FROM things GROUP BY id, flag, CAST(small AS SMALLINT), medium, large, CAST(ratio AS REAL), exact, money, label, day, at;
";
const COLUMNS: &str =
    "id, flag, small, medium, large, ratio, exact, money, label, day, at, times, spent, mean, first_at, last_label";
const ODD: &str = "a\tb\nc\\d\"e'f,g{h}|i;ü漢😀\u{1}\r%s$1";

fn things() -> Vec<Value> {
    vec![
        json!({"id": 1, "flag": true, "small": 1, "medium": -2, "large": 3, "ratio": 0.1, "exact": 0.30000000000000004,
            "money": "1234567890123456.5678", "label": "plain", "day": "2026-11-22", "at": "2026-11-22T01:02:03.000004Z"}),
        json!({"id": 2}),
        json!({"id": 3, "flag": false, "small": i16::MIN, "medium": i32::MIN, "large": i64::MIN, "ratio": -3.4e38,
            "exact": 1.5e300, "money": "-0.0001", "label": ODD, "day": "0001-01-01", "at": "1969-12-31T23:59:59.999999Z"}),
        json!({"id": 4, "flag": true, "small": i16::MAX, "medium": i32::MAX, "large": i64::MAX, "ratio": 1e-38,
            "exact": 2.5e-300, "money": "0", "label": "", "day": "9999-12-31", "at": "9999-12-31T23:59:59Z"}),
        json!({"id": 5, "label": "NULL", "exact": -0.5, "at": "2000-02-29T12:00:00Z"}),
    ]
}

/// One spelling for what clients have in types of their own.
fn spelled(column: usize, value: &Value) -> String {
    let text = match value {
        Value::Null => return "null".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match column {
        1 => text.replace("True", "true").replace("False", "false"),
        // Of 32 bits, whether a client widens them or not.
        5 => format!("{:.6e}", text.parse::<f32>().expect("a number")),
        6 | 13 => figure(text.parse().expect("a number")),
        10 | 14 => {
            let text = text.replace(' ', "T");
            let text = text
                .trim_end_matches('Z')
                .trim_end_matches("+00:00")
                .trim_end_matches("+00");
            text.to_owned()
        }
        _ => format!("={text}"),
    }
}

fn table(rows: &[Vec<Value>]) -> Vec<Vec<String>> {
    let row = |row: &Vec<Value>| {
        row.iter()
            .enumerate()
            .map(|(column, value)| spelled(column, value))
            .collect()
    };
    rows.iter().map(row).collect()
}

#[test]
fn every_type_is_shown_as_over_http() {
    const TEST: &str = "every_type_is_shown_as_over_http";
    let _gate = gate::heavy();
    let (port, flight_sql) = (ports::free(), ports::free());
    let settings = format!(
        "[landing]\nmax_age = '200ms'\n\
         [serving]\npostgres_listen = '127.0.0.1:{port}'\nflight_sql_listen = '127.0.0.1:{flight_sql}'"
    );
    let dev = Dev::start(VIEWS, &settings);
    let lines = things().into_iter().map(|thing| thing.to_string());
    let through = dev.ingest("things", data::ndjson(lines));
    let sql = format!("SELECT {COLUMNS} FROM kinds ORDER BY id");
    // From realtime state, and from a batch view.
    for moment in ["realtime", "batch"] {
        let answer = dev.query_at_least(&sql, &through);
        let expected = table(&answer.rows);
        assert_eq!(expected.len(), 5, "{moment}: {answer:?}");
        assert_eq!(answer.rows[1][1..11], vec![Value::Null; 10], "{moment}");
        assert_eq!(
            (&answer.rows[2][8], &answer.rows[2][15]),
            (&json!(ODD), &json!(ODD)),
            "{moment}"
        );
        assert_eq!(
            (&answer.rows[0][7], &answer.rows[2][4]),
            (&json!("1234567890123456.5678"), &json!(i64::MIN))
        );
        match clients::psql() {
            Ok(psql) => assert_eq!(table(&with_psql(&psql, port, &sql)), expected, "{moment}: psql"),
            Err(reason) => gate::skip(TEST, &reason),
        }
        match python::sql_clients() {
            Ok(python) => {
                let script = include_str!("../clients/psycopg_session.py");
                let mut session = python::Dialogue::start(&python, script, &[&port.to_string(), ""]);
                for binary in [false, true] {
                    let answer = session.ask(&json!({"sql": sql, "binary": binary}));
                    assert_eq!(table(&rows(&answer)), expected, "{moment}: psycopg, binary: {binary}");
                }
                let script = include_str!("../clients/adbc_session.py");
                let mut session = python::Dialogue::start(&python, script, &[&flight_sql.to_string()]);
                let answer = session.ask(&json!({"sql": sql}));
                assert_eq!(table(&rows(&answer)), expected, "{moment}: ADBC");
            }
            Err(reason) => gate::skip(TEST, &format!("no Python with psycopg: {reason}")),
        }
        if moment == "realtime" {
            dev.land_and_run("things", &through);
        }
    }
}

#[track_caller]
fn rows(answer: &Value) -> Vec<Vec<Value>> {
    serde_json::from_value(answer["rows"].clone()).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// What psql prints, with separators that no value has.
fn with_psql(psql: &std::path::Path, port: u16, sql: &str) -> Vec<Vec<Value>> {
    let output = Command::new(psql)
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-h",
            "127.0.0.1",
            "-U",
            "tester",
            "-d",
            "anabranch",
        ])
        .args([
            "-F",
            "\u{1f}",
            "-R",
            "\u{1e}",
            "-P",
            "null=\u{1d}",
            "-p",
            &port.to_string(),
            "-c",
            sql,
        ])
        .output();
    let printed = super::printed(&output.expect("psql can be run"));
    let printed = printed
        .strip_suffix('\n')
        .unwrap_or(&printed)
        .trim_end_matches('\u{1e}');
    let cell = |cell: &str| match cell {
        "\u{1d}" => Value::Null,
        "t" => json!(true),
        "f" => json!(false),
        text => json!(text),
    };
    let row = |row: &str| row.split('\u{1f}').map(cell).collect();
    printed.split('\u{1e}').map(row).collect()
}
