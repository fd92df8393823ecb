//! The Delta log, as far as the master dataset writes it: actions as JSON lines, and the state they add up to.
//!
//! See the Delta protocol, <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>. Reader version 1 and writer
//! version 2: no table features, so that every Delta reader can open the table.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use anabranch_model::{Offset, OffsetRange, OffsetVector, PartitionId, columns};
use object_store::path::Path;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{DataFile, Notes, Snapshot, TableSize};
use crate::error::{Error, Result};

/// Highest Delta reader version whose tables this module understands.
const READER_VERSION: i32 = 1;
/// Highest Delta writer version whose tables this module may write.
const WRITER_VERSION: i32 = 2;
/// How many of the latest commit ids are remembered.
const REMEMBERED_COMMITS: usize = 1024;

/// Table property that names the log whose events the table holds.
pub(super) const IDENTITY: &str = "anabranch.identity";

/// Table property: no rows are ever deleted.
pub(super) const APPEND_ONLY: &str = "delta.appendOnly";

/// One line of a commit file or one row of a checkpoint. Actions that are not listed here do not concern us.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(default)]
    add: Option<Add>,
    #[serde(default)]
    remove: Option<Remove>,
    #[serde(default)]
    txn: Option<Txn>,
    #[serde(default)]
    meta_data: Option<Metadata>,
    #[serde(default)]
    protocol: Option<Protocol>,
    #[serde(default)]
    commit_info: Option<CommitInfo>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Add {
    path: String,
    #[serde(default)]
    partition_values: BTreeMap<String, Option<String>>,
    size: u64,
    #[serde(default)]
    stats: Option<String>,
    #[serde(default)]
    tags: Option<BTreeMap<String, Option<String>>>,
    #[serde(default)]
    deletion_vector: Option<Value>,
}

/// Tag of an `add` action: partition → `[start, end)` of its consumer positions, as JSON.
const RANGES: &str = "anabranch.ranges";
/// Tag of an `add` action: partition → first and last `_timestamp`, in microseconds, as JSON.
const TIMES: &str = "anabranch.times";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remove {
    path: String,
    #[serde(default)]
    deletion_timestamp: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Txn {
    app_id: String,
    version: i64,
}

/// The `metaData` action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub format: Value,
    pub schema_string: String,
    #[serde(default)]
    pub partition_columns: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Protocol {
    min_reader_version: i32,
    min_writer_version: i32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CommitInfo {
    #[serde(default)]
    txn_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    #[serde(default)]
    num_records: u64,
}

/// What a transaction id of ours says about a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Next offset to read.
    Next,
    /// Ownership epoch.
    Epoch,
    /// First offset.
    Start,
}

impl Mark {
    const ALL: [Self; 3] = [Self::Next, Self::Epoch, Self::Start];

    fn name(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Epoch => "epoch",
            Self::Start => "start",
        }
    }

    /// A `txn` action: app id `anabranch/<mark>/<source>/<partition>`.
    pub(super) fn action(self, source: &str, partition: PartitionId, value: i64, now_ms: i64) -> Value {
        let app_id = format!("anabranch/{}/{source}/{partition}", self.name());
        json!({"txn": {"appId": app_id, "version": value, "lastUpdated": now_ms}})
    }

    fn parse(app_id: &str, source: &str) -> Option<(Self, PartitionId)> {
        let rest = app_id.strip_prefix("anabranch/")?;
        let (mark, rest) = rest.split_once('/')?;
        let partition = rest.strip_prefix(source)?.strip_prefix('/')?.parse().ok()?;
        Self::ALL
            .into_iter()
            .find(|m| m.name() == mark)
            .map(|m| (m, PartitionId(partition)))
    }
}

/// The actions of one commit in the making.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub id: Uuid,
    pub operation: &'static str,
    pub parameters: Value,
    pub actions: Vec<Value>,
}

