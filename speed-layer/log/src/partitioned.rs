use std::time::Duration;

use anabranch_model::{Offset, OffsetVector, PartitionId, RawBatch, RawRecord};

use crate::Error;

/// The largest record a log takes, in bytes: key, payload and headers together.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

/// A durable, ordered, partitioned log of records.
///
/// Every implementation passes the conformance suite (`anabranch_log::conformance`, feature `conformance`).
#[async_trait::async_trait]
pub trait PartitionedLog: Send + Sync {
    /// Names the log for good: Kafka cluster id and topic, or the embedded log's UUID. Another identity means another
    /// log, whatever its name.
    async fn identity(&self) -> Result<String, Error>;

    /// Name of the topic.
    fn topic(&self) -> &str;

    /// The topic's partitions, ascending. Their number may grow, never shrink.
    async fn partitions(&self) -> Result<Vec<PartitionId>, Error>;

    /// First offset still held, per partition.
    async fn begins(&self) -> Result<OffsetVector, Error>;

    /// Next offset to be written, per partition (Kafka: the last stable offset, since readers are `read_committed`).
    async fn ends(&self) -> Result<OffsetVector, Error>;

    /// First offset whose record is at or after the time (milliseconds since the epoch); the end where there is none.
    async fn offsets_at(&self, timestamp_ms: i64) -> Result<OffsetVector, Error>;

    /// Appends durably; returns, per partition written, the next offset after the last record. Records with a key go to
    /// `murmur2(key) % partitions` as Kafka's own producers do; others round-robin by batch.
    ///
    /// Records of one call that go to the same partition keep their order. Not cancel-safe: a call that is dropped may
    /// still have appended its records.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`] before anything is written. After any other error the records may or may not be there.
    async fn append(&self, records: Vec<RawRecord>) -> Result<OffsetVector, Error>;

    /// Reads one micro-batch from `from` on: waits up to `limits.wait` for the first record, returns `None` when none
    /// came. A record larger than `limits.max_bytes` comes alone. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] when `from` is no longer held or lies beyond the end.
    async fn read(&self, partition: PartitionId, from: Offset, limits: ReadLimits) -> Result<Option<RawBatch>, Error>;

    /// Joins the readers of this log as `group`.
    ///
    /// # Errors
    /// Kind `Unavailable` when whoever keeps the log does not answer; the same call may succeed later.
    async fn subscribe(&self, group: &str) -> Result<Box<dyn Subscription>, Error>;
}

/// How much to read at once, and how long to wait for it.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Most records of a batch; at least one is returned.
    pub max_records: usize,
    /// Most payload bytes of a batch; exceeded only by a single record that is larger.
    pub max_bytes: usize,
    /// How long to wait for the first record.
    pub wait: Duration,
}

/// A consumer-group member. Used from one thread (a spout), synchronously.
pub trait Subscription: Send {
    /// Next thing that happened, or `None` after `limits.wait`. At light load a batch comes within milliseconds of its
    /// first record; under load batches fill up to the limits.
    ///
    /// The ranges of the batches of one partition meet: each begins where the one before ended, the first one at the
    /// offset given to [`start`](Self::start). A batch may have a range and no records: only transaction markers or
    /// compacted records were there.
    fn poll(&mut self, limits: ReadLimits) -> Result<Option<LogEvent>, Error>;

    /// Begins (or begins again) delivery of an assigned partition at an offset. Nothing is delivered before this.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] when the offset is not held; [`Error::NotAssigned`].
    fn start(&mut self, partition: PartitionId, from: Offset) -> Result<(), Error>;

    /// Stops delivery of a partition until [`resume`](Self::resume), which continues where it stopped.
    fn pause(&mut self, partition: PartitionId) -> Result<(), Error>;

    /// Continues after [`pause`](Self::pause).
    fn resume(&mut self, partition: PartitionId) -> Result<(), Error>;

    /// Confirms that a revoked partition is drained and may move on.
    fn release(&mut self, partitions: &[PartitionId]) -> Result<(), Error>;

    /// Whether the group still gives the partition to this member, by the word of whoever decides that now: a member that
    /// was cut off or stalled may not have heard yet that its partitions have moved. `None`: it is being asked; call again
    /// after polling.
    ///
    /// # Errors
    /// When it cannot even be asked.
    fn confirm(&mut self, partition: PartitionId) -> Result<Option<bool>, Error>;

    /// Tells that everything before `next` has landed. Of no consequence for what is delivered: positions come from the
    /// master dataset. Kafka's implementation commits them to the group in the background, so that lag tools see them.
    fn landed(&mut self, next: &OffsetVector) {
        let _ = next;
    }
}

/// What a [`Subscription`] tells its owner.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every event is a batch, and moves once for thousands of records"
)]
pub enum LogEvent {
    /// These partitions are ours now; claim them and call `start`.
    Assigned(Vec<PartitionId>),
    /// These are about to move: drain, land, then `release`. `lost`: they have moved already, there is nothing to
    /// release.
    Revoked { partitions: Vec<PartitionId>, lost: bool },
    /// Records of one partition.
    Batch(RawBatch),
    /// The next position of a partition is not held: retention has passed it (`wanted < first`), or the log is another or a
    /// shorter one (`wanted > next`). Nothing more is delivered of it until it is started again; the others go on.
    OutOfRange {
        partition: PartitionId,
        wanted: Offset,
        first: Offset,
        next: Offset,
    },
}
