//! What a running platform exposes, against the list of metrics and what the samples ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use anabranch_e2e::{Dev, Http, Site, gate, ports};
use anabranch_runtime::telemetry::catalogue::{Kind, METRICS};
use serde_json::json;

use super::expressions::{metric, named};
use super::samples::{alerts, targets};

/// `/metrics` of all three layers in one process, after something of everything has happened.
pub(super) static EXPOSED: LazyLock<String> = LazyLock::new(scrape);

/// An authority that vouches for nobody here, and for a hundred years: what the settings name is said when it ends.
const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBnTCCAUOgAwIBAgIUUjT2r43Mtfat2EqQkpvcwoU0r1AwCgYIKoZIzj0EAwIw
IzEhMB8GA1UEAwwYYW5hYnJhbmNoIHRlc3QgYXV0aG9yaXR5MCAXDTI2MTEyMjA1
MDY1N1oYDzIxMjYxMDI5MDUwNjU3WjAjMSEwHwYDVQQDDBhhbmFicmFuY2ggdGVz
dCBhdXRob3JpdHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAT2wRSFKNbHWRik
/QMCIidk5dFUnR4t3rAUejg0EezH0aBIFLB20Maf/Dkabt7Ss8V+WQVpa7DRuv1T
ZDWrRCPno1MwUTAdBgNVHQ4EFgQUUrQ6DT6OmiS4NcaTBFix6M29b70wHwYDVR0j
BBgwFoAUUrQ6DT6OmiS4NcaTBFix6M29b70wDwYDVR0TAQH/BAUwAwEB/zAKBggq
hkjOPQQDAgNIADBFAiEAr9traWXw6P2oprEHPA6hOJBRehKVgTW8qT6xSsLVjCwC
IFeDfuVGDOQs3DmDVKGb6S+wCTOzG4ir2vICseUDlGar
-----END CERTIFICATE-----
";

fn scrape() -> String {
    let _gate = gate::heavy();
    let sql = "CREATE TABLE clicks (time TIMESTAMP NOT NULL, page TEXT) WITH (connector = 'log', event_time = 'time', partitions = 1);
               CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS clicks FROM clicks GROUP BY page;";
    let postgres = ports::free();
    let settings = format!(
        "[landing]\nmax_age = '100ms'\n[serving]\npostgres_listen = '127.0.0.1:{postgres}'\n[tls]\nca = 'authority.pem'"
    );
    let site = Site::new(sql, &settings);
    std::fs::write(site.file("authority.pem"), AUTHORITY).expect("the folder can be written to");
    let dev = Dev::at(site);
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
    Http::new(port.expect("an address ends with a port"))
        .get("/metrics")
        .expect(200)
        .text()
}

/// One line of the exposition.
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    /// As it is printed.
    pub(super) value: String,
}

/// Samples of our metrics.
pub(super) fn samples(text: &str) -> Vec<Sample> {
    let lines = text.lines().filter(|line| line.starts_with("anabranch_"));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels
                .trim_end_matches('}')
                .split("\",")
                .filter(|part| !part.is_empty());
            let label = |part: &str| {
                let (label, value) = part.split_once("=\"").expect("a label has a value");
                (label.to_owned(), value.trim_end_matches('"').to_owned())
            };
            Sample {
                name: name.to_owned(),
                labels: labels.map(label).collect(),
                value: value.to_owned(),
            }
        })
        .collect()
}

#[test]
fn metrics_are_exposed_as_they_are_listed() {
    let text = EXPOSED.as_str();
    let samples = samples(text);
    assert!(samples.len() > 100, "the metrics were not read properly:\n{text}");
    for sample in &samples {
        let listed = metric(&sample.name).unwrap_or_else(|| panic!("{} is not listed", sample.name));
        let labels: BTreeSet<&str> = sample
            .labels
            .keys()
            .map(String::as_str)
            .filter(|label| *label != "le")
            .collect();
        assert_eq!(
            labels,
            listed.labels.iter().copied().collect(),
            "labels of {}",
            sample.name
        );
        assert_eq!(
            sample.labels.contains_key("le"),
            listed.kind == Kind::Histogram && sample.name.ends_with("_bucket")
        );
    }
    let there: BTreeSet<&str> = samples
        .iter()
        .filter_map(|sample| Some(metric(&sample.name)?.name))
        .collect();
    for metric in METRICS.iter().filter(|metric| there.contains(metric.name)) {
        for said in [
            format!("# TYPE {} {}\n", metric.name, metric.kind.as_str()),
            format!("# HELP {} {}\n", metric.name, metric.help),
        ] {
            assert!(text.contains(&said), "`{}` is not said", said.trim());
        }
    }
}

#[test]
fn dashboard_and_alerts_name_metrics_that_a_running_platform_has() {
    let there: BTreeSet<String> = samples(&EXPOSED).into_iter().map(|sample| sample.name).collect();
    let of_panels = targets().into_iter().map(|target| target.expression);
    let of_alerts = alerts().into_iter().map(|(_, expression)| expression);
    for expression in of_panels.chain(of_alerts) {
        for name in named(&expression) {
            assert!(
                there.contains(&name),
                "`{expression}` names {name}, which is not exposed:\n{}",
                EXPOSED.as_str()
            );
        }
    }
}
