//! The words every Anabranch crate shares: ids, offsets, the cut, coverage, raw records and error kinds.
//!
//! This crate owns vocabulary and pure arithmetic on it. It does no I/O, knows no file format and no SQL.
//!
//! * An [`Offset`] is a *consumer position*: the next record to read. Ranges are half-open, so transaction markers and
//!   compacted records leave gaps in offsets but never in coverage.
//! * An [`OffsetVector`] says, per partition of one source, what comes next. It is the platform's only clock.
//! * A [`Cut`] is an offset vector with the name it has in the master dataset: a Delta table version.
//! * A [`RangeSet`] is a set of positions of one partition: what was excluded, or is lost.
//! * [`Coverage`] is what every answer says about itself.
//! * [`crash`] names the places at which tests have a process die.

mod coverage;
pub mod crash;
mod error;
mod offsets;
mod ranges;
mod raw;
pub mod realtime;

pub use coverage::{Coverage, CoverageMap, TopicRanges};
pub use error::{ErrorKind, with_causes};
pub use offsets::{Cut, CutMap, Offset, OffsetRange, OffsetVector, PartitionId, TopicOffsets, topic_partition};
pub use ranges::RangeSet;
pub use raw::{RawBatch, RawBatchBuilder, RawRecord, columns};
