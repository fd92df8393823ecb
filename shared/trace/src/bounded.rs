use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};

/// Spans that wait to be sent; more are dropped.
pub(crate) const CAPACITY: usize = 8_192;
/// Spans of one request, and how long the first of them waits for others.
const BATCH: usize = 512;
const LINGER: Duration = Duration::from_millis(500);

/// The SDK's batch processor, which sends from a thread of its own, with what is dropped on its way counted: because too many spans wait, or
/// because the exporter does not get rid of them.
#[derive(Debug)]
pub(crate) struct Bounded {
    inner: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

impl Bounded {
    pub(crate) fn new<E: SpanExporter + 'static>(exporter: E, endpoint: String) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Counted {
            inner: exporter,
            endpoint,
            waiting: Arc::clone(&waiting),
            failing: AtomicBool::new(false),
        };
        // `waiting` is raised before a span enters the processor's queue and lowered after it has left, so the queue never overflows itself.
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(CAPACITY)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(LINGER)
            .build();
        let inner = BatchSpanProcessor::new(counted, config);
        Self { inner, waiting }
    }
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < CAPACITY {
            self.inner.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            dropped(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[derive(Debug)]
struct Counted<E> {
    inner: E,
    endpoint: String,
    waiting: Arc<AtomicUsize>,
    /// Whether the last batch was not taken: that is said once, not with every batch.
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let result = self.inner.export(batch).await;
        if result.is_err() {
            dropped(count);
        }
        let was_failing = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !was_failing => {
                tracing::warn!(endpoint = self.endpoint, %error, "traces cannot be sent; they are dropped");
            }
            Ok(()) if was_failing => tracing::info!(endpoint = self.endpoint, "traces are sent again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

fn dropped(spans: usize) {
    metrics::counter!("anabranch_trace_dropped_spans_total").increment(spans as u64);
}

#[cfg(test)]
mod tests;
