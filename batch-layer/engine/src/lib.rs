//! The batch layer: recomputes every view exactly from the master dataset, and publishes the result.
//!
//! ```text
//!  schedule ─┐                        ┌────────────────── one run ───────────────────┐
//!  POST ─────┤   decide   at most one │ snapshot @ V ─► fetch ─► fold ─► state files │ create-if-absent
//!  views.sql ┼──────────► running and ┤   (cuts into    (async)  (Rayon)   (Parquet) ├──────────────► publications/
//!  budget ───┘            one queued  │   the lease)                       manifest  │
//!                                     └──────────────────────────────────────────────┘
//! ```
//!
//! Owns: when a run starts and when it does not, what a run reads and writes, its record, its place in the publication log,
//! the batch lease, and the HTTP endpoints below `/v1/batch`. Refuses to own: how rows become state (`anabranch-compute`,
//! `anabranch-view`) and how objects lie in the store (`anabranch-dataset`).
//!
//! # Invariants
//! * At most one run is running and at most one is queued in a process.
//! * The cuts of a run are in the lease before the run reads its first file, so that the speed layer keeps segments apart
//!   at them.
//! * A run publishes exactly the number after the one that was the latest when it started; otherwise it fails.
//! * A failed run leaves its record and nothing else. A run whose process died is marked failed by the next process.

mod error;
mod fetch;
mod http;
mod lease;
mod maintenance;
mod queue;
mod record;
mod recovery;
mod run;
mod schedule;
mod service;
#[doc(hidden)]
pub mod simulation;
#[cfg(test)]
mod testing;
mod watch;
mod write;

pub use error::Error;
pub use queue::Trigger;
pub use schedule::Schedule;
pub use service::{BatchHandle, BatchLayer, BatchOptions};
