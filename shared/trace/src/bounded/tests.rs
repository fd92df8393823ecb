use std::sync::{Mutex, mpsc};

use metrics_exporter_prometheus::PrometheusBuilder;
use opentelemetry::trace::{Span as _, Tracer, TracerProvider};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

use super::*;

/// Takes nothing until it is released, by the end of the other half of its channel.
#[derive(Debug)]
struct Stuck {
    released: Mutex<mpsc::Receiver<()>>,
    received: Arc<AtomicUsize>,
}

impl SpanExporter for Stuck {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let _ = self.released.lock().unwrap().recv();
        self.received.fetch_add(batch.len(), Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn a_collector_that_does_not_answer_costs_bounded_memory_and_what_is_dropped_is_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let (release, released) = mpsc::channel();
    let received = Arc::new(AtomicUsize::new(0));
    let stuck = Stuck {
        released: Mutex::new(released),
        received: Arc::clone(&received),
    };
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn)
        .with_span_processor(Bounded::new(stuck, "http://collector:4317".into()))
        .build();
    let tracer = provider.tracer("test");
    // The batch that the exporter holds does not wait any more.
    let ended = 2 * CAPACITY + BATCH;
    metrics::with_local_recorder(&recorder, || (0..ended).for_each(|_| tracer.start("x").end()));
    drop(release);
    provider.shutdown_with_timeout(Duration::from_secs(60)).unwrap();
    let text = recorder.handle().render();
    let dropped: usize = text
        .lines()
        .find_map(|line| line.strip_prefix("anabranch_trace_dropped_spans_total "))
        .map(|value| value.parse().unwrap())
        .unwrap();
    assert!((CAPACITY..=CAPACITY + BATCH).contains(&dropped), "{dropped}");
    assert_eq!(dropped + received.load(Ordering::Relaxed), ended);
}
