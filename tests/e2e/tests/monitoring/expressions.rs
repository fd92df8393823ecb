//! Expressions of Prometheus' language, read for what they do with metrics. Whether they parse is for `promtool` to say.

use std::collections::BTreeSet;

use anabranch_runtime::telemetry::catalogue::{Kind, METRICS, Metric};

use super::samples::{alerts, targets};

/// Labels that Prometheus gives to whatever it scrapes.
pub(super) const OF_TARGETS: [&str; 2] = ["instance", "job"];

/// One place where an expression names a metric.
#[derive(Debug, PartialEq, Eq)]
struct Use {
    /// As it is exposed.
    name: String,
    /// The function that it is handed to directly.
    function: String,
    /// Labels that are asked for in braces.
    labels: Vec<String>,
    /// Whether a span of time is looked at, rather than a moment.
    range: bool,
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

fn uses(expression: &str) -> Vec<Use> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("anabranch_") {
        let (before, rest) = expression.split_at(at);
        if before.ends_with(is_word) {
            continue;
        }
        let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
        let mut rest = &rest[name.len()..];
        let mut labels = Vec::new();
        if let Some((inside, behind)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            let label = |matcher: &str| matcher.trim().chars().take_while(|c| is_word(*c)).collect();
            labels = inside.split("\",").map(label).collect();
            rest = behind;
        }
        let function = before.strip_suffix('(').map_or("", |before| {
            let start = before.rfind(|c| !is_word(c)).map_or(0, |at| at + 1);
            &before[start..]
        });
        found.push(Use {
            name,
            function: function.to_owned(),
            labels,
            range: rest.starts_with('['),
        });
    }
    found
}

/// Labels of `by (…)` and `on (…)`.
fn groupings(expression: &str) -> BTreeSet<&str> {
    let lists = ["by (", "on ("]
        .into_iter()
        .flat_map(|word| expression.split(word).skip(1));
    let lists = lists.filter_map(|rest| rest.split(')').next());
    lists.flat_map(|list| list.split(',').map(str::trim)).collect()
}

/// Metrics that an expression names, as they are exposed.
pub(super) fn named(expression: &str) -> BTreeSet<String> {
    uses(expression).into_iter().map(|used| used.name).collect()
}

/// The metric behind a name as it is exposed.
pub(super) fn metric(name: &str) -> Option<&'static Metric> {
    let base = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix));
    let called = |wanted: &str| METRICS.iter().find(|metric| metric.name == wanted);
    called(name).or_else(|| called(base?).filter(|metric| metric.kind == Kind::Histogram))
}

/// What is wrong with how an expression uses a metric, by its kind and labels.
fn misuse(expression: &str, used: &Use) -> Option<String> {
    let Some(metric) = metric(&used.name) else {
        return Some("there is no such metric".into());
    };
    let fits = match (used.range, used.function.as_str(), metric.kind) {
        (true, "rate" | "increase", Kind::Counter) | (true, "deriv" | "delta" | "changes", Kind::Gauge) => true,
        (true, "rate", Kind::Histogram) => {
            used.name.ends_with("_bucket")
                && expression.contains("histogram_quantile(")
                && groupings(expression).contains("le")
        }
        (true, "present_over_time", _) => true,
        (false, _, Kind::Gauge) => true,
        // What it stands at counts where there was nothing it could have grown from.
        (false, _, Kind::Counter) => expression.contains(&format!("{0} > 0 unless present_over_time({0}[", used.name)),
        _ => false,
    };
    if !fits {
        return Some(format!("`{}` of a {}", used.function, metric.kind.as_str()));
    }
    let known = |label: &String| metric.labels.contains(&label.as_str()) || OF_TARGETS.contains(&label.as_str());
    let unknown = used.labels.iter().find(|label| !known(label))?;
    Some(format!("it has no label {unknown}"))
}

#[test]
fn rates_are_of_counters_moments_of_gauges_and_labels_exist() {
    let alerts = alerts();
    let targets = targets();
    let of_panels = targets.iter().map(|target| (&target.panel, &target.expression));
    let of_alerts = alerts.iter().map(|(name, expression)| (name, expression));
    for (of, expression) in of_panels.chain(of_alerts) {
        let uses = uses(expression);
        assert!(
            !uses.is_empty() || expression.starts_with("up{"),
            "{of}: `{expression}` is about nothing of ours"
        );
        for used in &uses {
            if let Some(wrong) = misuse(expression, used) {
                panic!("{of}: `{expression}`, {}: {wrong}", used.name);
            }
        }
        let labels: BTreeSet<&str> = uses
            .iter()
            .filter_map(|used| metric(&used.name))
            .flat_map(|metric| metric.labels.iter().copied())
            .chain(OF_TARGETS)
            .chain(["le"])
            .collect();
        for label in groupings(expression) {
            assert!(
                labels.contains(label),
                "{of}: `{expression}`: nothing has a label {label}"
            );
        }
    }
}

#[test]
fn misused_metrics_are_noticed() {
    let wrong = |expression: &str| uses(expression).iter().find_map(|used| misuse(expression, used));
    for right in [
        "sum(rate(anabranch_events_decoded_total{table=\"a,b\", instance=~\"x\"}[1m]))",
        "max(anabranch_batch_leader) == 1",
        "histogram_quantile(0.9, sum by (le) (rate(anabranch_landing_seconds_bucket[1m])))",
    ] {
        assert_eq!(wrong(right), None, "{right}");
    }
    for (expression, why) in [
        ("rate(anabranch_batch_leader[1m])", "`rate` of a gauge"),
        ("sum(anabranch_events_decoded_total) > 3", "`sum` of a counter"),
        ("deriv(anabranch_events_decoded_total[5m])", "`deriv` of a counter"),
        ("rate(anabranch_landing_seconds_sum[1m])", "`rate` of a histogram"),
        ("anabranch_batch_leader{view=\"x\"}", "it has no label view"),
        ("anabranch_nothing_total", "there is no such metric"),
    ] {
        assert_eq!(wrong(expression).as_deref(), Some(why), "{expression}");
    }
    assert_eq!(
        groupings("sum by (le, table) (x) and on (instance) y"),
        BTreeSet::from(["instance", "le", "table"])
    );
}
