//! Compares every group of every view with the generator's truth.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::demo::clicks::Truth;

/// How often an answer is asked for again because a publication came in between.
const ATTEMPTS: u32 = 10;

/// What one comparison found.
pub struct Checked {
    pub views: Vec<ViewChecked>,
    /// In words; empty when everything is equal.
    pub differences: Vec<String>,
}

/// One view's clicks, as each layer counts them.
pub struct ViewChecked {
    pub name: &'static str,
    pub groups: u64,
    pub batch: u64,
    pub realtime: u64,
    pub merged: u64,
    pub truth: u64,
    pub equal: bool,
}

/// A view's rows in comparable form: group → its other columns.
type Rows = BTreeMap<String, String>;

/// Asks for exact answers that cover `at_least`, and compares them.
///
/// # Errors
/// When an exact answer cannot be had in time.
pub async fn check(client: &Client, truth: &Truth, at_least: &Map<String, Value>) -> Result<Checked> {
    let mut checked = Checked {
        views: Vec::new(),
        differences: Vec::new(),
    };
    for (name, sql, expected) in [
        (
            "totals",
            "SELECT 'all' AS everything, clicks, revenue FROM totals",
            totals(truth),
        ),
        (
            "pages",
            "SELECT page, clicks, duration_ms, visitors FROM pages",
            pages(truth),
        ),
        (
            "actions",
            "SELECT CAST(\"window\" AS VARCHAR) || ' ' || action AS \"group\", clicks FROM actions",
            actions(truth),
        ),
    ] {
        let [merged, batch, realtime] = ask_all(client, name, sql, at_least).await?;
        let found = rows(&merged)?;
        let differences = differences(name, &expected, &found);
        checked.views.push(ViewChecked {
            name,
            groups: expected.len() as u64,
            batch: clicks(&batch),
            realtime: clicks(&realtime),
            merged: clicks(&merged),
            truth: truth.events,
            equal: differences.is_empty(),
        });
        checked.differences.extend(differences);
    }
    Ok(checked)
}

/// Asks for the merged answer and for each arm alone, all three by the same publication.
async fn ask_all(client: &Client, view: &str, sql: &str, at_least: &Map<String, Value>) -> Result<[Value; 3]> {
    for _ in 0..ATTEMPTS {
        let merged = ask(client, sql, at_least, "merged").await?;
        let batch = ask(client, sql, &Map::new(), "batch").await?;
        let realtime = ask(client, sql, &Map::new(), "realtime").await?;
        let publication = |answer: &Value| answer["coverage"][view]["publication"].clone();
        if publication(&merged) == publication(&batch) && publication(&merged) == publication(&realtime) {
            return Ok([merged, batch, realtime]);
        }
    }
    bail!("publications follow each other faster than {view} can be asked about");
}

async fn ask(client: &Client, sql: &str, at_least: &Map<String, Value>, layer: &str) -> Result<Value> {
    let mut body = json!({"sql": sql, "layer": layer, "timeout": "120s"});
    if layer == "merged" {
        body["require"] = "exact".into();
        body["at_least"] = Value::Object(at_least.clone());
    }
    let answer = client.sql(&body, "application/json").await?;
    serde_json::from_str(&answer).context("the answer is not JSON")
}

fn rows(answer: &Value) -> Result<Rows> {
    let rows = answer["rows"].as_array().context("the answer has no rows")?;
    Ok(rows
        .iter()
        .filter_map(Value::as_array)
        .map(|row| (text(&row[0]), row[1..].iter().map(text).collect::<Vec<_>>().join(" ")))
        .collect())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Clicks of an answer: its second column, summed.
fn clicks(answer: &Value) -> u64 {
    answer["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| row[1].as_u64())
        .sum()
}

fn differences(view: &str, expected: &Rows, found: &Rows) -> Vec<String> {
    let keys: std::collections::BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    keys.into_iter()
        .filter(|key| expected.get(*key) != found.get(*key))
        .map(|key| {
            let show = |rows: &Rows| rows.get(key).cloned().unwrap_or_else(|| "no row".into());
            format!("{view} `{key}`: truth {}, answer {}", show(expected), show(found))
        })
        .collect()
}

fn totals(truth: &Truth) -> Rows {
    let revenue = match truth.revenue_cents {
        0 => "null".into(),
        cents => format!("{}.{:02}", cents / 100, cents % 100),
    };
    Rows::from([("all".into(), format!("{} {revenue}", truth.events))])
}

fn pages(truth: &Truth) -> Rows {
    let row = |(page, t): (&String, &crate::demo::clicks::PageTruth)| {
        (
            page.clone(),
            format!("{} {} {}", t.clicks, t.duration_ms, t.visitors.len()),
        )
    };
    truth.pages.iter().map(row).collect()
}

fn actions(truth: &Truth) -> Rows {
    let row = |((window, action), clicks): (&(i64, &str), &u64)| {
        let start = chrono::DateTime::from_timestamp(*window, 0).unwrap_or_default();
        (
            format!("{} {action}", start.format("%Y-%m-%dT%H:%M:%SZ")),
            clicks.to_string(),
        )
    };
    truth.actions.iter().map(row).collect()
}
