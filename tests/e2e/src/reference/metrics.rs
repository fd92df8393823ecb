use std::fmt::Write;

use anabranch_runtime::telemetry::catalogue::{METRICS, Metric};

use super::{cell, made_from};

/// docs/metrics.md: every metric with type, unit, labels and meaning.
pub fn metrics() -> String {
    let mut page = made_from("shared/runtime/src/telemetry/catalogue.rs");
    page.push_str(INTRODUCTION);
    let mut heading = "";
    for metric in METRICS {
        let layer = layer_of(metric.name);
        if layer != heading {
            heading = layer;
            let _ = writeln!(
                page,
                "\n## {heading}\n\n| metric | type | unit | labels | |\n|---|---|---|---|---|"
            );
        }
        row(&mut page, metric);
    }
    page
}

const INTRODUCTION: &str = "# Metrics

Every service answers `GET /metrics` in Prometheus' text format on its own port: `anabranch serve` on 8080, `speed` on 8081, `batch` on
8082; scrape all of them. Gauges of partitions and of the topology are set when the speed layer's port is scraped. A histogram `x` is
exposed as `x_bucket`, `x_sum` and `x_count`; its buckets reach from half a millisecond to five minutes. Names are stable.

`deploy/monitoring` has a Grafana dashboard, alert rules and a scrape configuration that use them;
[Operations](operations.md#alerts) says what to do when one fires.
";

fn layer_of(name: &str) -> &'static str {
    let name = name.strip_prefix("anabranch_").expect("all names begin alike");
    let batch = ["batch_", "table_", "compact", "vacuumed_", "expired_", "maintenance_"];
    let serving = ["serving_", "query_", "postgres_", "flight_", "live_", "console_"];
    let access = ["access_", "audit_", "tls_"];
    let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    match () {
        () if is(&batch) => "Batch layer",
        () if is(&serving) => "Serving layer",
        () if is(&access) => "Access",
        () if is(&["trace_"]) => "Every service",
        () => "Speed layer",
    }
}

fn row(page: &mut String, metric: &Metric) {
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    let unit = metric.unit.map_or("", |unit| unit.as_str());
    let _ = writeln!(
        page,
        "| `{}` | {} | {unit} | {} | {} |",
        metric.name,
        metric.kind.as_str(),
        labels.join(", "),
        cell(metric.help)
    );
}