impl Commit {
    /// The commit file. `commitInfo` carries our id, by which the commit is found again after an unclear error.
    pub(super) fn encode(&self, now_ms: i64) -> String {
        let only_adds = !self.actions.iter().any(|action| action.get("remove").is_some());
        let info = json!({"commitInfo": {
            "timestamp": now_ms,
            "operation": self.operation,
            "operationParameters": self.parameters,
            "isBlindAppend": only_adds,
            "engineInfo": concat!("anabranch/", env!("CARGO_PKG_VERSION")),
            "txnId": self.id.to_string(),
        }});
        let mut lines = info.to_string();
        for action in &self.actions {
            lines.push('\n');
            lines.push_str(&action.to_string());
        }
        lines.push('\n');
        lines
    }
}

pub(super) fn protocol_action() -> Value {
    json!({"protocol": {"minReaderVersion": READER_VERSION, "minWriterVersion": WRITER_VERSION}})
}

/// Whether an action changes which rows the table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// New rows come, or rows go.
    Rows,
    /// The same rows lie in other files.
    Layout,
}

/// An `add` action. `relative` is the path below the table and needs no escaping.
pub(super) fn add_action(relative: &str, file: &DataFile, change: Change, now_ms: i64) -> Value {
    json!({"add": {
        "path": relative,
        "partitionValues": {"_dead": file.dead.to_string()},
        "size": file.bytes,
        "modificationTime": now_ms,
        "dataChange": change == Change::Rows,
        "stats": stats(file).to_string(),
        "tags": tags(file),
    }})
}

/// A `remove` action. `relative` as in [`add_action`].
pub(super) fn remove_action(relative: &str, file: &DataFile, change: Change, now_ms: i64) -> Value {
    json!({"remove": {
        "path": relative,
        "deletionTimestamp": now_ms,
        "dataChange": change == Change::Rows,
        "extendedFileMetadata": true,
        "partitionValues": {"_dead": file.dead.to_string()},
        "size": file.bytes,
    }})
}

/// What every Delta reader may skip files by.
fn stats(file: &DataFile) -> Value {
    let partitions = file.ranges.keys().next().zip(file.ranges.keys().next_back());
    let first = file.ranges.values().map(|range| range.start).min();
    let end = file.ranges.values().map(|range| range.end).max();
    match partitions.zip(first.zip(end)) {
        None => json!({"numRecords": file.rows}),
        Some(((lowest, highest), (first, end))) => json!({
            "numRecords": file.rows,
            "minValues": {columns::PARTITION: lowest, columns::OFFSET: first},
            "maxValues": {columns::PARTITION: highest, columns::OFFSET: end.0 - 1},
            "nullCount": {columns::PARTITION: 0, columns::OFFSET: 0},
        }),
    }
}

/// What only we ask for.
fn tags(file: &DataFile) -> Value {
    let mut tags = serde_json::Map::new();
    if !file.ranges.is_empty() {
        let ranges: BTreeMap<_, _> = file
            .ranges
            .iter()
            .map(|(p, range)| (p, (range.start, range.end)))
            .collect();
        tags.insert(RANGES.to_owned(), json!(json!(ranges).to_string()));
    }
    if !file.times.is_empty() {
        tags.insert(TIMES.to_owned(), json!(json!(file.times).to_string()));
    }
    Value::Object(tags)
}

/// The value of a tag. One that cannot be read is like one that is not there: the file is read to find out.
fn tag<T: DeserializeOwned>(tags: &Option<BTreeMap<String, Option<String>>>, key: &str) -> Option<T> {
    let text = tags.as_ref()?.get(key)?.as_deref()?;
    serde_json::from_str(text).ok()
}

/// A file that the table no longer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tombstone {
    /// The version that took it out, or a later one when that is not known any more: earlier versions name the file.
    pub version: u64,
    /// When that was, by the clock of who did it.
    pub at_ms: i64,
}

