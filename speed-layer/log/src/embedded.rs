//! The embedded durable ingest log: partitions, offsets and group-committed appends on one node, without Kafka.
//!
//! ```text
//! append ─► encode (caller) ─► queue ─► writer thread ─► one batch, one fsync ─► acks, wakes readers
//!                             (bounded by bytes)              │
//! read, subscribe ◄── blocks, sharing their bytes ◄── store ◄─┘─► retention deletes whole blocks from the head
//! ```
//! An acknowledged event survives `kill -9` and power loss as far as the disk keeps its word on `fsync`. One process at a
//! time holds a directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, oneshot};
use uuid::Uuid;

use anabranch_model::{Offset, OffsetVector, PartitionId, RawBatch, RawRecord};

use crate::partitioned::MAX_RECORD_BYTES;
use crate::partitioner::partition_of_key;
use crate::{Error, PartitionedLog, ReadLimits, Subscription};

mod block;
mod disk;
mod lock;
mod retention;
mod store;
mod subscription;
#[cfg(test)]
mod tests;
mod topic;
mod writer;

pub use disk::DiskSpace;
pub use retention::Retention;

use block::BlockBuilder;
use lock::DirectoryLock;
use store::{Store, TopicRecord};
use subscription::LogSubscription;
use topic::{PartitionState, Topic, deadline};
use writer::{Append, Piece, Queue, Writer};

/// Tells the time in milliseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;
/// Tells how much room there is on a folder's disk; `None` where that cannot be told.
pub type DiskGauge = Arc<dyn Fn(&Path) -> Option<DiskSpace> + Send + Sync>;

/// Bytes of one block, above which an append begins another.
const BLOCK_BYTES: usize = 4 << 20;
/// Records of one block, likewise.
const BLOCK_RECORDS: usize = 32_768;
/// From this size on a piece becomes a block of its own instead of being joined with other callers' records.
const LOOSE_BYTES: usize = 64 << 10;
/// Admission is counted in units of 1 KiB, so that its count fits the semaphore's.
const ADMISSION_UNIT: usize = 1 << 10;
const MAX_PARTITIONS: u32 = 1_024;

/// What can be chosen about an [`IngestLog`].
#[derive(Clone)]
pub struct Options {
    /// Stamps records that have no timestamp, and tells retention how old they are. The system's clock by default.
    pub clock: Clock,
    /// Bytes of appends that may wait to be written; further callers wait. 256 MiB by default.
    pub in_flight_bytes: usize,
    /// Bytes of the store's block cache. 64 MiB by default.
    pub cache_bytes: u64,
    /// How often retention looks for what has expired. 1 s by default.
    pub retention_check: Duration,
    /// Asked before each write: a store that runs out of space while it writes must be opened again, so appends are refused
    /// before. The system's own answer by default.
    pub disk: DiskGauge,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Arc::new(|| {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }),
            in_flight_bytes: 256 << 20,
            cache_bytes: 64 << 20,
            retention_check: Duration::from_secs(1),
            disk: Arc::new(disk::space),
        }
    }
}

/// The embedded durable ingest log of one directory. Clones share it; it is closed when the last clone, topic and
/// subscription is dropped.
#[derive(Clone)]
pub struct IngestLog {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    queue: Arc<Queue>,
    topics: Arc<RwLock<BTreeMap<String, Arc<Topic>>>>,
    /// Serialises creation and growth of topics.
    creation: Mutex<()>,
    admission: Arc<Semaphore>,
    in_flight_bytes: usize,
    clock: Clock,
    writer: Option<JoinHandle<()>>,
    store: Store,
    // Dropped after the store: the directory is free when nothing writes to it any more.
    _lock: DirectoryLock,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(dir = %self.dir.display(), "the ingest log's writer thread panicked");
        }
    }
}

