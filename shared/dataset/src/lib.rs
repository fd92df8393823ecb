//! Master dataset, batch views, publications and leases in object storage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::Source;
use anabranch_model::{CutMap, ErrorKind, Offset, OffsetRange, OffsetVector, PartitionId};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

/// The object store that holds everything durable, and the prefix under which it lies.
#[derive(Clone)]
pub struct Store {
    _p: Arc<()>,
}

impl Store {
    /// Opens `file:///…`, `s3://bucket/prefix` or `memory://`; `options` are object_store's configuration keys
    /// (`aws_endpoint`, `aws_access_key_id`, …), merged over the environment's `AWS_*`.
    pub fn open(_url: &str, _options: &BTreeMap<String, String>) -> Result<Self, Error> {
        todo!()
    }
    /// Proves atomic create-if-absent: 16 racing puts, one winner (DESIGN rule 11).
    pub async fn prove_create_if_absent(&self) -> Result<(), Error> {
        todo!()
    }
    /// The store, rooted at the prefix: paths below are relative to it.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        todo!()
    }
    pub fn url(&self) -> &str {
        todo!()
    }
    /// Creates the object only if it does not exist. `Ok(false)`: somebody else's object with other bytes is there.
    /// `Ok(true)`: created, or an earlier unclear attempt of ours had (same bytes).
    pub async fn create(&self, _path: &Path, _bytes: bytes::Bytes) -> Result<bool, Error> {
        todo!()
    }
}

/// One source's Delta table of raw events, below `sources/<name>/`.
#[derive(Clone)]
pub struct MasterDataset {
    _p: Arc<()>,
}

impl MasterDataset {
    /// Opens the table, creating it (and adding columns declared since) if need be. `identity` names the log
    /// (Kafka cluster id + topic id, or the embedded log's UUID).
    ///
    /// # Errors
    /// `Invalid` when another identity is recorded, or a declared column changed its type; the message says what to do.
    pub async fn open(_store: &Store, _source: &Arc<Source>, _identity: &str) -> Result<Self, Error> {
        todo!()
    }
    /// Opens an existing table for reading; `None` when nothing was ever landed.
    pub async fn open_existing(_store: &Store, _source: &Arc<Source>) -> Result<Option<Self>, Error> {
        todo!()
    }
    /// The newest state, or that of `version`.
    pub async fn snapshot(&self, _version: Option<u64>) -> Result<Snapshot, Error> {
        todo!()
    }
    /// Takes partitions over: commits an epoch one higher than the recorded one for each, and the start offset for those
    /// never read before. Returns epoch and recorded next offset of each.
    pub async fn claim(&self, _partitions: &[Claim], _owner: &str) -> Result<BTreeMap<PartitionId, Owned>, Error> {
        todo!()
    }
    /// Lands files and next offsets in one commit (DESIGN rule 7). Retries conflicts and unclear errors itself.
    pub async fn land(&self, _landing: &Landing) -> Result<LandOutcome, Error> {
        todo!()
    }
    /// Path (relative to the store) for a new data file. `dead`: below `_dead=true/`.
    pub fn new_file_path(&self, _dead: bool) -> Path {
        todo!()
    }
    /// Parquet schema of landed files (event schema; `_dead` is a partition column and not in the files).
    pub fn file_schema(&self) -> SchemaRef {
        todo!()
    }
}

/// A partition to take over. `start` is used only if the partition has no recorded next offset.
#[derive(Clone, Debug)]
pub struct Claim {
    pub partition: PartitionId,
    pub start: Offset,
}

/// What a claim returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    pub epoch: i64,
    /// Next offset to read: everything before it is landed.
    pub next: Offset,
    /// Where the partition begins.
    pub start: Offset,
}

/// One landing: files already uploaded, and how far each partition gets by them.
#[derive(Clone, Debug)]
pub struct Landing {
    /// Unique; found again after an unclear error.
    pub commit_id: uuid::Uuid,
    pub files: Vec<DataFile>,
    pub partitions: BTreeMap<PartitionId, Advance>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    pub range: OffsetRange,
    pub epoch: i64,
}

