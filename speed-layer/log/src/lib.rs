//! Partitioned logs: Kafka, and the embedded durable ingest log, behind one trait.

use anabranch_model::{ErrorKind, Offset, OffsetVector, PartitionId, RawBatch, RawRecord};
use std::time::Duration;

/// A durable, ordered, partitioned log of records.
#[async_trait::async_trait]
pub trait PartitionedLog: Send + Sync {
    /// Names the log for good: Kafka cluster id and topic id, or the embedded log's UUID.
    async fn identity(&self) -> Result<String, Error>;
    fn topic(&self) -> &str;
    async fn partitions(&self) -> Result<Vec<PartitionId>, Error>;
    /// First offset still held, per partition.
    async fn begins(&self) -> Result<OffsetVector, Error>;
    /// Next offset to be written, per partition (Kafka: last stable offset under read_committed).
    async fn ends(&self) -> Result<OffsetVector, Error>;
    /// First offset whose record is at or after the time; the end where there is none.
    async fn offsets_at(&self, timestamp_ms: i64) -> Result<OffsetVector, Error>;
    /// Appends durably; returns, per partition written, the next offset after the last record. Records with a key go to
    /// `murmur2(key) % partitions` as Kafka's own producers do; others round-robin by batch.
    async fn append(&self, records: Vec<RawRecord>) -> Result<OffsetVector, Error>;
    /// Reads whole micro-batches from `from` on: waits up to `wait` for the first record, returns `None` when none came.
    async fn read(&self, partition: PartitionId, from: Offset, limits: ReadLimits) -> Result<Option<RawBatch>, Error>;
    /// Joins the readers of this log as `group`.
    async fn subscribe(&self, group: &str) -> Result<Box<dyn Subscription>, Error>;
}

#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    pub max_records: usize,
    pub max_bytes: usize,
    pub wait: Duration,
}

/// A consumer-group member. Used from one thread (a spout), synchronously.
pub trait Subscription: Send {
    /// Next thing that happened, or `None` after `wait`. At light load a batch comes within milliseconds of its first
    /// record; under load batches fill up to the limits.
    fn poll(&mut self, limits: ReadLimits) -> Result<Option<LogEvent>, Error>;
    /// Begins (or begins again) delivery of an assigned partition at an offset. Nothing is delivered before this.
    fn start(&mut self, partition: PartitionId, from: Offset) -> Result<(), Error>;
    fn pause(&mut self, partition: PartitionId) -> Result<(), Error>;
    fn resume(&mut self, partition: PartitionId) -> Result<(), Error>;
    /// Confirms that a revoked partition is drained and may move on.
    fn release(&mut self, partitions: &[PartitionId]) -> Result<(), Error>;
}

pub enum LogEvent {
    /// These partitions are ours now; claim them and call `start`.
    Assigned(Vec<PartitionId>),
    /// These are about to move: drain, land, then `release`. `lost`: they have moved already.
    Revoked { partitions: Vec<PartitionId>, lost: bool },
    Batch(RawBatch),
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);
impl Error {
    pub fn kind(&self) -> ErrorKind {
        todo!()
    }
}
