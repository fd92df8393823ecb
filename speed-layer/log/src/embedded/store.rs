//! How topics, blocks and their index lie in the key-value store.
//!
//! * `meta`: `topic/<name>` → identity, number, partitions (JSON); `begin/<topic><partition>` → first offset held.
//! * `blocks`: `<topic u32><partition u32><last offset u64>`, big endian → one encoded block. The key ends with the *last*
//!   offset, so the block that holds an offset is the first one at or after it. Values lie in blob files, which
//!   compaction does not rewrite.
//! * `index`: the same key → [`IndexEntry`]: what retention and search by time need, without reading a block.

use std::path::Path;

use bytes::Bytes;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch, PersistMode,
};
use serde::{Deserialize, Serialize};

use anabranch_model::PartitionId;

use super::block::EncodedBlock;
use crate::Error;

const KEY_BYTES: usize = 16;
const INDEX_BYTES: usize = 36;

/// What the store keeps of a topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TopicRecord {
    pub id: u32,
    pub identity: String,
    pub partitions: u32,
}

/// What the index keeps of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub records: u32,
    pub bytes: u64,
    /// Bytes of all blocks that the partition ever had, up to and with this one. The difference of two entries is the
    /// size of what lies between them.
    pub total_bytes: u64,
    pub max_timestamp_ms: i64,
    /// Highest timestamp of all blocks up to and with this one: ascending, hence searchable by bisection.
    pub highest_timestamp_ms: i64,
}

impl IndexEntry {
    fn encode(&self) -> [u8; INDEX_BYTES] {
        let mut bytes = [0; INDEX_BYTES];
        bytes[..4].copy_from_slice(&self.records.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.bytes.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.total_bytes.to_be_bytes());
        bytes[20..28].copy_from_slice(&self.max_timestamp_ms.to_be_bytes());
        bytes[28..].copy_from_slice(&self.highest_timestamp_ms.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; INDEX_BYTES] = bytes.try_into().ok()?;
        let eight = |at: usize| -> [u8; 8] { bytes[at..at + 8].try_into().expect("eight bytes inside the entry") };
        Some(Self {
            records: u32::from_be_bytes(bytes[..4].try_into().expect("four bytes inside the entry")),
            bytes: u64::from_be_bytes(eight(4)),
            total_bytes: u64::from_be_bytes(eight(12)),
            max_timestamp_ms: i64::from_be_bytes(eight(20)),
            highest_timestamp_ms: i64::from_be_bytes(eight(28)),
        })
    }
}

/// A place of the store where one partition's blocks lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane {
    pub topic: u32,
    pub partition: PartitionId,
}

impl Lane {
    fn key(self, last: i64) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        key[..4].copy_from_slice(&self.topic.to_be_bytes());
        // Partitions and offsets are never negative, so their unsigned order is theirs.
        key[4..8].copy_from_slice(&self.partition.0.to_be_bytes());
        key[8..].copy_from_slice(&last.to_be_bytes());
        key
    }

    fn begin_key(self) -> Vec<u8> {
        [b"begin/".as_slice(), &self.key(0)[..8]].concat()
    }
}

fn last_of(key: &[u8]) -> Result<i64, Error> {
    let last = key.last_chunk::<8>().filter(|_| key.len() == KEY_BYTES);
    last.map(|bytes| i64::from_be_bytes(*bytes))
        .ok_or_else(|| Error::Internal(format!("the ingest log holds a key of {} bytes", key.len())))
}

/// The open key-value store.
#[derive(Clone)]
pub(crate) struct Store {
    db: Database,
    meta: Keyspace,
    blocks: Keyspace,
    index: Keyspace,
}

impl Store {
    pub(crate) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, Error> {
        let open = Error::store("open its store");
        // Blocks are compressed in the blob files only: doing it in the journal too would be on the path of every ack.
        let db = Database::builder(dir)
            .cache_size(cache_bytes)
            .journal_compression(CompressionType::None)
            // A journal goes when all keyspaces are flushed that it has writes of, and the small ones are not until this
            // is reached. It is what the log takes on disk beyond what retention holds.
            .max_journaling_size(128 << 20)
            .open()
            .map_err(&open)?;
        let blob = KvSeparationOptions::default().compression(CompressionType::Lz4);
        let meta = db.keyspace("meta", KeyspaceCreateOptions::default).map_err(&open)?;
        let blocks = db
            .keyspace("blocks", || {
                KeyspaceCreateOptions::default().with_kv_separation(Some(blob.clone()))
            })
            .map_err(&open)?;
        let index = db.keyspace("index", KeyspaceCreateOptions::default).map_err(&open)?;
        Ok(Self {
            db,
            meta,
            blocks,
            index,
        })
    }

