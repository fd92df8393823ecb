//! Metrics: the list, the code, the dashboard, the alert rules and a running platform agree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anabranch_e2e::data::workspace;
use anabranch_e2e::{Dev, Http, gate, yaml};
use anabranch_runtime::telemetry::catalogue::{Kind, METRICS};
use serde_json::{Value, json};

/// Folders whose code has metrics.
const CODE: [&str; 4] = ["shared", "speed-layer", "batch-layer", "serving"];

/// Claims of identity providers' tokens, and the console's cookie, begin alike.
const NO_METRICS: [&str; 3] = ["anabranch_role", "anabranch_session", "anabranch_views"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !matches!(name, "tests" | "benches" | "target") {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") && !matches!(name, "tests.rs" | "testing.rs" | "catalogue.rs") {
            found.push(path);
        }
    }
}

/// Names that look like metrics, in string literals of a source text.
fn names(text: &str) -> BTreeSet<&str> {
    let literals = text
        .match_indices("\"anabranch_")
        .filter_map(|(at, _)| Some(text[at + 1..].split_once('"')?.0));
    let is_name = |name: &&str| {
        name.chars()
            .all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    literals.filter(is_name).collect()
}

/// Name → what macros make of it: its kind, and labels that are written beside it.
fn uses(text: &str) -> Vec<(&str, Kind, Vec<&str>)> {
    let kinds = [
        ("counter!(", Kind::Counter),
        ("gauge!(", Kind::Gauge),
        ("histogram!(", Kind::Histogram),
    ];
    let of = |(open, kind): (&'static str, Kind)| {
        text.split(open).skip(1).filter_map(move |call| {
            let call = call.split_once(';').map_or(call, |(call, _)| call);
            let name = call.trim_start().strip_prefix('"')?.split('"').next()?;
            let mut before: Vec<&str> = call.split("\" =>").collect();
            // Behind the last arrow there is a value.
            before.pop();
            let labels = before.into_iter().filter_map(|text| text.rsplit('"').next());
            Some((name, kind, labels.collect()))
        })
    };
    kinds.into_iter().flat_map(of).collect()
}

#[test]
fn every_metric_of_the_code_is_documented_and_every_documented_one_is_in_the_code() {
    let mut files = Vec::new();
    CODE.iter()
        .for_each(|folder| sources(&workspace().join(folder), &mut files));
    let texts: Vec<String> = files
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("a source file is text"))
        .collect();
    let documented: BTreeMap<&str, _> = METRICS.iter().map(|metric| (metric.name, metric)).collect();
    assert_eq!(documented.len(), METRICS.len(), "a metric is listed twice");
    let used: BTreeSet<&str> = texts.iter().flat_map(|text| names(text)).collect();
    let used: BTreeSet<&str> = used.into_iter().filter(|name| !NO_METRICS.contains(name)).collect();
    let listed: BTreeSet<&str> = documented.keys().copied().collect();
    let forgotten: Vec<_> = used.difference(&listed).collect();
    assert!(
        forgotten.is_empty(),
        "not in shared/runtime/src/telemetry/catalogue.rs: {forgotten:?}"
    );
    let imagined: Vec<_> = listed.difference(&used).collect();
    assert!(imagined.is_empty(), "documented, but nowhere in the code: {imagined:?}");
    for (name, kind, labels) in texts.iter().flat_map(|text| uses(text)) {
        let metric = documented[name];
        assert_eq!(metric.kind, kind, "{name} is documented as another kind");
        for label in labels {
            assert!(
                metric.labels.contains(&label),
                "{name} has a label {label} that is not documented"
            );
        }
    }
}

#[test]
fn metrics_are_found_in_source_text() {
    let text = "metrics::counter!(\"anabranch_a_total\", \"table\" => t, \"why\" => \"x\").increment(1);\n\
                gauge(\"anabranch_b\", 1.0); let crate_name = \"anabranch_c=debug\";";
    assert_eq!(
        names(text).into_iter().collect::<Vec<_>>(),
        ["anabranch_a_total", "anabranch_b"]
    );
    let uses = uses(text);
    assert_eq!(uses.len(), 1);
    assert_eq!((uses[0].0, uses[0].1), ("anabranch_a_total", Kind::Counter));
    assert_eq!(
        uses[0].2.iter().copied().collect::<BTreeSet<_>>(),
        BTreeSet::from(["table", "why"])
    );
}

/// Metrics that an expression of Prometheus' language names, as they are exposed.
fn named(expression: &str) -> BTreeSet<String> {
    let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let words = expression.split(|c| !word(c));
    words
        .filter(|word| word.starts_with("anabranch_"))
        .map(str::to_owned)
        .collect()
}

fn monitoring(file: &str) -> String {
    std::fs::read_to_string(workspace().join("deploy/monitoring").join(file)).expect("the sample is there")
}

