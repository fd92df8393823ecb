use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, TopicPartitionList};

use anabranch_model::{Offset, OffsetVector, PartitionId};

use super::context::{GroupContext, Lost, Membership, Rebalance};
use super::gather::Gather;
use super::properties::{Role, client_config};
use super::{message, watermarks};
use crate::{Error, LogEvent, ReadLimits, Subscription};

/// How long a seek inside the client may take; it involves no broker.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages between two looks at the clock.
const MESSAGES_PER_LOOK: usize = 64;

/// A member of a Kafka consumer group.
///
/// What the coordinator assigns is confirmed at once, but a partition is given to librdkafka only by `start`, with the
/// position to begin at: nothing is fetched before, and no position is ever looked up in Kafka. What the coordinator
/// revokes is confirmed when all of it has been released.
pub(crate) struct KafkaSubscription {
    consumer: Arc<BaseConsumer<GroupContext>>,
    topic: String,
    /// Assigned by the coordinator, whether started or not.
    assigned: BTreeSet<PartitionId>,
    /// Given to librdkafka, which fetches them.
    started: BTreeSet<PartitionId>,
    paused: BTreeSet<PartitionId>,
    /// Revoked and not yet released.
    revoking: BTreeSet<PartitionId>,
    /// Started partitions that move when all of `revoking` is released.
    leaving: BTreeSet<PartitionId>,
    /// Partitions about which the coordinator is being asked.
    asking: BTreeSet<PartitionId>,
    /// The position last committed of each partition, or the one it was started at.
    committed: BTreeMap<PartitionId, Offset>,
    gather: Gather,
    events: VecDeque<LogEvent>,
}

impl KafkaSubscription {
    pub(crate) fn join(properties: &BTreeMap<String, String>, topic: &str, group: &str) -> Result<Self, Error> {
        let config = client_config(properties, Role::Member { group })?;
        let consumer: BaseConsumer<GroupContext> = super::create(&config, GroupContext::default(), "group member")?;
        consumer
            .subscribe(&[topic])
            .map_err(Error::kafka(format!("subscribe to topic {topic}")))?;
        Ok(Self {
            consumer: Arc::new(consumer),
            topic: topic.to_string(),
            assigned: BTreeSet::new(),
            started: BTreeSet::new(),
            paused: BTreeSet::new(),
            revoking: BTreeSet::new(),
            leaving: BTreeSet::new(),
            asking: BTreeSet::new(),
            committed: BTreeMap::new(),
            gather: Gather::default(),
            events: VecDeque::new(),
        })
    }