/// How a landing ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LandOutcome {
    /// Committed as this version.
    Landed { version: u64 },
    /// Nothing was committed: these partitions belong to somebody else now, or were landed by somebody else. Take them
    /// out and land the rest.
    Refused { partitions: BTreeMap<PartitionId, Refusal> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A higher ownership epoch is recorded.
    Epoch { ours: i64, recorded: i64 },
    /// The recorded next offset is not where our range starts.
    Next { ours: Offset, recorded: Offset },
}

/// One Parquet file of the master dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Relative to the store.
    pub path: Path,
    pub bytes: u64,
    pub rows: u64,
    pub dead: bool,
}

/// The master dataset at one version.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub version: u64,
    pub next: OffsetVector,
    pub starts: OffsetVector,
    pub epochs: BTreeMap<PartitionId, i64>,
    /// In path order.
    pub files: Vec<DataFile>,
}

/// What a batch run wrote, below `runs/<run id>/`. Immutable once written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub run_id: String,
    /// RFC 3339.
    pub started_at: String,
    pub finished_at: String,
    pub cuts: CutMap,
    pub views: BTreeMap<String, BatchView>,
}

/// One view's part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchView {
    pub hash: String,
    pub source: String,
    /// Sorted by key; file i's keys precede file i+1's.
    pub files: Vec<StateFile>,
    pub groups: u64,
    /// Events folded.
    pub rows: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    pub path: String,
    pub bytes: u64,
    pub rows: u64,
}

/// One entry of the publication log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Publication {
    pub number: u64,
    /// The number this was based on; 0 for none.
    pub based_on: u64,
    /// RFC 3339.
    pub published_at: String,
    pub manifest: Manifest,
}

/// The publication log, `publications/<20 digits>.json`.
#[derive(Clone)]
pub struct Publications {
    _p: Arc<()>,
}

impl Publications {
    pub fn new(_store: &Store) -> Self {
        todo!()
    }
    pub async fn latest(&self) -> Result<Option<Publication>, Error> {
        todo!()
    }
    pub async fn get(&self, _number: u64) -> Result<Option<Publication>, Error> {
        todo!()
    }
    pub async fn list(&self) -> Result<Vec<u64>, Error> {
        todo!()
    }
    /// Creates exactly `based_on + 1` (DESIGN rule 12).
    ///
    /// # Errors
    /// `Conflict` when another run published first; `Invalid` when it would lower a cut of a source.
    pub async fn publish(&self, _based_on: u64, _manifest: Manifest) -> Result<Publication, Error> {
        todo!()
    }
}

/// Who is there: `services/<kind>/<id>.json`, kept fresh by its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// `speed`, `batch` or `serve`.
    pub kind: String,
    pub id: String,
    /// `http://host:port` that others reach it by.
    pub address: String,
    /// Kind-specific facts: owned partitions and state bytes (speed), running cuts (batch), pinned publication (serve).
    pub facts: serde_json::Value,
    /// How long after its last write it is to be believed.
    pub ttl: Duration,
}

/// Reads and writes leases. Expiry is judged by the store's clock (object's last-modified against a fresh write of ours).
#[derive(Clone)]
pub struct Leases {
    _p: Arc<()>,
}

impl Leases {
    pub fn new(_store: &Store) -> Self {
        todo!()
    }
    pub async fn renew(&self, _lease: &Lease) -> Result<(), Error> {
        todo!()
    }
    pub async fn release(&self, _kind: &str, _id: &str) -> Result<(), Error> {
        todo!()
    }
    /// Live leases of a kind.
    pub async fn list(&self, _kind: &str) -> Result<Vec<Lease>, Error> {
        todo!()
    }
}

/// Writes and reads a batch view's state files (Parquet, zstd, sorted by key).
pub struct StateFiles;

impl StateFiles {
    pub async fn write(_store: &Store, _path: &Path, _batches: Vec<RecordBatch>) -> Result<StateFile, Error> {
        todo!()
    }
    pub async fn read(_store: &Store, _view: &BatchView, _columns: &SchemaRef) -> Result<Vec<RecordBatch>, Error> {
        todo!()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);
impl Error {
    pub fn kind(&self) -> ErrorKind {
        todo!()
    }
}
