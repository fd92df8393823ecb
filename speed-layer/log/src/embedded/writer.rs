//! The writer thread: takes what callers have queued, writes it as one batch, syncs once, then answers them all.
//!
//! No timer gathers appends. While one batch is being synced the next one gathers by itself, so a lone append is as fast
//! as the disk, and under load one sync is shared by all that came during the one before.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use anabranch_model::{Offset, OffsetVector, PartitionId, crash_point};

use super::block::{BlockBuilder, EncodedBlock};
use super::store::{IndexEntry, Lane, Store};
use super::topic::{PartitionState, Topic};
use super::{Clock, DiskGauge};
use crate::Error;

/// Bytes of one committed batch, above which the next appends wait for the next one.
const COMMIT_BYTES: usize = 64 << 20;
/// Small pieces of one partition are joined into a block up to this many bytes.
const JOINED_BYTES: usize = 1 << 20;
/// Blocks deleted in one batch.
const DELETED_AT_ONCE: usize = 256;

/// Records of one partition on their way into a block.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Small: joined with others of the same commit.
    Loose(BlockBuilder),
    /// Large enough to be a block; encoded by the caller, so that callers share that work.
    Block(EncodedBlock),
}

impl Piece {
    fn bytes(&self) -> usize {
        match self {
            Self::Loose(builder) => builder.content_bytes(),
            Self::Block(block) => block.bytes.len(),
        }
    }
}

/// One caller's records.
pub(crate) struct Append {
    pub topic: Arc<Topic>,
    pub pieces: Vec<(PartitionId, Piece)>,
    pub done: oneshot::Sender<Result<OffsetVector, Error>>,
    /// The caller's share of the bytes in flight, given back when it is answered.
    pub _admission: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Pending {
    appends: Vec<Append>,
    closed: bool,
}

/// What callers and the writer thread share. The queue is bounded by the admission permits that its entries hold.
#[derive(Default)]
pub(crate) struct Queue {
    pending: Mutex<Pending>,
    wake: Condvar,
}

impl Queue {
    pub(crate) fn push(&self, append: Append) -> Result<(), Error> {
        let mut pending = self.pending.lock();
        if pending.closed {
            return Err(Error::Closed);
        }
        pending.appends.push(append);
        self.wake.notify_one();
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.pending.lock().closed = true;
        self.wake.notify_one();
    }

    /// Everything queued; empty after `wait` without anything. `None` when the queue is closed and drained.
    fn take(&self, wait: Duration) -> Option<Vec<Append>> {
        let mut pending = self.pending.lock();
        if pending.appends.is_empty() && !pending.closed {
            self.wake.wait_for(&mut pending, wait);
        }
        if pending.appends.is_empty() && pending.closed {
            return None;
        }
        Some(std::mem::take(&mut pending.appends))
    }
}

pub(crate) struct Writer {
    pub store: Store,
    pub queue: Arc<Queue>,
    pub topics: Arc<RwLock<BTreeMap<String, Arc<Topic>>>>,
    pub clock: Clock,
    /// How often the age of blocks is looked at.
    pub retention_check: Duration,
    pub dir: PathBuf,
    pub disk: DiskGauge,
    /// Whether the last append found the disk full.
    pub full: Cell<bool>,
}

impl Writer {
    pub(crate) fn run(self) {
        let mut checked = Instant::now();
        while let Some(appends) = self.queue.take(self.retention_check) {
            let mut rest = appends.into_iter().peekable();
            while rest.peek().is_some() {
                let mut bytes = 0;
                let mut batch = Vec::new();
                while let Some(append) = rest.next_if(|_| bytes < COMMIT_BYTES) {
                    bytes += append.pieces.iter().map(|(_, piece)| piece.bytes()).sum::<usize>();
                    batch.push(append);
                }
                match self.check_room(bytes) {
                    Ok(()) => self.commit(batch),
                    Err(refusal) => {
                        for append in batch {
                            let _ = append.done.send(Err(refusal()));
                        }
                    }
                }
            }
            if checked.elapsed() >= self.retention_check {
                checked = Instant::now();
                self.expire();
            }
        }
    }

    /// Refuses before the disk is full: what runs out of space in the middle of a write is damaged, what was never begun is
    /// not. Bytes are counted twice, for the journal and for the tables that it becomes.
    fn check_room(&self, bytes: usize) -> Result<(), impl Fn() -> Error + use<>> {
        let space = (self.disk)(&self.dir).filter(|space| !space.has_room_for(2 * bytes as u64));
        let dir = self.dir.clone();
        let Some(space) = space else {
            if self.full.replace(false) {
                tracing::info!(dir = %dir.display(), "the ingest log's disk has room again: appends go on");
            }
            return Ok(());
        };
        if !self.full.replace(true) {
            tracing::error!(dir = %dir.display(), free_bytes = space.free_bytes, "the ingest log's disk is full: appends are refused until there is space");
        }
        Err(move || Error::DiskFull {
            dir: dir.clone(),
            free_bytes: space.free_bytes,
            reserve_bytes: space.reserve_bytes(),
        })
    }

