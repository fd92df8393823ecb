//! Traces across services: who asked whom for what, and how long it took.
//!
//! ```text
//!  HTTP or Flight request ── traceparent ──► Span::server ─► in_scope ─► Span::child ─► …
//!                                                │                          │
//!  next service ◄── traceparent ── outgoing() ◄──┘        dropped: sampled ─┴─► bounded channel ─► batches ─► OTLP/gRPC
//! ```
//!
//! Owns: the context of [W3C Trace Context](https://www.w3.org/TR/trace-context/), spans, sampling, and their way to a collector
//! ([OTLP](https://opentelemetry.io/docs/specs/otlp/) over gRPC). Refuses to own: which work is worth a span.
//!
//! Invariants:
//!
//! * Without [`install`] nothing is made or sent, and contexts that come in are passed on.
//! * A request never waits for a collector: spans beyond the channel's capacity are dropped and counted.
//! * Whoever begins a trace decides whether it is sampled; everybody else follows.

mod context;
mod error;
mod export;
#[doc(hidden)]
pub mod proto;
mod span;

pub use context::SpanContext;
pub use error::Error;
pub use export::{Exporter, Options, install};
pub use span::{Kind, Span, in_scope, outgoing};

/// Name of the header, and of the gRPC metadata, that carries the context.
pub const HEADER: &str = "traceparent";
