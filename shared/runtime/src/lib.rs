//! What every service needs to run and nothing about what it does: settings, shutdown, background tasks, telemetry, TLS
//! and the HTTP frame.
//!
//! * [`Settings`] is read once, validated, and handed down; it is never a global.
//! * [`Shutdown`] is one signal, cloned to whoever must hear it.
//! * [`Tasks`] owns background tasks: each has a name and says what its failure means.
//! * [`tls`] secures listeners and calls, and notices when certificates change.
//! * [`http`] gives all services the same health endpoints, error format and graceful stop.

pub mod http;
mod seldom;
mod settings;
mod shutdown;
pub mod telemetry;
pub mod tls;

pub use settings::{
    AccessMode, AccessSettings, AuditTo, Batch, BatchMode, ByteSize, Compression, Error, HumanDuration, IngestLog,
    Landing, LogFormat, OidcSettings, OnDiff, Properties, Secret, Serving, Settings, Speed, Storage, Telemetry,
    TlsSettings,
};
pub use shutdown::{OnError, Shutdown, Tasks};
