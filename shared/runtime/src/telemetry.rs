//! Structured logs on stderr, Prometheus metrics, and traces to a collector.

pub mod catalogue;

use std::sync::OnceLock;

use anabranch_trace::Exporter;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::UtcTime;

use crate::{LogFormat, Telemetry};

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
static TRACES: OnceLock<Exporter> = OnceLock::new();

/// Seconds: from a cached point query to a long batch run.
const DURATION_BUCKETS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Installs the log subscriber and the metrics recorder of this process, and sends traces in the name of `service` where the
/// settings name a collector; that needs a tokio runtime. Later calls change nothing.
///
/// `RUST_LOG`, where it is set, overrides `[telemetry] log`.
///
/// # Errors
/// When the collector's address cannot be used.
pub fn init(settings: &Telemetry, service: &str) -> Result<(), anabranch_trace::Error> {
    metrics();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(format!("{},delta_kernel=warn,delta_kernel_default_engine=warn,rdkafka=warn,librdkafka=warn,lsm_tree=warn,fjall=warn,h2=warn,hyper=warn", settings.log))
    });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_timer(UtcTime::rfc_3339())
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // An error only says that a subscriber is installed already, as in tests.
    let _ = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    let Some(endpoint) = settings.otlp_endpoint.clone().filter(|_| TRACES.get().is_none()) else {
        return Ok(());
    };
    let exporter = anabranch_trace::install(anabranch_trace::Options {
        endpoint,
        ratio: settings.trace_ratio,
        service: format!("anabranch-{service}"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })?;
    let _ = TRACES.set(exporter);
    Ok(())
}

/// Sends the traces that wait, for a few seconds at most: for the end of the process.
pub async fn flush() {
    if let Some(exporter) = TRACES.get() {
        exporter.flush().await;
    }
}

/// The metrics of this process; installs the recorder at first use.
pub fn metrics() -> &'static PrometheusHandle {
    METRICS.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), DURATION_BUCKETS)
            .expect("the bucket list is not empty")
            .build_recorder();
        let handle = recorder.handle();
        // Somebody else's recorder, as a library user may have, stays; ours then renders nothing.
        if metrics::set_global_recorder(recorder).is_ok() {
            catalogue::describe();
        }
        handle
    })
}
