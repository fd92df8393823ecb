//! The merge: which batch and realtime pieces make one exact answer, and that answer.
//!
//! ```text
//!   publication ─► cut per partition ┐
//!   leases ──────► who owns what     ├─► decide ─► Plan: coverage, what to read from whom
//!   snapshots ───► pieces per worker ┘             or Retry
//!
//!   batch view (sorted state) ───────┐
//!   realtime state of the plan ──────┴─► merging, block by block ─► finalised rows
//! ```
//!
//! [`decide`] takes facts and returns a decision; [`Merging`] takes state and returns rows. Neither reads, waits nor keeps
//! anything: who asks workers, retries and caches is the serving API.
//!
//! Invariants:
//!
//! * Per partition the batch view ends exactly where the realtime piece begins. A gap or an overlap is an [`Error`].
//! * A partition is read from its highest ownership epoch only, whether or not that owner can be reached.
//! * All views of one source are read up to the same prefix of each partition, or the partition is missing.
//! * What could not be read is in [`Coverage::missing`](anabranch_model::Coverage::missing): never left out silently.

mod decide;
mod error;
mod state;

pub use decide::{Decision, Missing, Noted, Patience, Plan, Read, RetryReason, ViewFacts, ViewPlan, decide, lacking};
pub use error::Error;
pub use state::{
    BatchState, Block, BlockIndex, Live, Merging, Order, OutOfOrder, Selection, answer, cut_blocks, merge_states,
    sort_whole,
};
