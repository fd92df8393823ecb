//! The runs of this process, and what runs leave behind.
//!
//! `task`: what a run is for · `record`: a run while it lives · `board`: which of them run, wait and are held · `results`: what lies in
//! the store of a run, and whether it was published · `failures`: how many in a row ·
//! `held`: what becomes of a run that waits for a decision.

pub(crate) mod board;
pub(crate) mod failures;
pub(crate) mod held;
pub(crate) mod record;
pub(crate) mod results;
pub(crate) mod task;
