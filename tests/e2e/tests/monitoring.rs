//! Metrics: the list, the code, the dashboard, the alert rules and a running platform agree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anabranch_e2e::data::workspace;
use anabranch_runtime::telemetry::catalogue::{Kind, METRICS};

mod evaluated;
mod exposed;
mod expressions;
mod samples;

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
