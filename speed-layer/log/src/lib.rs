//! Partitioned logs: Kafka, and the embedded durable ingest log, behind one trait.
//!
//! This crate owns reading and writing of records by partition and offset. It knows nothing of their content, of views or
//! of where readers have got to: positions come from the master dataset, through [`Subscription::start`].
//!
//! ```text
//!                    PartitionedLog (append, read, offsets)  ·  Subscription (a reader group's member, for a spout)
//!                       │                               │
//!        embedded::IngestLog (one node, fjall)    kafka::KafkaLog (rdkafka)
//! ```
//! Invariants, for both (see the conformance suite):
//! * What `append` has acknowledged is durable, and is read by every reader from then on, in offset order.
//! * A batch covers a half-open range of *consumer positions*; the ranges of one partition meet without gap or overlap.
//! * An offset that is no longer held, or not there yet, is an error that names it; nothing is skipped silently.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
mod error;
pub mod kafka;
mod partitioned;
mod partitioner;

pub use embedded::{DiskSpace, IngestLog, Retention};
pub use error::Error;
pub use kafka::KafkaLog;
pub use partitioned::{LogEvent, MAX_RECORD_BYTES, PartitionedLog, ReadLimits, Subscription};
pub use partitioner::{murmur2, partition_of_key};
