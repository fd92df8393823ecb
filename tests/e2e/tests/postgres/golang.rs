//! Clients written in Go, as Grafana is: pgx in each of its modes, and lib/pq.

use std::path::Path;

use anabranch_e2e::{data, go};
use serde_json::{Value, json};

use super::{Served, figure, hour};

const CLIENTS: &str = "tests/e2e/tests/clients";
const MODES: [&str; 6] = [
    "cache_describe",
    "cache_statement",
    "describe_exec",
    "exec",
    "lib_pq",
    "simple_protocol",
];

/// # Errors
/// Why there is none.
pub fn program() -> Result<std::path::PathBuf, String> {
    go::program("postgres-clients", &data::workspace().join(CLIENTS).join("go"))
}

/// What Grafana's panels ask, with its macros expanded as it expands them.
fn panels() -> std::path::PathBuf {
    data::workspace().join(CLIENTS).join("grafana_panels.sql")
}

/// What its query builder asks, which stands beside the catalog that answers it.
fn catalog() -> std::path::PathBuf {
    data::workspace().join("serving/postgres/src/catalog/clients/grafana.sql")
}

pub fn sees_it(served: &Served, program: &Path) {
    let (catalog, panels) = (catalog(), panels());
    let path = |path: &std::path::PathBuf| path.to_str().expect("a plain path").to_owned();
    let port = served.port.to_string();
    let printed = go::output(program, &[&port, &served.at_least(), &path(&catalog), &path(&panels)]);
    let found: Value =
        serde_json::from_str(&printed.unwrap_or_else(|error| panic!("{error}"))).expect("the program prints JSON");
    let modes: Vec<&String> = found.as_object().expect("an object").keys().collect();
    assert_eq!(modes, MODES);
    let text = std::fs::read_to_string(panels).expect("the panels are there");
    let questions: Vec<&str> = text.split(";\n").filter(|sql| !sql.trim().is_empty()).collect();
    let shown: Vec<Vec<Vec<String>>> = questions.iter().map(|sql| spelled(&served.ask(sql).rows)).collect();
    assert!(
        shown.iter().all(|rows| !rows.is_empty()),
        "every panel shows something: {shown:?}"
    );
    for mode in MODES {
        let found = &found[mode];
        assert_eq!(found["totals"], json!([served.totals()]), "{mode}");
        let hours = rows(&found["hours"]);
        assert_eq!(
            hours.iter().map(|row| hour(row)).collect::<Vec<_>>(),
            served.hours(),
            "{mode}"
        );
        assert_eq!(found["any"], json!(served.channels()[0]), "{mode}");
        assert_eq!(
            (&found["null"], &found["refused"]),
            (&Value::Null, &json!("42703")),
            "{mode}"
        );
        let built = found["grafana"].as_array().expect("a list");
        assert_eq!(spelled(&rows(&built[0])), [[figure(1600.0)]], "{mode}: the version");
        assert_eq!(built[2], json!([["anabranch"], ["public"]]), "{mode}: schemas");
        assert_eq!(built[3], json!(super::NAMES.map(|name| [name])), "{mode}: tables");
        assert_eq!(
            built[5],
            json!([["edits", "bigint"], ["added", "bigint"], ["editors", "bigint"]]),
            "{mode}: columns"
        );
        let panels = found["panels"].as_array().expect("a list");
        assert_eq!(panels.len(), questions.len(), "{mode}");
        for ((sql, panel), expected) in questions.iter().zip(panels).zip(&shown) {
            assert_eq!(&spelled(&rows(panel)), expected, "{mode}: {sql}");
        }
    }
}

fn rows(rows: &Value) -> Vec<Vec<Value>> {
    serde_json::from_value(rows.clone()).expect("rows are lists")
}

/// Rows as texts: numbers to 14 digits, instants to the second. Clients have each in their own type.
fn spelled(rows: &[Vec<Value>]) -> Vec<Vec<String>> {
    let cell = |value: &Value| match value {
        Value::Number(number) => figure(number.as_f64().expect("a number")),
        Value::String(text) => match text.parse::<f64>() {
            Ok(number) => figure(number),
            Err(_) => text.replace("+00:00", "Z").replace(".000000Z", "Z"),
        },
        other => other.to_string(),
    };
    rows.iter().map(|row| row.iter().map(cell).collect()).collect()
}
