//! The batch kernel: folds Parquet row groups of the master dataset to partial state, in parallel, from scratch.
//!
//! ```text
//!  InputFile (path order)            lanes (fixed by the snapshot)            per view
//!  ┌──────┐  row groups   ┌────────┐  decode once, fold every view  ┌───────────────────────┐
//!  │ file │ ────────────► │ lane 0 │ ─────────────────────────────► │ merge in lane order   │
//!  │ file │  to the lane  │ lane 1 │   state over the lane's        │ by hash parts, sort,  │ ─► sorted state batches
//!  │  …   │  with fewest  │   …    │   share of the budget ──► spill│ k-way merge by key    │    + finalised columns
//!  └──────┘  rows so far  └────────┘                                └───────────────────────┘
//! ```
//!
//! An incremental run folds new rows only, and merges what comes out with the state of an earlier run, which is sorted too:
//! [`ViewState::with_base`] reads both in key order, a few batches at a time. [`Pairing`] puts two such states side by side.
//!
//! Owns: which columns are read, how row groups are spread over lanes, the Rayon pool, the memory bound and its spill
//! files, the order in which states are merged, and the layout of batch view batches. Refuses to own: where bytes come
//! from, where results go, publishing, time. It is synchronous; an engine feeds it through an iterator and drains an
//! iterator.
//!
//! # Invariants
//! * **Determinism.** Lanes, the order of row groups in a lane, spill points and merge order are functions of the files
//!   (paths, row counts), the view and the memory budget; never of the number of threads or of timing. So the same
//!   snapshot gives the same bytes. A different *memory budget* may move spill points, which can change the last bits of
//!   float sums and sketches (classes *Float* and *Sketch*) and nothing else.
//! * **Bounded memory.** Partial state held while folding stays near [`Options::memory_budget_bytes`]; beyond it, state is
//!   split by hash of the key and spilled. Spilled partitions are merged one group of partitions at a time, within the budget.
//! * **One decode.** A row group is decoded once, with the union of the columns its views read.

mod base;
mod control;
mod decode;
mod error;
mod fold;
mod input;
mod lane;
mod merge;
mod plan;
mod reduce;
mod result;
mod spill;
#[cfg(test)]
mod testing;

pub use base::{Pairing, Pairs, States, delivered};
pub use control::{Control, Progress, ProgressSnapshot};
pub use error::Error;
pub use fold::{Kernel, Options};
pub use input::{FileBytes, InputError, InputFile, RowSelection, projected_ranges};
pub use plan::Plan;
pub use result::{ViewState, batch_view_schema};
