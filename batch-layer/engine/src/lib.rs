//! The batch layer: recomputes every view exactly from the master dataset, and publishes the result.
//!
//! ```text
//!  schedule ─┐                        ┌────────────────── one run ───────────────────┐
//!  POST ─────┤   decide   at most one │ snapshot @ V ─► fetch ─► fold ─► state files │ create-if-absent
//!  views.sql ┼──────────► running and ┤   (cuts into    (async)  (Rayon)   (Parquet) ├──────────────► publications/
//!  budget ───┘            one queued  │   the lease)                       manifest  │
//!                                     │        base state ──┘   compare with what is   │
//!                                     └──────────────────────── served at V ───────────┘
//! ```
//!
//! Owns: when a run starts and when it does not, what a run reads and writes, its record, its place in the publication log,
//! the batch lease, and the HTTP endpoints below `/v1/batch`. Refuses to own: how rows become state (`anabranch-compute`,
//! `anabranch-view`) and how objects lie in the store (`anabranch-dataset`).
//!
//! # Invariants
//! * Of several batch services on one store one leads: it runs the runs, the others pass requests on to it. In it at most one
//!   run is running and at most one recomputation is queued.
//! * The cuts of a run are in the lease before the run reads its first file, so that the speed layer keeps segments apart
//!   at them.
//! * A run publishes exactly the number after the one that was the latest when it started; otherwise it fails.
//! * A run is compared with what was served, cut to the same version, before it is published; the comparison is in its record.
//! * An incremental run gives the answer of a full one, by class (ARCHITECTURE.md, rule 14): it folds the rows behind the cut of
//!   the run it builds on, and no others.
//! * A failed run leaves its record and nothing else. A run whose process died is marked failed by the next process.

mod definitions;
mod diff;
mod error;
mod fetch;
mod forward;
mod held;
mod http;
mod input;
mod leader;
mod lease;
mod maintenance;
mod plan;
mod queue;
mod record;
mod recovery;
mod rollback;
mod run;
mod schedule;
mod served;
mod service;
#[doc(hidden)]
pub mod simulation;
#[cfg(test)]
mod testing;
mod verify;
mod watch;
mod write;

pub use error::Error;
pub use queue::Trigger;
pub use schedule::Schedule;
pub use service::{BatchHandle, BatchLayer, BatchOptions};