    pub(crate) fn topics(&self) -> Result<Vec<(String, TopicRecord)>, Error> {
        let prefix = b"topic/";
        self.meta
            .prefix(prefix)
            .map(|guard| {
                let (key, value) = guard.into_inner().map_err(Error::store("read its topics"))?;
                let name = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
                let record = serde_json::from_slice(&value)
                    .map_err(|error| Error::Internal(format!("the record of topic {name} is damaged: {error}")))?;
                Ok((name, record))
            })
            .collect()
    }

    pub(crate) fn put_topic(&self, name: &str, record: &TopicRecord) -> Result<(), Error> {
        let value = serde_json::to_vec(record).expect("a record of strings and numbers always serialises");
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.meta, format!("topic/{name}").into_bytes(), value);
        batch.commit().map_err(Error::store("record a topic"))
    }

    /// First offset held, as of the last deletion.
    pub(crate) fn begin(&self, lane: Lane) -> Result<i64, Error> {
        let value = self
            .meta
            .get(lane.begin_key())
            .map_err(Error::store("read where a partition begins"))?;
        match value {
            None => Ok(0),
            Some(bytes) => bytes
                .first_chunk()
                .map(|bytes| i64::from_be_bytes(*bytes))
                .ok_or_else(|| Error::Internal("the record of where a partition begins is damaged".into())),
        }
    }

    /// Index entries of blocks that end at or after `from`, ascending.
    pub(crate) fn index_from(
        &self,
        lane: Lane,
        from: i64,
    ) -> impl DoubleEndedIterator<Item = Result<(i64, IndexEntry), Error>> {
        self.index.range(lane.key(from)..=lane.key(i64::MAX)).map(|guard| {
            let (key, value) = guard.into_inner().map_err(Error::store("read its index"))?;
            let entry = IndexEntry::decode(&value)
                .ok_or_else(|| Error::Internal("an entry of the ingest log's index is damaged".into()))?;
            Ok((last_of(&key)?, entry))
        })
    }

    /// Blocks that end in `[from, end)`, ascending, with their last offsets.
    pub(crate) fn blocks(
        &self,
        lane: Lane,
        from: i64,
        end: i64,
    ) -> impl Iterator<Item = Result<(i64, Bytes), Error>> + use<> {
        self.blocks.range(lane.key(from)..lane.key(end)).map(|guard| {
            let (key, value) = guard.into_inner().map_err(Error::store("read a block"))?;
            Ok((last_of(&key)?, value.into()))
        })
    }

    /// A batch that is on disk when it is committed.
    pub(crate) fn write(&self) -> StoreWrite<'_> {
        StoreWrite {
            store: self,
            batch: self.db.batch().durability(Some(PersistMode::SyncAll)),
        }
    }

    /// A batch that reaches the disk with a later one. For deletions, which may be repeated.
    pub(crate) fn write_behind(&self) -> StoreWrite<'_> {
        StoreWrite {
            store: self,
            batch: self.db.batch(),
        }
    }

    /// Bytes on disk.
    pub(crate) fn disk_bytes(&self) -> Result<u64, Error> {
        self.db.disk_space().map_err(Error::store("measure its size"))
    }
}

/// Changes that take effect together.
pub(crate) struct StoreWrite<'s> {
    store: &'s Store,
    batch: OwnedWriteBatch,
}

impl StoreWrite<'_> {
    pub(crate) fn put_block(&mut self, lane: Lane, last: i64, block: EncodedBlock, entry: IndexEntry) {
        self.batch.insert(&self.store.blocks, lane.key(last), block.bytes);
        self.batch.insert(&self.store.index, lane.key(last), entry.encode());
    }

    pub(crate) fn remove_block(&mut self, lane: Lane, last: i64) {
        self.batch.remove(&self.store.blocks, lane.key(last));
        self.batch.remove(&self.store.index, lane.key(last));
    }

    pub(crate) fn set_begin(&mut self, lane: Lane, begin: i64) {
        self.batch
            .insert(&self.store.meta, lane.begin_key(), begin.to_be_bytes());
    }

    pub(crate) fn commit(self) -> Result<(), Error> {
        self.batch.commit().map_err(Error::store("write"))
    }
}
