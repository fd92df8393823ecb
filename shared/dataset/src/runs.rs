//! Status records of batch runs, `runs/<run id>/run.json`.

use std::collections::BTreeMap;

use anabranch_model::{CutMap, crash_point};
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::publications::Manifest;
use crate::store::Store;

/// Records read at once.
const READS: usize = 8;

/// How far a run got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    #[default]
    Queued,
    Running,
    Published,
    Failed,
    /// Computed, but it differs from what was served (`[batch] on_diff = "hold"`): it waits to be published or discarded.
    Held,
    /// Was held, and will not be published.
    Discarded,
    /// A comparison on demand has ended; `diff` says how.
    Compared,
}

impl RunState {
    /// Whether nothing more will happen to the run.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Published | Self::Failed | Self::Discarded | Self::Compared)
    }
}

/// What a run folds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunMode {
    /// All of history.
    #[default]
    Full,
    /// What landed since the run that is served, on top of that run's state.
    Incremental,
}

/// What a record is the record of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Views are computed and published.
    #[default]
    Run,
    /// An earlier publication is published again.
    Rollback,
    /// Views are computed in full and compared with what is served; nothing is published.
    Verify,
}

/// How a run compares with what was served, cut to the same version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Diff {
    /// The publication that was served; `None` when there was none.
    pub publication: Option<u64>,
    /// By view.
    pub views: BTreeMap<String, ViewDiff>,
    /// Why a difference is to be expected, such as events that were excluded since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// How one view compares. Values compare by their class (ARCHITECTURE.md, rule 14).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ViewDiff {
    /// Groups that both have.
    pub compared: u64,
    /// Those of them with a value that differs.
    pub differing: u64,
    /// Groups that only the run has.
    pub only_computed: u64,
    /// Groups that only the served view has.
    pub only_served: u64,
    /// The largest difference of two numbers of different value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest: Option<LargestDifference>,
    /// The first groups that differ, at most ten.
    pub samples: Vec<DiffSample>,
    /// `topic/partition` → why its realtime state could not be asked for. Its landed rows stood in for it, so that the rest of
    /// the view could be compared.
    pub not_compared: BTreeMap<String, String>,
    /// Why the view could not be compared at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// Where two numbers differ most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LargestDifference {
    pub column: String,
    pub by: f64,
}

/// One group that differs, its values as text. `null` is NULL, or a side that lacks the group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffSample {
    /// Key column → value.
    pub key: BTreeMap<String, Option<String>>,
    /// Output column → value, of the columns that differ.
    pub computed: Option<BTreeMap<String, Option<String>>>,
    pub served: Option<BTreeMap<String, Option<String>>>,
}

impl Diff {
    /// Whether any group of any view differs.
    pub fn differs(&self) -> bool {
        self.views.values().any(ViewDiff::differs)
    }
}

impl ViewDiff {
    /// Whether any group differs.
    pub fn differs(&self) -> bool {
        self.differing + self.only_computed + self.only_served > 0
    }
}

/// What a run has done so far, and what it has before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunProgress {
    pub rows_done: u64,
    pub rows_total: u64,
    pub bytes_done: u64,
    pub bytes_total: u64,
}

/// The status of one run, as HTTP answers and the command line show it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRecord {
    /// Sorts by time: a later run has a greater id.
    pub run_id: String,
    pub state: RunState,
    pub kind: RunKind,
    /// What started it: `http`, `schedule`, `views`, `state_budget`, `exclusions` or `retention`.
    pub trigger: String,
    pub mode: RunMode,
    /// The run whose state it builds on, if it is incremental; the run that is published again, if it is a rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The publication that was served when it began: its own can only have the next number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub based_on: Option<u64>,
    /// Why it folds all of history although `[batch] mode` is incremental, or what a rollback goes back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// RFC 3339, like all times here.
    pub created_at: String,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
    pub progress: RunProgress,
    pub cuts: CutMap,
    /// Events folded, over all sources.
    pub rows: u64,
    /// Groups written, over all views.
    pub groups: u64,
    /// Number of the publication it became.
    pub publication: Option<u64>,
    pub error: Option<String>,
    /// How it compares with what was served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<Diff>,
    /// Phase → milliseconds.
    pub timings_ms: BTreeMap<String, u64>,
}

/// Reads and writes run records. Only the process that runs a run writes its record.
#[derive(Clone, Debug)]
pub struct Runs {
    store: Store,
}

impl Runs {
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone() }
    }

    /// The folder of a run's files.
    pub fn folder(run_id: &str) -> Path {
        Path::from("runs").join(run_id)
    }

    /// Writes or replaces a record.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn put(&self, record: &RunRecord) -> Result<()> {
        let path = record_path(&record.run_id);
        let bytes = serde_json::to_vec_pretty(record).map_err(|e| Error::corrupt(&path, e))?;
        crash_point!("run.record.before");
        self.store.put(&path, bytes.into()).await?;
        crash_point!("run.record.after");
        Ok(())
    }

    /// The record of a run.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer, `Data` when the record cannot be read.
    pub async fn get(&self, run_id: &str) -> Result<Option<RunRecord>> {
        let path = record_path(run_id);
        let Some(bytes) = self.store.read(&path).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| Error::corrupt(&path, e))
    }

    /// The latest runs, newest first.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn list(&self, limit: usize) -> Result<Vec<RunRecord>> {
        let ids = self.store.list_folders(&Path::from("runs")).await?;
        // A folder without a record is a run that died before its first word.
        stream::iter(ids.into_iter().rev())
            .map(|id| async move { self.get(&id).await })
            .buffered(READS)
            .try_filter_map(async |record| Ok(record))
            .take(limit)
            .try_collect()
            .await
    }
}

/// What a run publishes, or would publish: kept beside its state files before it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunManifest {
    /// The publication it is based on; it can follow no other.
    pub based_on: u64,
    pub manifest: Manifest,
}

impl Runs {
    /// Keeps what a run is about to publish.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn put_manifest(&self, computed: &RunManifest) -> Result<()> {
        let path = manifest_path(&computed.manifest.run_id);
        let bytes = serde_json::to_vec_pretty(computed).map_err(|e| Error::corrupt(&path, e))?;
        crash_point!("run.manifest.before");
        self.store.put(&path, bytes.into()).await?;
        crash_point!("run.manifest.after");
        Ok(())
    }

    /// What a run was about to publish; `None` when it did not come that far.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_manifest(&self, run_id: &str) -> Result<Option<RunManifest>> {
        let path = manifest_path(run_id);
        let Some(bytes) = self.store.read(&path).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| Error::corrupt(&path, e))
    }
}

fn manifest_path(run_id: &str) -> Path {
    Runs::folder(run_id).join("manifest.json")
}

fn record_path(run_id: &str) -> Path {
    Runs::folder(run_id).join("run.json")
}

#[cfg(test)]
mod tests;
