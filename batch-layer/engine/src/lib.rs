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
//! # Parts
//! | | |
//! |---|---|
//! | `triggers` | when a run starts, and when it does not |
//! | `runs` | the runs of this process, and what runs leave in the store |
//! | `run` | one run: plan, fetch, fold, write, compare, publish; rollback, verification |
//! | `standing` | which of several services leads, what it tells others, what a dead one left behind |
//! | `maintenance` | what keeps the store small |
//! | `http` | `/v1/batch/…`, here or passed on to the leader |
//! | `site` | what lies in the store, which all of these read |
//!
//! `service` puts them together (`parts`); the simulation does too, without a port.
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
mod error;
mod http;
mod maintenance;
mod parts;
mod run;
mod runs;
mod service;
#[doc(hidden)]
pub mod simulation;
mod site;
mod standing;
#[cfg(test)]
mod testing;
mod triggers;

pub use error::Error;
pub use service::{BatchHandle, BatchLayer, BatchOptions};
pub use triggers::queue::Trigger;
pub use triggers::schedule::Schedule;