    /// Writes the records of all these callers, durably, and answers each.
    fn commit(&self, appends: Vec<Append>) {
        let mut lanes: BTreeMap<Lane, LaneWrite> = BTreeMap::new();
        let mut answers = Vec::with_capacity(appends.len());
        for append in appends {
            let mut next = OffsetVector::new();
            let mut failed = None;
            for (partition, piece) in append.pieces {
                let lane = append.topic.lane(partition);
                let write = match lanes.entry(lane) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => match append.topic.state(partition) {
                        Ok(state) => entry.insert(LaneWrite::new(append.topic.clone(), partition, state)),
                        Err(error) => {
                            failed = Some(error);
                            break;
                        }
                    },
                };
                next.set(partition, Offset(write.add(piece)));
            }
            answers.push((append.done, failed.map_or(Ok(next), Err), append._admission));
        }

        let mut batch = self.store.write();
        for (lane, write) in &mut lanes {
            write.close_block();
            for (last, block, entry) in write.blocks.drain(..) {
                batch.put_block(*lane, last, block, entry);
            }
        }
        crash_point!("log.append.before");
        match batch.commit() {
            Ok(()) => {
                crash_point!("log.append.after");
                let mut topics = BTreeMap::new();
                for write in lanes.into_values() {
                    write.topic.set_state(write.partition, write.state);
                    topics.insert(write.topic.id, write.topic);
                }
                for topic in topics.into_values() {
                    topic.wake();
                }
                for (done, answer, _admission) in answers {
                    // A caller that no longer waits has its records all the same.
                    let _ = done.send(answer);
                }
            }
            Err(error) => {
                let reason = error.to_string();
                tracing::error!(%reason, "the ingest log could not write; appends are refused until it is opened again");
                for (done, _, _admission) in answers {
                    let _ = done.send(Err(Error::Write(reason.clone())));
                }
            }
        }
    }

    /// Deletes what retention no longer holds.
    fn expire(&self) {
        let topics: Vec<_> = self.topics.read().values().cloned().collect();
        for topic in topics {
            for partition in (0..topic.partition_count()).map(|p| PartitionId(p as i32)) {
                while match self.expire_some(&topic, partition) {
                    Ok(deleted) => deleted == DELETED_AT_ONCE,
                    Err(error) => {
                        tracing::warn!(topic = topic.name, %partition, %error, "retention could not delete; it will try again");
                        false
                    }
                } {}
            }
        }
    }

    fn expire_some(&self, topic: &Topic, partition: PartitionId) -> Result<usize, Error> {
        let retention = topic.retention();
        if retention == Default::default() {
            return Ok(0);
        }
        let now_ms = (self.clock)();
        let lane = topic.lane(partition);
        let mut state = topic.state(partition)?;
        let mut batch = self.store.write_behind();
        let mut deleted = 0;
        for found in self.store.index_from(lane, state.begin) {
            let (last, entry) = found?;
            let is_last = last + 1 >= state.end;
            if deleted == DELETED_AT_ONCE || !retention.expires(&entry, state.held_bytes(), is_last, now_ms) {
                break;
            }
            batch.remove_block(lane, last);
            state.begin = last + 1;
            state.deleted_bytes += entry.bytes;
            deleted += 1;
        }
        if deleted > 0 {
            batch.set_begin(lane, state.begin);
            // Readers learn first: one that starts now gets a clear answer instead of a missing block.
            topic.set_state(partition, state);
            batch.commit()?;
            tracing::debug!(topic = topic.name, %partition, begin = state.begin, deleted, "retention deleted blocks");
        }
        Ok(deleted)
    }
}

/// What one commit adds to one partition.
struct LaneWrite {
    topic: Arc<Topic>,
    partition: PartitionId,
    /// The partition as it will be after the commit.
    state: PartitionState,
    open: BlockBuilder,
    blocks: Vec<(i64, EncodedBlock, IndexEntry)>,
}

impl LaneWrite {
    fn new(topic: Arc<Topic>, partition: PartitionId, state: PartitionState) -> Self {
        Self {
            topic,
            partition,
            state,
            open: BlockBuilder::default(),
            blocks: Vec::new(),
        }
    }

    /// Adds a piece; returns the offset after its last record.
    fn add(&mut self, piece: Piece) -> i64 {
        match piece {
            Piece::Loose(builder) => {
                if self.open.is_empty() {
                    self.open = builder;
                } else {
                    self.open.append(builder);
                }
                if self.open.content_bytes() >= JOINED_BYTES {
                    self.close_block();
                }
            }
            Piece::Block(block) => {
                self.close_block();
                self.put(block);
            }
        }
        self.state.end + self.open.records() as i64
    }

    fn close_block(&mut self) {
        if !self.open.is_empty() {
            let block = std::mem::take(&mut self.open).encode();
            self.put(block);
        }
    }

    fn put(&mut self, block: EncodedBlock) {
        let state = &mut self.state;
        state.end += i64::from(block.records);
        state.total_bytes += block.bytes.len() as u64;
        state.highest_timestamp_ms = state.highest_timestamp_ms.max(block.max_timestamp_ms);
        let entry = IndexEntry {
            records: block.records,
            bytes: block.bytes.len() as u64,
            total_bytes: state.total_bytes,
            max_timestamp_ms: block.max_timestamp_ms,
            highest_timestamp_ms: state.highest_timestamp_ms,
        };
        self.blocks.push((state.end - 1, block, entry));
    }
}