/// Title → expressions of each panel of the dashboard.
fn panels() -> Vec<(String, Vec<String>)> {
    let dashboard: Value = serde_json::from_str(&monitoring("grafana-dashboard.json")).expect("the dashboard is JSON");
    assert!(dashboard["schemaVersion"].is_u64() && dashboard["uid"] == "anabranch");
    let panels = dashboard["panels"].as_array().expect("the dashboard has panels");
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    let expressions = |panel: &Value| -> Vec<String> {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets
            .map(|target| target["expr"].as_str().expect("a target has an expression").to_owned())
            .collect()
    };
    panels
        .iter()
        .filter(|panel| panel["type"] != "row")
        .map(|panel| {
            assert!(
                panel["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{panel} is not explained"
            );
            (
                panel["title"].as_str().expect("a panel has a title").to_owned(),
                expressions(panel),
            )
        })
        .collect()
}

/// Name → expression of each alert; each leads to a heading of the operations guide.
fn alerts() -> Vec<(String, String)> {
    let rules = yaml::parse(&monitoring("alerts.yaml")).expect("the rules are YAML");
    let guide = std::fs::read_to_string(workspace().join("docs/operations.md")).expect("the guide is there");
    let rules = rules["groups"][0]["rules"].as_array().expect("there are rules");
    rules
        .iter()
        .map(|rule| {
            let name = rule["alert"].as_str().expect("an alert has a name");
            let (runbook, severity) = (&rule["annotations"]["runbook"], &rule["labels"]["severity"]);
            assert_eq!(*runbook, format!("docs/operations.md#{}", name.to_lowercase()));
            assert!(
                guide.contains(&format!("### {name}\n")),
                "docs/operations.md does not say what to do about {name}"
            );
            assert!(
                severity == "warning" || severity == "critical",
                "{name} has no severity"
            );
            (
                name.to_owned(),
                rule["expr"].as_str().expect("an alert has an expression").to_owned(),
            )
        })
        .collect()
}

#[test]
fn brackets_of_expressions_close() {
    let alerts = alerts().into_iter().map(|(name, expression)| (name, vec![expression]));
    let all: Vec<_> = panels().into_iter().chain(alerts).collect();
    assert!(all.len() > 30, "the samples were not read properly");
    for (name, expressions) in all {
        assert!(!expressions.is_empty(), "{name} shows nothing");
        for expression in expressions {
            let mut open = Vec::new();
            for letter in expression.chars() {
                match letter {
                    '(' | '[' | '{' => open.push(letter),
                    ')' => assert_eq!(open.pop(), Some('('), "{expression}"),
                    ']' => assert_eq!(open.pop(), Some('['), "{expression}"),
                    '}' => assert_eq!(open.pop(), Some('{'), "{expression}"),
                    _ => {}
                }
            }
            assert!(
                open.is_empty() && !named(&expression).is_empty(),
                "{name}: {expression}"
            );
        }
    }
}

/// Name of every sample that a process exposes → the type that is said of it.
fn scraped(text: &str) -> BTreeMap<String, String> {
    let typed: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(|name| {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix));
            let kind = typed
                .get(name)
                .or_else(|| typed.get(base?))
                .copied()
                .unwrap_or_default();
            (name.to_owned(), kind.to_owned())
        })
        .collect()
}

#[test]
fn dashboard_and_alerts_name_metrics_that_a_running_platform_has() {
    let _gate = gate::heavy();
    let sql = "CREATE TABLE clicks (time TIMESTAMP NOT NULL, page TEXT) WITH (connector = 'log', event_time = 'time', partitions = 1);
               CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS clicks FROM clicks GROUP BY page;";
    let dev = Dev::start(sql, "[landing]\nmax_age = '100ms'");
    let line = "{\"time\": \"2026-01-31T12:00:00Z\", \"page\": \"/\"}\n";
    let through = dev.ingest("clicks", format!("{line}no JSON\n").into_bytes());
    dev.land_and_run("clicks", &through);
    // A second run has something to be compared with.
    dev.run_batch();
    dev.http().post("/v1/batch/maintenance/run", &json!({})).expect(200);
    dev.query("SELECT * FROM pages");
    // The gauges of partitions and topology are set when the speed layer's own port is asked.
    let status = dev.status();
    let speed = status["services"]["speed"][0]["address"]
        .as_str()
        .expect("there is a speed worker");
    let port = speed.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let text = Http::new(port.expect("an address ends with a port"))
        .get("/metrics")
        .expect(200)
        .text();
    let there = scraped(&text);
    for metric in METRICS {
        let kind = there
            .get(metric.name)
            .or_else(|| there.get(&format!("{}_count", metric.name)));
        if let Some(kind) = kind {
            assert_eq!(kind, metric.kind.as_str(), "the type of {}", metric.name);
            assert!(
                text.contains(&format!("# HELP {} {}", metric.name, metric.help)),
                "{} is not described",
                metric.name
            );
        }
    }
    let expressions = panels()
        .into_iter()
        .flat_map(|(_, expressions)| expressions)
        .chain(alerts().into_iter().map(|(_, expression)| expression));
    for expression in expressions {
        for name in named(&expression) {
            assert!(
                there.contains_key(&name),
                "`{expression}` names {name}, which is not exposed:\n{text}"
            );
        }
    }
}
