//! Alert rules and panels, evaluated by Prometheus' own engine.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use anabranch_e2e::gate::skip;
use anabranch_e2e::promtool::{promtool, test_rules};
use anabranch_runtime::telemetry::catalogue::Kind;
use serde_json::{Value, json};

use super::exposed::{EXPOSED, samples};
use super::expressions::{metric, named};
use super::samples::{alerts, path, targets, unit_tests};

fn or_skip(test: &str) -> Option<PathBuf> {
    promtool().map_err(|reason| skip(test, &reason)).ok()
}

#[test]
fn alerts_fire_when_they_should() {
    let Some(promtool) = or_skip("alerts_fire_when_they_should") else {
        return;
    };
    let checked = Command::new(&promtool)
        .args(["check", "rules"])
        .arg(path("alerts.yaml"))
        .output();
    let checked = checked.expect("promtool can be run");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    test_rules(&promtool, &path("alerts-test.yaml")).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn every_alert_is_seen_to_fire_and_to_be_silent_and_a_normal_day_has_all_that_alerts_look_at() {
    let tests = unit_tests();
    let of_rules = tests
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_array().into_iter().flatten());
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for test in of_rules {
        let name = test["alertname"].as_str().expect("a test names its alert").to_owned();
        let expected = test["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
        if expected { &mut fires } else { &mut silent }.insert(name);
    }
    let day = tests[0]["input_series"].as_array().expect("the day has series");
    let day: String = day.iter().filter_map(|series| series["series"].as_str()).collect();
    let day = named(&day);
    for (name, expression) in alerts() {
        assert!(fires.contains(&name), "nothing shows that {name} fires");
        assert!(silent.contains(&name), "nothing shows that {name} can be silent");
        let missing: Vec<_> = named(&expression).difference(&day).cloned().collect();
        assert!(
            missing.is_empty(),
            "a normal day lacks {missing:?}, which {name} looks at"
        );
    }
}

/// What the platform exposed, for an hour: as it was, or with every counter growing.
fn series(grows: bool) -> Vec<Value> {
    let one = |sample: super::exposed::Sample| {
        let metric = metric(&sample.name)?;
        let mut series = format!("{}{{instance=\"dev:8081\",job=\"anabranch-speed\"", sample.name);
        for (label, value) in &sample.labels {
            let _ = write!(series, ",{label}=\"{value}\"");
        }
        let step = u8::from(grows && metric.kind != Kind::Gauge);
        Some(json!({"series": series + "}", "values": format!("{}+{step}x60", sample.value)}))
    };
    samples(&EXPOSED).into_iter().filter_map(one).collect()
}

#[test]
fn every_panel_shows_something_and_a_healthy_platform_raises_no_alert() {
    let Some(promtool) = or_skip("every_panel_shows_something_and_a_healthy_platform_raises_no_alert") else {
        return;
    };
    // One series at least, and one at least that has what the legend shows.
    let shows = |expression: &str| json!({"expr": format!("sgn(count({expression}))"), "eval_time": "1h", "exp_samples": [{"labels": "{}", "value": 1}]});
    let has = |expression: &str, label: &str| {
        let marked = format!("label_replace({expression}, \"has\", \"{label}\", \"{label}\", \".+\")");
        json!({
            "expr": format!("sgn(count by (has) ({marked}))"),
            "eval_time": "1h",
            "exp_samples": [{"labels": format!("{{has=\"{label}\"}}"), "value": 1}],
        })
    };
    let mut panels = Vec::new();
    for target in targets() {
        panels.push(shows(&target.expression));
        panels.extend(target.legend.iter().map(|label| has(&target.expression, label)));
    }
    let silent =
        json!({"expr": "count_over_time(ALERTS{alertstate=\"firing\"}[1h])", "eval_time": "1h", "exp_samples": []});
    let tests = json!({
        "rule_files": [path("alerts.yaml")],
        "evaluation_interval": "1m",
        "tests": [
            {"name": "panels", "interval": "1m", "input_series": series(true), "promql_expr_test": panels},
            {"name": "alerts", "interval": "1m", "input_series": series(false), "promql_expr_test": [silent]},
        ],
    });
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("tests.yaml");
    // JSON is YAML.
    std::fs::write(&file, tests.to_string()).expect("a file can be written");
    test_rules(&promtool, &file).unwrap_or_else(|wrong| panic!("{wrong}"));
}
