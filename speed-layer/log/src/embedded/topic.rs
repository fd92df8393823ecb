use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::watch;

use anabranch_model::{Offset, OffsetVector, PartitionId, RawBatch};

use super::block::{Block, join};
use super::retention::Retention;
use super::store::{Lane, Store};
use crate::partitioner::RoundRobin;
use crate::{Error, ReadLimits};

/// A topic as all its readers and the writer share it.
pub(crate) struct Topic {
    pub name: String,
    pub id: u32,
    pub identity: String,
    pub turn: RoundRobin,
    settings: RwLock<Retention>,
    /// What readers may see. Written by the writer thread after what it tells is durable.
    partitions: RwLock<Vec<PartitionState>>,
    /// Changes with every append; async readers wait on it.
    changed: watch::Sender<u64>,
    /// The same for readers on threads of their own.
    changed_sync: (Mutex<u64>, Condvar),
    /// Newest member of each reader group; an older one has lost its partitions.
    groups: Mutex<HashMap<String, u64>>,
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionState {
    pub begin: i64,
    pub end: i64,
    /// Bytes of all blocks ever, and of those already deleted.
    pub total_bytes: u64,
    pub deleted_bytes: u64,
    pub highest_timestamp_ms: i64,
}

impl PartitionState {
    const EMPTY: Self = Self {
        begin: 0,
        end: 0,
        total_bytes: 0,
        deleted_bytes: 0,
        highest_timestamp_ms: i64::MIN,
    };

    /// Finds out from the store where a partition begins and ends.
    pub(crate) fn recover(store: &Store, lane: Lane) -> Result<Self, Error> {
        let begin = store.begin(lane)?;
        let mut entries = store.index_from(lane, begin);
        let Some((last, newest)) = entries.next_back().transpose()? else {
            return Ok(Self {
                begin,
                end: begin,
                ..Self::EMPTY
            });
        };
        let (_, oldest) = store
            .index_from(lane, begin)
            .next()
            .transpose()?
            .unwrap_or((last, newest));
        Ok(Self {
            begin,
            end: last + 1,
            total_bytes: newest.total_bytes,
            deleted_bytes: oldest.total_bytes - oldest.bytes,
            highest_timestamp_ms: newest.highest_timestamp_ms,
        })
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.total_bytes - self.deleted_bytes
    }
}

impl Topic {
    pub(crate) fn new(
        name: String,
        id: u32,
        identity: String,
        retention: Retention,
        partitions: Vec<PartitionState>,
    ) -> Self {
        Self {
            name,
            id,
            identity,
            turn: RoundRobin::default(),
            settings: RwLock::new(retention),
            partitions: RwLock::new(partitions),
            changed: watch::Sender::new(0),
            changed_sync: Default::default(),
            groups: Mutex::default(),
        }
    }

    pub(crate) fn lane(&self, partition: PartitionId) -> Lane {
        Lane {
            topic: self.id,
            partition,
        }
    }

    pub(crate) fn retention(&self) -> Retention {
        *self.settings.read()
    }

    pub(crate) fn set_retention(&self, retention: Retention) {
        *self.settings.write() = retention;
    }

    pub(crate) fn partition_count(&self) -> u32 {
        self.partitions.read().len() as u32
    }

    /// Adds empty partitions up to `count`.
    pub(crate) fn grow(&self, count: u32) {
        self.partitions.write().resize(count as usize, PartitionState::EMPTY);
        self.wake();
    }

    pub(crate) fn state(&self, partition: PartitionId) -> Result<PartitionState, Error> {
        let states = self.partitions.read();
        let state = usize::try_from(partition.0)
            .ok()
            .and_then(|index| states.get(index).copied());
        state.ok_or_else(|| Error::UnknownPartition {
            topic: self.name.clone(),
            partition,
            partitions: states.len(),
        })
    }

    pub(crate) fn set_state(&self, partition: PartitionId, state: PartitionState) {
        if let Some(place) = self.partitions.write().get_mut(partition.0 as usize) {
            *place = state;
        }
    }

    /// One number of every partition, of one moment.
    pub(crate) fn vector(&self, of: impl Fn(&PartitionState) -> i64) -> OffsetVector {
        let states = self.partitions.read();
        states
            .iter()
            .enumerate()
            .map(|(p, state)| (PartitionId(p as i32), Offset(of(state))))
            .collect()
    }

