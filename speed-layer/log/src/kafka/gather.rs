//! Gathers single messages into batches per partition. Decides only; knows no client.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anabranch_model::{Offset, OffsetRange, PartitionId, RawBatch, RawBatchBuilder};

use crate::ReadLimits;

#[cfg(test)]
mod tests;

/// How long a partition's records may wait for more while other partitions keep the queue full.
const LINGER: Duration = Duration::from_millis(20);

/// The partitions that are delivered, each with what is gathered of it.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    partitions: BTreeMap<PartitionId, Gathering>,
    /// Batches that were closed because the next record did not fit them.
    closed: VecDeque<RawBatch>,
    /// Payload bytes gathered in all partitions.
    bytes: usize,
    /// The partition that was handed out last; the others come first.
    served: PartitionId,
    /// Something was closed or filled since `due` was last asked.
    filled: bool,
}

/// What is gathered of one partition: it covers `[start, next)`.
#[derive(Debug)]
struct Gathering {
    start: i64,
    next: i64,
    records: RawBatchBuilder,
    since: Option<Instant>,
    /// Paused: what is gathered waits.
    held: bool,
}

impl Gather {
    /// Begins, or begins again, at a position. What was gathered is dropped: it will be delivered again if need be.
    pub(crate) fn start(&mut self, partition: PartitionId, from: Offset) {
        self.stop(partition);
        let fresh = Gathering {
            start: from.0,
            next: from.0,
            records: RawBatchBuilder::new(),
            since: None,
            held: false,
        };
        self.partitions.insert(partition, fresh);
    }

    /// Holds back what is gathered of a partition, or lets it go.
    pub(crate) fn hold(&mut self, partition: PartitionId, held: bool) {
        if let Some(gathering) = self.partitions.get_mut(&partition) {
            gathering.held = held;
        }
    }

    /// Forgets a partition and what is gathered of it. Returns whether it was there.
    pub(crate) fn stop(&mut self, partition: PartitionId) -> bool {
        self.closed.retain(|batch| batch.partition != partition);
        match self.partitions.remove(&partition) {
            Some(gathering) => {
                self.bytes -= gathering.records.payload_bytes();
                true
            }
            None => false,
        }
    }

    pub(crate) fn contains(&self, partition: PartitionId) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// Whether there are records of a partition that have not been handed out.
    pub(crate) fn gathered(&self, partition: PartitionId) -> bool {
        self.partitions
            .get(&partition)
            .is_some_and(|gathering| !gathering.records.is_empty())
            || self.closed.iter().any(|batch| batch.partition == partition)
    }

    /// Position of each partition: the offset after what has been gathered.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (PartitionId, Offset)> + '_ {
        self.partitions
            .iter()
            .map(|(p, gathering)| (*p, Offset(gathering.next)))
    }

    /// Adds a record of `bytes` of payload with `add`, unless its partition is not delivered or has it already. What was
    /// gathered before is closed when the record does not fit.
    pub(crate) fn push(
        &mut self,
        (partition, offset): (PartitionId, i64),
        bytes: usize,
        limits: ReadLimits,
        now: Instant,
        add: impl FnOnce(&mut RawBatchBuilder),
    ) -> bool {
        match self.partitions.get(&partition) {
            None => return false,
            Some(gathering) if offset < gathering.next => return false,
            Some(gathering) => {
                let full = gathering.records.payload_bytes() + bytes > limits.max_bytes
                    || gathering.records.len() >= limits.max_records;
                if full && !gathering.records.is_empty() {
                    let closed = self.take_open(partition);
                    self.closed.extend(closed);
                }
            }
        }
        let Some(gathering) = self.partitions.get_mut(&partition) else {
            return false;
        };
        add(&mut gathering.records);
        self.bytes += bytes;
        gathering.next = offset + 1;
        gathering.since.get_or_insert(now);
        self.filled |= !self.closed.is_empty()
            || gathering.records.len() >= limits.max_records
            || gathering.records.payload_bytes() >= limits.max_bytes
            || self.bytes >= limits.max_bytes.saturating_mul(2);
        true
    }

    /// Notes that the consumer has got to `position` without there being records: markers, or compacted ones.
    pub(crate) fn advance(&mut self, partition: PartitionId, position: Offset, now: Instant) {
        if let Some(gathering) = self.partitions.get_mut(&partition)
            && position.0 > gathering.next
        {
            gathering.next = position.0;
            gathering.since.get_or_insert(now);
        }
    }

    /// Whether a record has filled something, so that `due` has something whatever the time is. Cheap, unlike `due`, which
    /// looks at every partition.
    pub(crate) fn filled(&self) -> bool {
        self.filled
    }

    /// A batch that is closed or full, or that has waited long enough.
    pub(crate) fn due(&mut self, limits: ReadLimits, now: Instant) -> Option<RawBatch> {
        if let Some(batch) = self.next_closed() {
            return Some(batch);
        }
        self.filled = false;
        let full = self
            .partitions
            .iter()
            .filter(|(_, gathering)| !gathering.held)
            .find(|(_, gathering)| {
                gathering.records.len() >= limits.max_records.max(1)
                    || gathering.records.payload_bytes() >= limits.max_bytes.max(1)
                    || gathering.since.is_some_and(|since| now.duration_since(since) >= LINGER)
            });
        let partition = match full {
            Some((partition, _)) => *partition,
            // All partitions together may gather twice what one may; then the largest goes.
            None if self.bytes >= limits.max_bytes.saturating_mul(2) => {
                *self
                    .partitions
                    .iter()
                    .max_by_key(|(_, gathering)| gathering.records.payload_bytes())?
                    .0
            }
            None => return None,
        };
        self.take_open(partition)
    }

    /// Any batch there is; the partitions take turns.
    pub(crate) fn any(&mut self) -> Option<RawBatch> {
        if let Some(batch) = self.next_closed() {
            return Some(batch);
        }
        let has_some = |gathering: &Gathering| !gathering.held && gathering.next > gathering.start;
        let after = self.partitions.range(PartitionId(self.served.0 + 1)..);
        let before = self.partitions.range(..=self.served);
        let partition = *after.chain(before).find(|(_, gathering)| has_some(gathering))?.0;
        self.take_open(partition)
    }

    /// Takes what is gathered of one partition, a batch at a time, oldest first.
    pub(crate) fn take(&mut self, partition: PartitionId) -> Option<RawBatch> {
        match self.closed.iter().position(|batch| batch.partition == partition) {
            Some(place) => self.closed.remove(place),
            None => self.take_open(partition),
        }
    }

    fn next_closed(&mut self) -> Option<RawBatch> {
        let held = |p: PartitionId| self.partitions.get(&p).is_some_and(|gathering| gathering.held);
        let place = self.closed.iter().position(|batch| !held(batch.partition))?;
        self.closed.remove(place)
    }

    fn take_open(&mut self, partition: PartitionId) -> Option<RawBatch> {
        let gathering = self.partitions.get_mut(&partition)?;
        if gathering.next == gathering.start {
            return None;
        }
        self.bytes -= gathering.records.payload_bytes();
        self.served = partition;
        let range = OffsetRange::new(Offset(gathering.start), Offset(gathering.next));
        gathering.start = gathering.next;
        gathering.since = None;
        Some(gathering.records.finish(partition, range))
    }
}
