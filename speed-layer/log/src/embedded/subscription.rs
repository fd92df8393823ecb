use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anabranch_model::{Offset, PartitionId};

use super::TopicLog;
use super::topic::deadline;
use crate::{Error, LogEvent, ReadLimits, Subscription};

/// A reader of an embedded topic. It has all partitions, until a newer member of its group takes them over.
pub(crate) struct LogSubscription {
    log: Arc<TopicLog>,
    group: String,
    member: u64,
    lost: bool,
    partitions: BTreeMap<PartitionId, Position>,
    /// The partition that was served last; the others come first.
    served: PartitionId,
}

#[derive(Clone, Copy, Debug)]
enum Position {
    /// Assigned; `start` has not been called.
    Unstarted,
    Running(Offset),
    Paused(Offset),
}

impl LogSubscription {
    pub(crate) fn new(log: Arc<TopicLog>, group: &str) -> Self {
        let member = log.topic.join_group(group);
        Self {
            log,
            group: group.to_string(),
            member,
            lost: false,
            partitions: BTreeMap::new(),
            served: PartitionId(-1),
        }
    }

    /// What there is to tell at once.
    fn next_event(&mut self, limits: ReadLimits) -> Result<Option<LogEvent>, Error> {
        if self.lost {
            return Ok(None);
        }
        if self.log.topic.newest_member(&self.group) != self.member {
            self.lost = true;
            let partitions = std::mem::take(&mut self.partitions).into_keys().collect();
            return Ok(Some(LogEvent::Revoked { partitions, lost: true }));
        }
        let known = self.partitions.len() as i32;
        let count = self.log.topic.partition_count() as i32;
        if known < count {
            let added: Vec<_> = (known..count).map(PartitionId).collect();
            self.partitions.extend(added.iter().map(|p| (*p, Position::Unstarted)));
            return Ok(Some(LogEvent::Assigned(added)));
        }
        // Those after the one served last come first, then the others: none can starve.
        let after = self.partitions.keys().copied().filter(|p| *p > self.served);
        let before = self.partitions.keys().copied().filter(|p| *p <= self.served);
        let order: Vec<_> = after.chain(before).collect();
        for partition in order {
            let Some(Position::Running(from)) = self.partitions.get(&partition).copied() else {
                continue;
            };
            match self.log.topic.read_now(self.log.store(), partition, from, limits) {
                Ok(None) => {}
                Ok(Some(batch)) => {
                    self.partitions.insert(partition, Position::Running(batch.range.end));
                    self.served = partition;
                    return Ok(Some(LogEvent::Batch(batch)));
                }
                Err(Error::OutOfRange {
                    wanted, first, next, ..
                }) => {
                    self.partitions.insert(partition, Position::Unstarted);
                    return Ok(Some(LogEvent::OutOfRange {
                        partition,
                        wanted,
                        first,
                        next,
                    }));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn position(&mut self, partition: PartitionId) -> Result<&mut Position, Error> {
        let topic = &self.log.topic.name;
        self.partitions.get_mut(&partition).ok_or_else(|| Error::NotAssigned {
            topic: topic.clone(),
            partition,
        })
    }
}

impl Subscription for LogSubscription {
    fn poll(&mut self, limits: ReadLimits) -> Result<Option<LogEvent>, Error> {
        let deadline = deadline(limits.wait);
        loop {
            // Noted before looking, so that what comes while looking ends the wait at once.
            let seen = self.log.topic.version();
            if let Some(event) = self.next_event(limits)? {
                return Ok(Some(event));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            self.log.topic.wait_past(seen, deadline);
        }
    }

    fn start(&mut self, partition: PartitionId, from: Offset) -> Result<(), Error> {
        self.position(partition)?;
        self.log.topic.check_held(partition, from)?;
        *self.position(partition)? = Position::Running(from);
        Ok(())
    }

    fn pause(&mut self, partition: PartitionId) -> Result<(), Error> {
        let position = self.position(partition)?;
        if let Position::Running(from) = *position {
            *position = Position::Paused(from);
        }
        Ok(())
    }

    fn resume(&mut self, partition: PartitionId) -> Result<(), Error> {
        let position = self.position(partition)?;
        if let Position::Paused(from) = *position {
            *position = Position::Running(from);
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[PartitionId]) -> Result<(), Error> {
        // Partitions of an embedded log move only by being lost, and then there is nothing to let go.
        let _ = partitions;
        Ok(())
    }

    fn confirm(&mut self, partition: PartitionId) -> Result<Option<bool>, Error> {
        let newest = self.log.topic.newest_member(&self.group) == self.member;
        Ok(Some(newest && self.partitions.contains_key(&partition)))
    }
}
