//! What deploy/monitoring holds: the panels of the dashboard and the alert rules, with what must stand beside each.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anabranch_e2e::data::workspace;
use anabranch_e2e::yaml;
use serde_json::Value;

/// One expression of a panel.
pub(super) struct Target {
    pub(super) panel: String,
    pub(super) expression: String,
    /// Labels that its legend shows.
    pub(super) legend: Vec<String>,
}

pub(super) fn path(file: &str) -> PathBuf {
    workspace().join("deploy/monitoring").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(path(file)).expect("the sample is there")
}

/// Names between double braces.
fn legend(format: &str) -> Vec<String> {
    let names = format.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

/// Every expression of the dashboard, whose panels are all explained.
pub(super) fn targets() -> Vec<Target> {
    let dashboard: Value = serde_json::from_str(&text("grafana-dashboard.json")).expect("the dashboard is JSON");
    assert!(dashboard["schemaVersion"].is_u64() && dashboard["uid"] == "anabranch");
    let panels = dashboard["panels"].as_array().expect("the dashboard has panels");
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    let mut found = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().expect("a panel has a title");
        assert!(
            panel["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{title} is not explained"
        );
        let targets = panel["targets"].as_array().expect("a panel has targets");
        assert!(!targets.is_empty(), "{title} shows nothing");
        found.extend(targets.iter().map(|target| Target {
            panel: title.to_owned(),
            expression: target["expr"].as_str().expect("a target has an expression").to_owned(),
            legend: legend(target["legendFormat"].as_str().unwrap_or_default()),
        }));
    }
    assert!(found.len() > 25, "the dashboard was not read properly");
    found
}

/// Name → expression of each alert; each leads to a heading of the operations guide.
pub(super) fn alerts() -> Vec<(String, String)> {
    let rules = yaml::parse(&text("alerts.yaml")).expect("the rules are YAML");
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
fn the_guide_explains_no_alert_that_is_gone() {
    let guide = std::fs::read_to_string(workspace().join("docs/operations.md")).expect("the guide is there");
    let alerts: BTreeSet<String> = alerts().into_iter().map(|(name, _)| name).collect();
    let explained: BTreeSet<String> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("### Anabranch"))
        .map(|rest| format!("Anabranch{rest}"))
        .collect();
    assert_eq!(explained, alerts);
}

/// The unit tests of the alert rules.
pub(super) fn unit_tests() -> Vec<Value> {
    let tests = yaml::parse(&text("alerts-test.yaml")).expect("the tests are YAML");
    tests["tests"].as_array().expect("there are tests").clone()
}
