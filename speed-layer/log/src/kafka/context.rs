use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use anabranch_model::PartitionId;

/// Sends what librdkafka has to say to the program's own log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogContext;

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::debug!(target: "librdkafka", facility, "{message}")
            }
            RDKafkaLogLevel::Debug => tracing::trace!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Readers ask to be told of a partition's end; it comes here as well, and is no error.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        // Broker losses arrive here; librdkafka reconnects by itself.
        tracing::warn!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for LogContext {}

/// What the group's coordinator has decided.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rebalance {
    Assign(Vec<PartitionId>),
    Revoke(Vec<PartitionId>, Lost),
    Failed(String),
}

/// What the coordinator says to a commit of this member: it takes commits only from the group's present generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    Current,
    Former,
    /// It did not answer, or is rebalancing.
    Unknown,
}

impl Membership {
    pub(crate) fn of(committed: KafkaResult<()>) -> Self {
        match committed {
            Ok(()) => Self::Current,
            Err(error) => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::UnknownMemberId
                    | RDKafkaErrorCode::IllegalGeneration
                    | RDKafkaErrorCode::FencedInstanceId
                    | RDKafkaErrorCode::FencedMemberEpoch
                    | RDKafkaErrorCode::StaleMemberEpoch,
                ) => Self::Former,
                _ => Self::Unknown,
            },
        }
    }
}

/// Whether partitions have already moved to another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost(pub bool);

/// Notes the coordinator's decisions for the subscription, which carries them out between polls: what it does about a
/// revocation takes as long as draining takes.
#[derive(Debug, Default)]
pub(crate) struct GroupContext {
    decisions: Mutex<VecDeque<Rebalance>>,
    /// What the coordinator has said when it was asked whether partitions are still ours.
    confirmed: Mutex<BTreeMap<PartitionId, Membership>>,
    /// Once set, nobody carries out decisions any more, so revocations are confirmed at once.
    closing: AtomicBool,
}

impl GroupContext {
    pub(crate) fn next_decision(&self) -> Option<Rebalance> {
        self.decisions.lock().pop_front()
    }

    /// The coordinator's answer about a partition, if it has come.
    pub(crate) fn take_membership(&self, partition: PartitionId) -> Option<Membership> {
        self.confirmed.lock().remove(&partition)
    }

    pub(crate) fn note_membership(&self, partition: PartitionId, membership: Membership) {
        self.confirmed.lock().insert(partition, membership);
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        LogContext.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        LogContext.error(error, reason);
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.closing.load(Ordering::SeqCst) {
            // On the way out librdkafka takes any answer as giving up everything.
            if let Err(error) = consumer.incremental_unassign(&TopicPartitionList::new()) {
                tracing::debug!(%error, "leaving the group");
            }
            return;
        }
        let partitions = list
            .elements()
            .iter()
            .map(|element| PartitionId(element.partition()))
            .collect();
        let decision = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(partitions),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                Rebalance::Revoke(partitions, Lost(consumer.assignment_lost()))
            }
            other => Rebalance::Failed(rdkafka::error::RDKafkaErrorCode::from(other).to_string()),
        };
        self.decisions.lock().push_back(decision);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            // Only lag tools read these offsets.
            tracing::debug!(%error, "the group's offsets were not committed");
        }
    }
}