    fn list(&self, partitions: impl IntoIterator<Item = PartitionId>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition.0);
        }
        list
    }

    fn list_at(&self, partition: PartitionId, at: Offset) -> Result<TopicPartitionList, Error> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition.0, rdkafka::Offset::Offset(at.0))
            .map_err(Error::kafka(format!(
                "position partition {partition} of topic {}",
                self.topic
            )))?;
        Ok(list)
    }

    /// Carries out what the coordinator has decided since.
    fn serve_rebalances(&mut self) -> Result<(), Error> {
        while let Some(decision) = self.consumer.context().next_decision() {
            match decision {
                Rebalance::Assign(partitions) => {
                    // Confirms the assignment; librdkafka gets each partition from `start`, with its position.
                    self.consumer
                        .incremental_assign(&TopicPartitionList::new())
                        .map_err(Error::kafka("confirm an assignment"))?;
                    self.assigned.extend(&partitions);
                    if !partitions.is_empty() {
                        self.events.push_back(LogEvent::Assigned(partitions));
                    }
                }
                Rebalance::Revoke(partitions, Lost(lost)) => {
                    let moving: Vec<_> = partitions.into_iter().filter(|p| self.assigned.remove(p)).collect();
                    for partition in &moving {
                        // Not handed out yet, so the next owner reads it.
                        self.gather.stop(*partition);
                        self.asking.remove(partition);
                    }
                    self.revoking.extend(&moving);
                    self.leaving.extend(moving.iter().filter(|p| self.started.remove(p)));
                    if lost || moving.is_empty() {
                        self.revoking.clear();
                        self.confirm_revocation()?;
                    }
                    if !moving.is_empty() {
                        self.events.push_back(LogEvent::Revoked {
                            partitions: moving,
                            lost,
                        });
                    }
                }
                Rebalance::Failed(reason) => {
                    tracing::warn!(topic = self.topic, reason, "the consumer group could not be rebalanced");
                }
            }
        }
        Ok(())
    }

    /// Gives the partitions that leave back to the coordinator.
    fn confirm_revocation(&mut self) -> Result<(), Error> {
        let leaving = std::mem::take(&mut self.leaving);
        let paused: Vec<_> = leaving.iter().copied().filter(|p| self.paused.remove(p)).collect();
        if !paused.is_empty() {
            // librdkafka would remember the pause, should the partition come back.
            self.consumer
                .resume(&self.list(paused))
                .map_err(Error::kafka("resume partitions that leave"))?;
        }
        self.consumer
            .incremental_unassign(&self.list(leaving))
            .map_err(Error::kafka("give partitions back"))
    }

    fn check_assigned(&self, partition: PartitionId) -> Result<(), Error> {
        if self.assigned.contains(&partition) {
            Ok(())
        } else {
            Err(Error::NotAssigned {
                topic: self.topic.clone(),
                partition,
            })
        }
    }

    /// Refuses a position that the log does not hold. While no broker answers this is found out by fetching instead.
    fn check_held(&self, partition: PartitionId, wanted: Offset) -> Result<(), Error> {
        match watermarks(&self.consumer, &self.topic, partition) {
            Ok((first, next)) if wanted.0 < first || wanted.0 > next => Err(Error::OutOfRange {
                topic: self.topic.clone(),
                partition,
                wanted,
                first: Offset(first),
                next: Offset(next),
            }),
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(topic = self.topic, %partition, %error, "starting without knowing what the log holds");
                Ok(())
            }
        }
    }

    /// Some started partition is at an offset that is not held; which one, librdkafka's binding does not tell. It is taken
    /// from librdkafka, which has given up on it, and told of.
    fn stop_out_of_range(&mut self, error: KafkaError) -> Result<(), Error> {
        let positions: Vec<_> = self.gather.positions().collect();
        for (at, position) in positions {
            let Err(Error::OutOfRange {
                partition,
                wanted,
                first,
                next,
                ..
            }) = self.check_held(at, position)
            else {
                continue;
            };
            let action = format!("stop partition {partition} of topic {}", self.topic);
            let list = self.list([partition]);
            if self.paused.remove(&partition) {
                self.consumer.resume(&list).map_err(Error::kafka(action.clone()))?;
            }
            self.consumer
                .incremental_unassign(&list)
                .map_err(Error::kafka(action))?;
            self.started.remove(&partition);
            // What was gathered before it is whole and in order: it goes out first.
            while let Some(batch) = self.gather.take(partition) {
                self.events.push_back(LogEvent::Batch(batch));
            }
            self.gather.stop(partition);
            self.events.push_back(LogEvent::OutOfRange {
                partition,
                wanted,
                first,
                next,
            });
            return Ok(());
        }
        Err(Error::Kafka {
            action: format!("fetch from topic {}", self.topic),
            source: error,
        })
    }

    /// Polls the client once. Returns whether there may be more at once.
    fn poll_client(&mut self, wait: Duration, limits: ReadLimits, now: Instant) -> Result<bool, Error> {
        match self.consumer.poll(wait) {
            None => Ok(false),
            Some(Ok(message)) => {
                let place = (PartitionId(message.partition()), message.offset());
                self.gather.push(place, message.payload_len(), limits, now, |records| {
                    message::push(records, &message)
                });
                Ok(true)
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                let partition = PartitionId(partition);
                if self.gather.contains(partition)
                    && let Some(position) = position(&self.consumer, &self.topic, partition)
                {
                    self.gather.advance(partition, position, now);
                }
                Ok(true)
            }
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                    self.stop_out_of_range(error).map(|()| true)
                }
                _ => tolerate(&self.topic, error).map(|()| true),
            },
        }
    }
}

impl Subscription for KafkaSubscription {
    fn poll(&mut self, limits: ReadLimits) -> Result<Option<LogEvent>, Error> {
        let mut now = Instant::now();
        let deadline = now + limits.wait.min(Duration::from_secs(86_400));
        loop {
            self.serve_rebalances()?;
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if let Some(batch) = self.gather.due(limits, now) {
                return Ok(Some(LogEvent::Batch(batch)));
            }
            // What librdkafka has at once is gathered; waited for is only the first record.
            let mut more = true;
            for _ in 0..MESSAGES_PER_LOOK {
                more = self.poll_client(Duration::ZERO, limits, now)?;
                if !more || self.gather.filled() {
                    break;
                }
            }
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if !more {
                if let Some(batch) = self.gather.any() {
                    return Ok(Some(LogEvent::Batch(batch)));
                }
                let wait = deadline.saturating_duration_since(Instant::now());
                if wait.is_zero() {
                    // A decision of the coordinator may have come last.
                    self.serve_rebalances()?;
                    return Ok(self.events.pop_front());
                }
                self.poll_client(wait, limits, Instant::now())?;
            }
            now = Instant::now();
        }
    }

    fn start(&mut self, partition: PartitionId, from: Offset) -> Result<(), Error> {
        self.check_assigned(partition)?;
        self.check_held(partition, from)?;
        let at = self.list_at(partition, from)?;
        let action = || format!("start partition {partition} of topic {} at {from}", self.topic);
        if self.started.contains(&partition) {
            if self.paused.remove(&partition) {
                self.consumer
                    .resume(&self.list([partition]))
                    .map_err(Error::kafka(action()))?;
            }
            let sought = self
                .consumer
                .seek_partitions(at, SEEK_TIMEOUT)
                .map_err(Error::kafka(action()))?;
            for element in sought.elements() {
                element.error().map_err(Error::kafka(action()))?;
            }
        } else {
            self.consumer.incremental_assign(&at).map_err(Error::kafka(action()))?;
            self.started.insert(partition);
        }
        self.gather.start(partition, from);
        self.committed.entry(partition).or_insert(from);
        Ok(())
    }