impl IngestLog {
    /// Opens the log in `dir`, creating it if need be.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process holds it.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(dir, Options::default())
    }

    /// [`open`](Self::open) with other than the default options.
    pub fn open_with(dir: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let lock = DirectoryLock::acquire(dir)?;
        let store = Store::open(&dir.join("store"), options.cache_bytes)?;
        let mut topics = BTreeMap::new();
        for (name, record) in store.topics()? {
            let states = (0..record.partitions)
                .map(|p| {
                    PartitionState::recover(
                        &store,
                        store::Lane {
                            topic: record.id,
                            partition: PartitionId(p as i32),
                        },
                    )
                })
                .collect::<Result<_, _>>()?;
            let topic = Topic::new(name.clone(), record.id, record.identity, Retention::default(), states);
            topics.insert(name, Arc::new(topic));
        }
        let topics = Arc::new(RwLock::new(topics));
        let queue = Arc::new(Queue::default());
        let writer = Writer {
            store: store.clone(),
            queue: queue.clone(),
            topics: topics.clone(),
            clock: options.clock.clone(),
            retention_check: options.retention_check,
            dir: dir.into(),
            disk: options.disk,
            full: Default::default(),
        };
        let writer = thread::Builder::new()
            .name("ingest-log-writer".into())
            .spawn(move || writer.run())
            .map_err(|source| Error::Io {
                action: "start a writer thread for",
                path: dir.into(),
                source,
            })?;
        Ok(Self {
            inner: Arc::new(Inner {
                dir: dir.into(),
                queue,
                topics,
                creation: Mutex::new(()),
                admission: Arc::new(Semaphore::new(options.in_flight_bytes.div_ceil(ADMISSION_UNIT))),
                in_flight_bytes: options.in_flight_bytes,
                clock: options.clock,
                writer: Some(writer),
                store,
                _lock: lock,
            }),
        })
    }

    /// A topic, created with a new identity if it is not there. A topic that has fewer partitions gets the missing ones;
    /// its retention becomes the one given.
    ///
    /// # Errors
    /// [`Error::PartitionsShrink`], [`Error::Invalid`] for a name or count that cannot be used.
    pub fn topic(&self, name: &str, partitions: u32, retention: Retention) -> Result<Arc<dyn PartitionedLog>, Error> {
        if name.is_empty() || name.len() > 249 {
            return Err(Error::Invalid(format!(
                "a topic's name has 1 to 249 bytes, not {}",
                name.len()
            )));
        }
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err(Error::Invalid(format!(
                "topic {name} cannot have {partitions} partitions; the ingest log takes 1 to {MAX_PARTITIONS}"
            )));
        }
        let _creating = self.inner.creation.lock();
        let existing = self.inner.topics.read().get(name).cloned();
        let topic = match existing {
            Some(topic) => {
                let have = topic.partition_count();
                if partitions < have {
                    return Err(Error::PartitionsShrink {
                        topic: name.into(),
                        have,
                        wanted: partitions,
                    });
                }
                if partitions > have {
                    let record = TopicRecord {
                        id: topic.id,
                        identity: topic.identity.clone(),
                        partitions,
                    };
                    self.inner.store.put_topic(name, &record)?;
                    topic.grow(partitions);
                }
                topic.set_retention(retention);
                topic
            }
            None => {
                let id = self
                    .inner
                    .topics
                    .read()
                    .values()
                    .map(|topic| topic.id + 1)
                    .max()
                    .unwrap_or_default();
                let record = TopicRecord {
                    id,
                    identity: Uuid::new_v4().to_string(),
                    partitions,
                };
                self.inner.store.put_topic(name, &record)?;
                let topic = Arc::new(Topic::new(name.into(), id, record.identity, retention, Vec::new()));
                topic.grow(partitions);
                self.inner.topics.write().insert(name.into(), topic.clone());
                topic
            }
        };
        Ok(Arc::new_cyclic(|this| TopicLog {
            topic,
            inner: self.inner.clone(),
            this: this.clone(),
        }))
    }

    /// Names of the topics there are.
    pub fn topics(&self) -> Vec<String> {
        self.inner.topics.read().keys().cloned().collect()
    }

    /// Bytes that the log takes on disk.
    pub fn disk_bytes(&self) -> Result<u64, Error> {
        self.inner.store.disk_bytes()
    }

    /// The directory that the log holds.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }
}

/// One topic of an [`IngestLog`].
struct TopicLog {
    topic: Arc<Topic>,
    inner: Arc<Inner>,
    this: std::sync::Weak<Self>,
}

impl TopicLog {
    fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Divides records into pieces of blocks, in the order in which each partition gets them.
    fn pieces(&self, records: &[RawRecord]) -> Vec<(PartitionId, Piece)> {
        let count = self.topic.partition_count();
        let now_ms = (self.inner.clock)();
        // Records without a key stay together; drawn only when there is one.
        let mut keyless = None;
        let mut open: BTreeMap<PartitionId, BlockBuilder> = BTreeMap::new();
        let mut pieces = Vec::new();
        for record in records {
            let partition = match &record.key {
                Some(key) => partition_of_key(key, count),
                None => *keyless.get_or_insert_with(|| self.topic.turn.next(count)),
            };
            let builder = open.entry(partition).or_default();
            let bytes = record_bytes(record);
            if !builder.is_empty()
                && (builder.content_bytes() + bytes > BLOCK_BYTES || builder.records() >= BLOCK_RECORDS)
            {
                pieces.push((partition, Piece::Block(std::mem::take(builder).encode())));
            }
            builder.push(record, now_ms);
        }
        for (partition, builder) in open {
            let piece = if builder.content_bytes() >= LOOSE_BYTES {
                Piece::Block(builder.encode())
            } else {
                Piece::Loose(builder)
            };
            pieces.push((partition, piece));
        }
        pieces
    }