/// A table at one version: what all actions up to it add up to.
#[derive(Clone, Debug)]
pub(super) struct TableState {
    /// Source name, part of our transaction ids and of messages.
    source: String,
    /// Path of the table in the store.
    root: Path,
    pub version: u64,
    pub metadata: Option<Metadata>,
    pub next: OffsetVector,
    pub starts: OffsetVector,
    pub epochs: BTreeMap<PartitionId, i64>,
    /// What `metadata` says about the events.
    pub notes: Arc<Notes>,
    /// By path, so in path order.
    files: BTreeMap<Path, DataFile>,
    /// Files that were taken out of the table and may still lie in the store; `None` where nobody is going to vacuum.
    removed: Option<BTreeMap<Path, Tombstone>>,
    /// The latest commits' ids, oldest first.
    commits: VecDeque<(Uuid, u64)>,
}

impl TableState {
    /// Nothing applied yet; `version` is what the actions to be applied belong to.
    pub(super) fn new(source: &str, root: &Path, version: u64) -> Self {
        Self {
            source: source.to_owned(),
            root: root.clone(),
            version,
            metadata: None,
            next: OffsetVector::new(),
            starts: OffsetVector::new(),
            epochs: BTreeMap::new(),
            notes: Arc::default(),
            files: BTreeMap::new(),
            removed: Some(BTreeMap::new()),
            commits: VecDeque::new(),
        }
    }

    /// Applies the commit that follows.
    pub(super) fn apply_commit(&mut self, version: u64, lines: &[u8]) -> Result<()> {
        debug_assert_eq!(version, self.version + 1, "commits are applied in order");
        self.apply_lines(version, lines)?;
        self.version = version;
        Ok(())
    }

    /// Applies JSON lines, one action each: a commit's, or a checkpoint's rows.
    pub(super) fn apply_lines(&mut self, version: u64, lines: &[u8]) -> Result<()> {
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
        {
            let line: Line = serde_json::from_slice(line)
                .map_err(|error| Error::corrupt(&format!("{}/_delta_log, version {version}", self.root), error))?;
            self.apply(version, line)?;
        }
        Ok(())
    }

    fn apply(&mut self, version: u64, line: Line) -> Result<()> {
        if let Some(protocol) = line.protocol {
            let (reader, writer) = (protocol.min_reader_version, protocol.min_writer_version);
            if reader > READER_VERSION || writer > WRITER_VERSION {
                return Err(Error::Protocol {
                    table: self.source.clone(),
                    reader,
                    writer,
                });
            }
        }
        if let Some(remove) = line.remove {
            let path = self.path_of(&remove.path)?;
            self.files.remove(&path);
            let at_ms = remove.deletion_timestamp.unwrap_or_default();
            if let Some(removed) = &mut self.removed {
                removed.insert(path, Tombstone { version, at_ms });
            }
        }
        if let Some(add) = line.add {
            let file = self.file_of(add)?;
            if let Some(removed) = &mut self.removed {
                removed.remove(&file.path);
            }
            self.files.insert(file.path.clone(), file);
        }
        if let Some(txn) = line.txn {
            match Mark::parse(&txn.app_id, &self.source) {
                Some((Mark::Next, partition)) => self.next.set(partition, Offset(txn.version)),
                Some((Mark::Start, partition)) => self.starts.set(partition, Offset(txn.version)),
                Some((Mark::Epoch, partition)) => {
                    self.epochs.insert(partition, txn.version);
                }
                None => {}
            }
        }
        if let Some(metadata) = line.meta_data {
            let notes = Notes::read(&metadata.configuration)
                .map_err(|reason| Error::corrupt(&format!("{}/_delta_log, version {version}", self.root), reason))?;
            // The same ones stay the same object, by which readers see that nothing changed.
            if *self.notes != notes {
                self.notes = Arc::new(notes);
            }
            self.metadata = Some(metadata);
        }
        if let Some(id) = line
            .commit_info
            .and_then(|info| info.txn_id)
            .and_then(|id| id.parse().ok())
        {
            if self.commits.len() == REMEMBERED_COMMITS {
                self.commits.pop_front();
            }
            self.commits.push_back((id, version));
        }
        Ok(())
    }