    /// Tells all readers that something was appended.
    pub(crate) fn wake(&self) {
        self.changed.send_modify(|version| *version += 1);
        *self.changed_sync.0.lock() += 1;
        self.changed_sync.1.notify_all();
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn version(&self) -> u64 {
        *self.changed_sync.0.lock()
    }

    /// Blocks the thread until the version is another one than `seen`, or until `deadline`.
    pub(crate) fn wait_past(&self, seen: u64, deadline: Instant) {
        let mut version = self.changed_sync.0.lock();
        while *version == seen {
            if self.changed_sync.1.wait_until(&mut version, deadline).timed_out() {
                return;
            }
        }
    }

    /// Makes the caller the newest member of a group; returns its number there.
    pub(crate) fn join_group(&self, group: &str) -> u64 {
        let mut groups = self.groups.lock();
        let member = groups.entry(group.to_string()).or_default();
        *member += 1;
        let member = *member;
        drop(groups);
        self.wake();
        member
    }

    pub(crate) fn newest_member(&self, group: &str) -> u64 {
        self.groups.lock().get(group).copied().unwrap_or_default()
    }

    pub(crate) fn check_held(&self, partition: PartitionId, wanted: Offset) -> Result<PartitionState, Error> {
        let state = self.state(partition)?;
        if wanted.0 < state.begin || wanted.0 > state.end {
            return Err(Error::OutOfRange {
                topic: self.name.clone(),
                partition,
                wanted,
                first: Offset(state.begin),
                next: Offset(state.end),
            });
        }
        Ok(state)
    }

    /// What can be read at once from `from` on; `None` at the end.
    pub(crate) fn read_now(
        &self,
        store: &Store,
        partition: PartitionId,
        from: Offset,
        limits: ReadLimits,
    ) -> Result<Option<RawBatch>, Error> {
        let end = self.check_held(partition, from)?.end;
        if from.0 == end {
            return Ok(None);
        }
        let mut slices = Vec::new();
        let (mut next, mut records, mut bytes) = (from.0, 0, 0);
        for found in store.blocks(self.lane(partition), from.0, end) {
            let (last, encoded) = found?;
            let damaged = |reason| Error::Damaged {
                topic: self.name.clone(),
                partition,
                last: Offset(last),
                reason,
            };
            let block = Block::decode(encoded, last).map_err(damaged)?;
            if block.base() > next {
                break;
            }
            let (to, fitting) = block.fit(next, limits.max_records - records, limits.max_bytes - bytes);
            if !slices.is_empty() && bytes + fitting > limits.max_bytes {
                break;
            }
            slices.push(block.slice(partition, next, to).map_err(damaged)?);
            records += (to - next) as usize;
            bytes += fitting;
            next = to;
            // Past half of a limit, a further block is more likely to be cut in two than to be taken whole.
            if to < block.end() || records * 2 >= limits.max_records || bytes * 2 >= limits.max_bytes {
                break;
            }
        }
        if slices.is_empty() {
            // Retention deleted the block after it was found to be held.
            self.check_held(partition, from)?;
            return Err(Error::Damaged {
                topic: self.name.clone(),
                partition,
                last: from,
                reason: "no block holds this offset, though the log says so".into(),
            });
        }
        Ok(join(slices))
    }

    /// First offset at or after the time, in one partition.
    pub(crate) fn offset_at(&self, store: &Store, partition: PartitionId, timestamp_ms: i64) -> Result<Offset, Error> {
        let state = self.state(partition)?;
        let lane = self.lane(partition);
        if state.highest_timestamp_ms < timestamp_ms {
            return Ok(Offset(state.end));
        }
        // Bisects the offsets for the first block up to which the highest timestamp reaches the time. Earlier blocks
        // hold nothing that late; this one does, unless what raised the highest timestamp has been deleted.
        let (mut low, mut high) = (state.begin, state.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match store.index_from(lane, middle).next().transpose()? {
                Some((last, entry)) if entry.highest_timestamp_ms < timestamp_ms => low = last + 1,
                _ => high = middle,
            }
        }
        for found in store.index_from(lane, low) {
            let (last, entry) = found?;
            if last >= state.end {
                break;
            }
            if entry.max_timestamp_ms < timestamp_ms {
                continue;
            }
            for found in store.blocks(lane, last, last + 1) {
                let damaged = |reason| Error::Damaged {
                    topic: self.name.clone(),
                    partition,
                    last: Offset(last),
                    reason,
                };
                let block = Block::decode(found?.1, last).map_err(damaged)?;
                if let Some(offset) = block.first_at(state.begin, timestamp_ms) {
                    return Ok(Offset(offset));
                }
            }
        }
        Ok(Offset(state.end))
    }
}

/// The moment `wait` from now; far waits are cut to a day, which every clock can express.
pub(crate) fn deadline(wait: Duration) -> Instant {
    Instant::now() + wait.min(Duration::from_secs(86_400))
}
