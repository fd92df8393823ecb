use anabranch_model::{ErrorKind, Offset, OffsetRange, PartitionId};

/// Why the speed layer could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("table {table}: there is no log for it; this is a defect of whoever started the speed layer")]
    NoLog { table: String },
    #[error(transparent)]
    Definitions(#[from] anabranch_definitions::Error),
    #[error("table {table}: its log cannot be opened: {reason}")]
    OpenLog { table: String, reason: String },
    #[error("table {table}: the log of topic {topic} has not answered for {waited:?}")]
    NoAnswer {
        table: String,
        topic: String,
        waited: std::time::Duration,
    },
    #[error("the HTTP server has ended{}", .0.as_ref().map(|error| format!(": {error}")).unwrap_or_default())]
    ServerEnded(#[source] Option<std::io::Error>),
    #[error(
        "table {table}: partition {partition} of topic {topic} ends at {log_end}, but events up to {landed} are landed; the topic was deleted and created again, or has lost its end. Restore it, or start over with another table name or storage prefix"
    )]
    LogShorter {
        table: String,
        topic: String,
        partition: PartitionId,
        log_end: Offset,
        landed: Offset,
    },
    #[error(
        "table {table}: partition {partition} of topic {topic} has lost offsets {start} up to {end} before they were landed; its retention has removed them. Set a longer retention; to go on without them, give the table the option on_gap = 'record' and start again",
        start = lost.start,
        end = lost.end
    )]
    LogTruncated {
        table: String,
        topic: String,
        partition: PartitionId,
        lost: OffsetRange,
    },
    #[error(
        "table {table}, partition {partition}: the log delivered a batch from {delivered} where {expected} was next"
    )]
    LogGap {
        table: String,
        partition: PartitionId,
        delivered: Offset,
        expected: Offset,
    },
    #[error("table {table}, partition {partition}: a view bolt got state from {got} where {expected} was next")]
    StateGap {
        table: String,
        partition: PartitionId,
        got: Offset,
        expected: Offset,
    },
    #[error("table {table}: landed rows cannot be folded: {message}")]
    Rows { table: String, message: String },
    #[error("unknown view {0}")]
    UnknownView(String),
    #[error("unknown snapshot {0}; it has expired")]
    UnknownSnapshot(u64),
    #[error(transparent)]
    Log(#[from] anabranch_log::Error),
    #[error(transparent)]
    Dataset(#[from] anabranch_dataset::Error),
    #[error(transparent)]
    Access(#[from] anabranch_access::Error),
    #[error(transparent)]
    View(#[from] anabranch_view::Error),
    #[error(transparent)]
    Topology(#[from] anabranch_topology::Error),
    #[error("cannot store {path}")]
    Store {
        path: String,
        #[source]
        source: object_store::Error,
    },
    #[error("cannot encode or read Parquet")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("cannot assemble a batch")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("cannot listen")]
    Io(#[from] std::io::Error),
    #[error("a background task failed: {0}")]
    Task(String),
    #[error("this worker does not own partition 0 any more; its next owner goes on")]
    NoLeader,
    #[error("the speed layer is stopping")]
    Stopping,
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::LogShorter { .. } | Self::LogTruncated { .. } => ErrorKind::Invalid,
            Self::UnknownView(_) | Self::UnknownSnapshot(_) => ErrorKind::NotFound,
            Self::Log(error) => error.kind(),
            Self::View(error) => error.kind(),
            Self::Definitions(error) => error.kind(),
            Self::Dataset(error) => error.kind(),
            Self::Access(error) => error.kind(),
            Self::Store { .. }
            | Self::Io(_)
            | Self::NoAnswer { .. }
            | Self::OpenLog { .. }
            | Self::NoLeader
            | Self::Stopping => ErrorKind::Unavailable,
            Self::Rows { .. } | Self::Parquet(_) | Self::Arrow(_) => ErrorKind::Data,
            Self::NoLog { .. }
            | Self::ServerEnded(_)
            | Self::LogGap { .. }
            | Self::StateGap { .. }
            | Self::Topology(_)
            | Self::Task(_) => ErrorKind::Internal,
        }
    }

    /// Whether the same call may succeed later.
    pub(crate) fn is_passing(&self) -> bool {
        self.kind() == ErrorKind::Unavailable && !matches!(self, Self::Stopping)
    }
}