    /// The version that a commit of ours became, if it is among the latest.
    pub(super) fn find_commit(&self, id: Uuid) -> Option<u64> {
        self.commits
            .iter()
            .rev()
            .find(|(known, _)| *known == id)
            .map(|(_, version)| *version)
    }

    /// The `metaData` action that changes nothing but the notes.
    ///
    /// # Errors
    /// `Data` when the log holds no metadata.
    pub(super) fn noted(&self, notes: &Notes) -> Result<Value> {
        let mut metadata = self
            .metadata
            .clone()
            .ok_or_else(|| Error::corrupt(&format!("{}/_delta_log", self.root), "the log holds no table metadata"))?;
        notes.write(&mut metadata.configuration);
        Ok(json!({"metaData": metadata}))
    }

    /// The table's files, in path order.
    pub(super) fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.files.values()
    }

    /// Whether the table holds exactly this file.
    pub(super) fn holds(&self, file: &DataFile) -> bool {
        self.files.get(&file.path) == Some(file)
    }

    /// Whether the table names a file at this path.
    pub(super) fn names(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    /// What is known of a file that was taken out.
    pub(super) fn tombstone(&self, path: &Path) -> Option<Tombstone> {
        self.removed.as_ref()?.get(path).copied()
    }

    /// Forgets files that do not lie in the store any more.
    pub(super) fn forget_removed(&mut self, gone: impl Fn(&Path) -> bool) {
        if let Some(removed) = &mut self.removed {
            removed.retain(|path, _| !gone(path));
        }
    }

    /// Whether files that were taken out are remembered.
    pub(super) fn remembers_removed(&self) -> bool {
        self.removed.is_some()
    }

    /// Remembers none from now on.
    pub(super) fn forget_all_removed(&mut self) {
        self.removed = None;
    }

    /// What the table holds, in figures.
    pub(super) fn size(&self) -> TableSize {
        let mut size = TableSize {
            version: self.version,
            ..TableSize::default()
        };
        for file in self.files.values() {
            size.files += 1;
            size.bytes += file.bytes;
            match file.dead {
                false => size.events += file.rows,
                true => size.dead_letters += file.rows,
            }
        }
        size
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            version: self.version,
            next: self.next.clone(),
            starts: self.starts.clone(),
            epochs: self.epochs.clone(),
            notes: Arc::clone(&self.notes),
            files: self.files.values().cloned().collect(),
        }
    }

    fn file_of(&self, add: Add) -> Result<DataFile> {
        let path = self.path_of(&add.path)?;
        if add.deletion_vector.is_some() {
            return Err(Error::corrupt(
                &path,
                "it has a deletion vector, which the master dataset never uses",
            ));
        }
        let rows = match add.stats.as_deref().map(serde_json::from_str::<Stats>) {
            Some(Ok(stats)) => stats.num_records,
            _ => {
                return Err(Error::corrupt(
                    &path,
                    "its `add` action does not say how many rows it has",
                ));
            }
        };
        let dead = add.partition_values.get("_dead").and_then(|value| value.as_deref()) == Some("true");
        let ranges: BTreeMap<PartitionId, (Offset, Offset)> = tag(&add.tags, RANGES).unwrap_or_default();
        let ranges = ranges
            .into_iter()
            .filter(|(_, (start, end))| start <= end)
            .map(|(partition, (start, end))| (partition, OffsetRange { start, end }))
            .collect();
        Ok(DataFile {
            path,
            bytes: add.size,
            rows,
            dead,
            ranges,
            times: tag(&add.tags, TIMES).unwrap_or_default(),
        })
    }

    /// Paths in the log are relative to the table and escaped as URLs are.
    fn path_of(&self, logged: &str) -> Result<Path> {
        let relative = Path::from_url_path(logged).map_err(|e| Error::corrupt(&self.root, e))?;
        Ok(self.root.parts().chain(relative.parts()).collect())
    }
}

#[cfg(test)]
mod tests;
