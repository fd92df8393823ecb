//! Traces across services: who asked whom for what, and how long it took.
//!
//! ```text
//!  HTTP or Flight request ── traceparent ──► Span::server ─► in_scope ─► Span::child ─► …
//!                                                │                          │
//!  next service ◄── traceparent ── outgoing() ◄──┘     dropped: sampled ─────┴─► bounded queue ─► batches ─► OTLP/gRPC
//! ```
//!
//! Owns: a small face of the [OpenTelemetry](https://opentelemetry.io) crates, which do the work: the context of
//! [W3C Trace Context](https://www.w3.org/TR/trace-context/), spans, sampling, batches, OTLP. Refuses to own: which work is worth a span.
//!
//! Spans are made by hand, where a request enters, leaves or waits. The spans of `tracing`, ours and those of the crates we use, are for
//! logs and never become part of a trace: so a log filter decides nothing about traces, and no dependency floods the collector.
//!
//! Invariants:
//!
//! * Without [`install`] nothing is made or sent, and contexts that come in are passed on.
//! * A request never waits for a collector: spans beyond the queue's capacity are dropped and counted, and so are those that a collector
//!   does not take.
//! * Whoever begins a trace decides whether it is sampled; everybody else follows.

mod bounded;
mod context;
mod error;
mod export;
mod span;

pub use context::{TraceContext, in_scope, outgoing};
pub use error::Error;
pub use export::{Exporter, Options, install};
pub use opentelemetry::trace::SpanKind as Kind;
pub use span::Span;
