//! Realtime state: immutable runs of partial state, per partition, view and ViewBolt instance.
//!
//! The words: a *run* is the partial state of one offset range, as one ViewBolt instance computed it; a *lane* is the
//! gapless sequence of one instance's runs for one view; a *segment* is what one landing covers, and its ends are
//! *boundaries* in every lane of the partition.

mod lane;
mod merge;
mod partition;

pub(crate) use lane::{Held, Lane, Run, common_end, emit_run};
pub(crate) use partition::{Adoption, Base, Install, Members, PartitionState, SegmentCounts, Until, ViewPhase, Wanted};
