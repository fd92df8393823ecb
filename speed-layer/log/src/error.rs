use std::io;
use std::path::PathBuf;

use anabranch_model::{ErrorKind, Offset, PartitionId};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What can go wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process (or another part of this one) has the ingest log open.
    #[error(
        "the ingest log in {} is held by {holder}; send events through its HTTP address with `--url`, or stop it first",
        dir.display()
    )]
    Locked { dir: PathBuf, holder: String },
    /// The partition is not one of the topic's.
    #[error("topic {topic} has no partition {partition}: it has {partitions}")]
    UnknownPartition {
        topic: String,
        partition: PartitionId,
        partitions: usize,
    },
    /// The topic is not there, and nothing said that it should be created.
    #[error(
        "topic {topic} does not exist; create it, or give the table a number of `partitions` so that it is created"
    )]
    UnknownTopic { topic: String },
    /// The offset asked for is no longer held (retention), or was never written (the log is shorter than expected).
    #[error("topic {topic} partition {partition}: offset {wanted} is not held; the log holds {first} up to {next}{}", out_of_range_hint(*wanted, *first))]
    OutOfRange {
        topic: String,
        partition: PartitionId,
        wanted: Offset,
        first: Offset,
        next: Offset,
    },
    /// `start`, `pause` or `resume` of a partition that is not assigned to this subscription.
    #[error("topic {topic} partition {partition} is not assigned to this subscription")]
    NotAssigned { topic: String, partition: PartitionId },
    /// One record is larger than any log takes.
    #[error(
        "a record of {bytes} bytes is larger than the limit of {limit} bytes; split it, or store it elsewhere and send a reference"
    )]
    RecordTooLarge { bytes: usize, limit: usize },
    /// A topic's partitions can be added to, never taken away: their events would be lost.
    #[error("topic {topic} has {have} partitions and cannot shrink to {wanted}; set `partitions` to at least {have}")]
    PartitionsShrink { topic: String, have: u32, wanted: u32 },
    /// A name, count or property that cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// A librdkafka property that would break what Anabranch promises.
    #[error("kafka property {name} cannot be set to {value:?}: {reason}")]
    RefusedProperty {
        name: String,
        value: String,
        reason: &'static str,
    },
    /// The log has been closed.
    #[error("the log is closed")]
    Closed,
    /// A stored block cannot be read.
    #[error("topic {topic} partition {partition}: the stored block that ends at {last} is damaged: {reason}")]
    Damaged {
        topic: String,
        partition: PartitionId,
        last: Offset,
        reason: String,
    },
    /// The disk is as good as full. Nothing was written, and the log goes on when there is space.
    #[error(
        "the disk of the ingest log in {} is full: {free_bytes} bytes are free, and {reserve_bytes} are kept for the log's own \
         upkeep. Free some space there, lower the table's `retention`, or set `[ingest_log] dir` to another disk; appends go on by themselves",
        dir.display()
    )]
    DiskFull {
        dir: PathBuf,
        free_bytes: u64,
        reserve_bytes: u64,
    },
    /// The file system said no.
    #[error("{action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The embedded store said no.
    #[error("the ingest log could not {action}: {source}")]
    Store { action: &'static str, source: fjall::Error },
    /// An earlier write to the embedded store failed; the reason is in its first error.
    #[error("the ingest log could not write: {0}")]
    Write(String),
    /// Kafka, or librdkafka, said no.
    #[error("kafka: could not {action}: {source}")]
    Kafka { action: String, source: KafkaError },
    /// A thread or task of this crate ended when it should not have.
    #[error("{0}")]
    Internal(String),
}

fn out_of_range_hint(wanted: Offset, first: Offset) -> &'static str {
    if wanted < first {
        "; it has been deleted by retention before it was read"
    } else {
        "; the log is shorter than what was read from it before: it was replaced or has lost events"
    }
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked { .. } | Self::OutOfRange { .. } => ErrorKind::Conflict,
            Self::UnknownPartition { .. } | Self::UnknownTopic { .. } => ErrorKind::NotFound,
            Self::RecordTooLarge { .. }
            | Self::PartitionsShrink { .. }
            | Self::Invalid(_)
            | Self::RefusedProperty { .. } => ErrorKind::Invalid,
            Self::Damaged { .. } => ErrorKind::Data,
            Self::NotAssigned { .. } | Self::Internal(_) => ErrorKind::Internal,
            Self::Closed | Self::DiskFull { .. } | Self::Io { .. } | Self::Write(_) => ErrorKind::Unavailable,
            Self::Store { source, .. } => match source {
                fjall::Error::Locked => ErrorKind::Conflict,
                fjall::Error::Io(_) | fjall::Error::Poisoned => ErrorKind::Unavailable,
                _ => ErrorKind::Data,
            },
            Self::Kafka { source, .. } => kafka_kind(source),
        }
    }

    pub(crate) fn kafka(action: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let action = action.into();
        move |source| Self::Kafka { action, source }
    }

    pub(crate) fn store(action: &'static str) -> impl Fn(fjall::Error) -> Self {
        move |source| Self::Store { action, source }
    }
}

fn kafka_kind(error: &KafkaError) -> ErrorKind {
    if matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_)) {
        return ErrorKind::Invalid;
    }
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicId,
        ) => ErrorKind::NotFound,
        Some(
            RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::InvalidPartitions
            | RDKafkaErrorCode::InvalidReplicationFactor
            | RDKafkaErrorCode::InvalidConfig
            | RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed,
        ) => ErrorKind::Invalid,
        Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => ErrorKind::Conflict,
        _ => ErrorKind::Unavailable,
    }
}