    /// Runs something that may read from disk, off the async workers.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let this = self
            .this
            .upgrade()
            .expect("a topic that is being used is held by its caller");
        match tokio::task::spawn_blocking(move || work(&this)).await {
            Ok(result) => result,
            Err(error) => Err(Error::Internal(format!(
                "a read of the ingest log ended early: {error}"
            ))),
        }
    }
}

fn record_bytes(record: &RawRecord) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 8)
        .sum();
    record.payload.as_ref().map_or(0, Vec::len) + record.key.as_ref().map_or(0, Vec::len) + headers
}

#[async_trait::async_trait]
impl PartitionedLog for TopicLog {
    async fn identity(&self) -> Result<String, Error> {
        Ok(self.topic.identity.clone())
    }

    fn topic(&self) -> &str {
        &self.topic.name
    }

    async fn partitions(&self) -> Result<Vec<PartitionId>, Error> {
        Ok((0..self.topic.partition_count())
            .map(|p| PartitionId(p as i32))
            .collect())
    }

    async fn begins(&self) -> Result<OffsetVector, Error> {
        Ok(self.topic.vector(|state| state.begin))
    }

    async fn ends(&self) -> Result<OffsetVector, Error> {
        Ok(self.topic.vector(|state| state.end))
    }

    async fn offsets_at(&self, timestamp_ms: i64) -> Result<OffsetVector, Error> {
        self.blocking(move |this| {
            (0..this.topic.partition_count())
                .map(|p| PartitionId(p as i32))
                .map(|p| Ok((p, this.topic.offset_at(this.store(), p, timestamp_ms)?)))
                .collect()
        })
        .await
    }

    async fn append(&self, records: Vec<RawRecord>) -> Result<OffsetVector, Error> {
        let mut bytes = 0;
        for record in &records {
            let size = record_bytes(record);
            if size > MAX_RECORD_BYTES {
                return Err(Error::RecordTooLarge {
                    bytes: size,
                    limit: MAX_RECORD_BYTES,
                });
            }
            bytes += size;
        }
        if records.is_empty() {
            return Ok(OffsetVector::new());
        }
        // An append above the whole allowance goes through when it is alone.
        let units = bytes.min(self.inner.in_flight_bytes).div_ceil(ADMISSION_UNIT).max(1);
        let units = u32::try_from(units).map_err(|_| Error::Invalid("`in_flight_bytes` is above 4 TiB".into()))?;
        let admission = self
            .inner
            .admission
            .clone()
            .acquire_many_owned(units)
            .await
            .map_err(|_| Error::Closed)?;
        let pieces = self.pieces(&records);
        drop(records);
        let (done, answer) = oneshot::channel();
        self.inner.queue.push(Append {
            topic: self.topic.clone(),
            pieces,
            done,
            _admission: admission,
        })?;
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn read(&self, partition: PartitionId, from: Offset, limits: ReadLimits) -> Result<Option<RawBatch>, Error> {
        let deadline = deadline(limits.wait);
        let mut changed = self.topic.watch();
        loop {
            // Noted before looking, so that what comes while looking ends the wait at once.
            changed.mark_unchanged();
            if self.topic.check_held(partition, from)?.end > from.0 {
                let read = move |this: &Self| this.topic.read_now(this.store(), partition, from, limits);
                return self.blocking(read).await;
            }
            match tokio::time::timeout_at(deadline.into(), changed.changed()).await {
                Ok(Ok(())) => {}
                // The sender lives in the topic, so only the wait can be over.
                Ok(Err(_)) | Err(_) => return Ok(None),
            }
        }
    }

    async fn subscribe(&self, group: &str) -> Result<Box<dyn Subscription>, Error> {
        let this = self
            .this
            .upgrade()
            .expect("a topic that is being used is held by its caller");
        Ok(Box::new(LogSubscription::new(this, group)))
    }
}