    fn pause(&mut self, partition: PartitionId) -> Result<(), Error> {
        self.check_assigned(partition)?;
        if self.started.contains(&partition) && self.paused.insert(partition) {
            let action = format!("pause partition {partition} of topic {}", self.topic);
            self.consumer
                .pause(&self.list([partition]))
                .map_err(Error::kafka(action))?;
            self.gather.hold(partition, true);
        }
        Ok(())
    }

    fn resume(&mut self, partition: PartitionId) -> Result<(), Error> {
        self.check_assigned(partition)?;
        if self.paused.remove(&partition) {
            let action = format!("resume partition {partition} of topic {}", self.topic);
            self.consumer
                .resume(&self.list([partition]))
                .map_err(Error::kafka(action))?;
            self.gather.hold(partition, false);
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[PartitionId]) -> Result<(), Error> {
        let mut released = false;
        for partition in partitions {
            released |= self.revoking.remove(partition);
        }
        if released && self.revoking.is_empty() {
            self.confirm_revocation()
        } else {
            Ok(())
        }
    }

    /// A commit of what is committed already: the coordinator takes it from members of the present generation only.
    fn confirm(&mut self, partition: PartitionId) -> Result<Option<bool>, Error> {
        if !self.assigned.contains(&partition) || self.consumer.assignment_lost() {
            return Ok(Some(false));
        }
        if self.asking.contains(&partition) {
            let Some(membership) = self.consumer.context().take_membership(partition) else {
                return Ok(None);
            };
            self.asking.remove(&partition);
            match membership {
                Membership::Current => return Ok(Some(true)),
                Membership::Former => return Ok(Some(false)),
                Membership::Unknown => {}
            }
        }
        let list = self.list_at(partition, self.committed.get(&partition).copied().unwrap_or_default())?;
        let consumer = Arc::clone(&self.consumer);
        // What was answered to an earlier question is not the answer to this one.
        let _ = self.consumer.context().take_membership(partition);
        // Only a synchronous commit tells its result, and it waits for the coordinator as long as that takes.
        let ask = move || {
            let membership = Membership::of(consumer.commit(&list, CommitMode::Sync));
            consumer.context().note_membership(partition, membership);
        };
        thread::Builder::new()
            .name("kafka-confirm".into())
            .spawn(ask)
            .map_err(|error| {
                Error::Internal(format!(
                    "cannot start a thread that asks the group's coordinator: {error}"
                ))
            })?;
        self.asking.insert(partition);
        Ok(None)
    }

    fn landed(&mut self, next: &OffsetVector) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in next
            .iter()
            .filter(|(p, _)| self.started.contains(p) || self.leaving.contains(p))
        {
            if list
                .add_partition_offset(&self.topic, partition.0, rdkafka::Offset::Offset(offset.0))
                .is_err()
            {
                return;
            }
            self.committed.insert(partition, offset);
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(topic = self.topic, %error, "the group's offsets were not committed");
        }
    }
}

impl Drop for KafkaSubscription {
    fn drop(&mut self) {
        // From here on the context answers the coordinator. A revocation that still waits is answered first: leaving the
        // group waits for it.
        self.consumer.context().close();
        self.leaving.append(&mut self.started);
        if let Err(error) = self.confirm_revocation() {
            tracing::debug!(topic = self.topic, %error, "leaving the group");
        }
    }
}

/// Where the consumer has got to in a partition: after the last record and the markers behind it.
pub(crate) fn position<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: PartitionId,
) -> Option<Offset> {
    let positions = consumer.position().ok()?;
    match positions.find_partition(topic, partition.0)?.offset() {
        rdkafka::Offset::Offset(offset) => Some(Offset(offset)),
        _ => None,
    }
}

/// Logs what librdkafka gets over by itself; returns what it does not.
pub(crate) fn tolerate(topic: &str, error: KafkaError) -> Result<(), Error> {
    let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::GroupAuthorizationFailed
                    | RDKafkaErrorCode::ClusterAuthorizationFailed
                    | RDKafkaErrorCode::SaslAuthenticationFailed
                    | RDKafkaErrorCode::AutoOffsetReset
                    | RDKafkaErrorCode::OffsetOutOfRange
                    | RDKafkaErrorCode::InvalidGroupId
                    | RDKafkaErrorCode::InconsistentGroupProtocol
            )
        );
    if fatal {
        return Err(Error::Kafka {
            action: format!("fetch from topic {topic}"),
            source: error,
        });
    }
    tracing::warn!(topic, %error, "kafka consumer");
    Ok(())
}
