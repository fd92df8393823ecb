//! Seeded simulation: the real landing, sealing, expiry, publication and merge code on a simulated clock, log, network and
//! object store.
//!
//! ```text
//!   Scheduler: one thread, virtual time, seeded order            Audit: what must never be written
//!      │ polls                                                      ▲
//!   ┌──┴── processes ────────────────────────────────┐          ┌───┴────┐
//!   │ speed workers: spout, bolts, landing, realtime │ requests │ Server │  objects in memory
//!   │ batch service: queue, runs, publication        ├─────────►│        │  delays, 5xx, lost answers,
//!   │ serving: adoption, directory, merge            │          └────────┘  late and repeated writes, stale listings
//!   └──┬───────────────▲─────────────────────────────┘
//!      │ polls         │ crashes, pauses, rebalances, two owners
//!     Log       trouble, operator, editor             Oracle: a plain fold over the log
//! ```
//!
//! Every answer that a serving process gives is compared with a fold, by the version of the view that answered, over exactly
//! the prefix of the log that its coverage claims. At the end faults stop and everything must come to rest: all views equal the log, and the master dataset holds
//! each record once.
//!
//! Product code takes time, chance and threads from [`anabranch_dataset::Environment`]; whoever calls the system directly
//! wakes a task from another thread, which ends the run with a panic.

mod audit;
mod definitions;
mod editor;
mod environment;
mod faults;
mod log;
mod mutation;
mod network;
mod operator;
mod oracle;
mod processes;
mod random;
mod run;
mod scheduler;
mod store;
mod sweep;
mod trouble;
mod verdict;
mod world;

pub use faults::{Counts, Section};
pub use mutation::Mutation;
pub use run::{Outcome, Stage};
pub use sweep::{Summary, Sweep, Watcher};
