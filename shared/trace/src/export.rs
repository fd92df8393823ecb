use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tonic::transport::Endpoint;

use crate::Error;
use crate::bounded::Bounded;

/// How long a collector may take, and how long the end of a process waits for one.
const PATIENCE: Duration = Duration::from_secs(5);

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Where traces go, and which.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://host:4317`.
    pub endpoint: String,
    /// Share of the traces that begin here and are sampled, from 0 to 1.
    pub ratio: f64,
    /// `service.name`, such as `anabranch-serve`.
    pub service: String,
    pub version: String,
}

/// Sends spans until the process ends.
#[derive(Debug)]
pub struct Exporter(SdkTracerProvider);

/// Starts to send spans, for the whole process. Must be called on a tokio runtime, whose threads carry the connection.
///
/// Beyond `options`, the environment is heeded where OpenTelemetry says so: `OTEL_EXPORTER_OTLP_HEADERS`,
/// `OTEL_RESOURCE_ATTRIBUTES`.
///
/// # Errors
/// When the endpoint is no address, or an exporter is there already.
pub fn install(options: Options) -> Result<Exporter, Error> {
    let Options {
        endpoint,
        ratio,
        service,
        version,
    } = options;
    let address = Endpoint::from_shared(endpoint.clone()).map_err(|source| Error::Endpoint {
        endpoint: endpoint.clone(),
        source,
    })?;
    if address.uri().scheme_str() != Some("http") {
        return Err(Error::Scheme { endpoint });
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_channel(address.connect_timeout(PATIENCE).timeout(PATIENCE).connect_lazy())
        .with_timeout(PATIENCE)
        .build()?;
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attributes([
            KeyValue::new("service.version", version.clone()),
            KeyValue::new("process.pid", i64::from(std::process::id())),
        ])
        .build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        .with_span_processor(Bounded::new(exporter, endpoint))
        .build();
    let scope = InstrumentationScope::builder("anabranch").with_version(version).build();
    TRACER
        .set(provider.tracer_with_scope(scope))
        .map_err(|_| Error::Installed)?;
    Ok(Exporter(provider))
}

impl Exporter {
    /// Sends what waits, for a few seconds at most: for the end of the process.
    pub async fn flush(&self) {
        let provider = self.0.clone();
        // What is not sent then is lost, and a collector that does not answer has been warned of already.
        let _ = tokio::task::spawn_blocking(move || provider.force_flush()).await;
    }
}

/// Makes spans; `None` without an exporter.
pub(crate) fn tracer() -> Option<&'static SdkTracer> {
    TRACER.get()
}
