//! Drivers of Python that ask otherwise than psycopg: in the binary format alone, with cursors, and by COPY.

use std::path::Path;

use anabranch_e2e::python;
use serde_json::{Value, json};

use super::{Served, hour};

pub fn see_it(served: &Served, python: &Path) {
    let script = include_str!("../clients/drivers_client.py");
    let found = python::script(python, script, &[&served.port.to_string(), &served.at_least()]);
    let found: Value =
        serde_json::from_str(&found.unwrap_or_else(|error| panic!("{error}"))).expect("the script prints JSON");
    for driver in ["asyncpg", "psycopg2"] {
        let found = &found[driver];
        let hours: Vec<Vec<Value>> = serde_json::from_value(found["hours"].clone()).expect("rows");
        let hours = hours.iter().map(|row| hour(row));
        assert_eq!(hours.collect::<Vec<_>>(), served.hours(), "{driver}");
        assert_eq!(
            found["pages"],
            json!(served.pages()),
            "{driver}: a cursor gives all rows"
        );
    }
    let of_channel = served
        .ask("SELECT edits FROM edits_per_channel WHERE channel = '#en.wikipedia'")
        .integers()[0];
    let asyncpg = &found["asyncpg"];
    assert_eq!(asyncpg["since"], json!(served.totals()[0]));
    assert_eq!(
        asyncpg["csv"],
        json!(format!("edits,channel\n{of_channel},#en.wikipedia\n"))
    );
    assert_eq!(asyncpg["binary"], json!(["5047434f50590aff0d0a00", "ffff"]));
    assert_eq!(
        (&asyncpg["application"], &asyncpg["required"]),
        (&json!(""), &json!("exact")),
        "what came with the connection stays"
    );
    let psycopg2 = &found["psycopg2"];
    assert_eq!(psycopg2["names"], json!(["count", "count", "max"]));
    assert_eq!(psycopg2["copied"], json!(served.pages()));
    let edits = |from: &str| {
        let sql = format!("SELECT sum(edits) FROM hourly WHERE hour = '{from}'");
        served.ask(&sql).integers()[0]
    };
    assert_eq!(
        psycopg2["grains"],
        json!([
            ["2015-09-12T03:00:00+00:00", edits("2015-09-12T03:00:00Z")],
            ["2015-09-12T04:00:00+00:00", edits("2015-09-12T04:00:00Z")]
        ])
    );
    let first = served
        .ask("SELECT edits FROM hourly WHERE channel = '#en.wikipedia' ORDER BY hour LIMIT 1")
        .integers()[0];
    assert_eq!(
        psycopg2["dialect"],
        json!(["2015-09-12 00:00", 8.0, first as f64 / 2.0])
    );
    assert_eq!(psycopg2["savepoint"], json!(["one", "1000ms"]));
}
