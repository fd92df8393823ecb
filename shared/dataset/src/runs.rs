//! Status records of batch runs, `runs/<run id>/run.json`.

use std::collections::BTreeMap;

use anabranch_model::{CutMap, crash_point};
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
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
}

impl RunState {
    /// Whether nothing more will happen to the run.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Published | Self::Failed)
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
    /// What started it: `http`, `schedule`, `views`, `state_budget`.
    pub trigger: String,
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
        let folder = Path::from("runs");
        let listing = self
            .store
            .objects()
            .list_with_delimiter(Some(&folder))
            .await
            .map_err(Error::store("list", &folder))?;
        let mut ids: Vec<String> = listing
            .common_prefixes
            .iter()
            .filter_map(|path| path.filename().map(str::to_owned))
            .collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        // A folder without a record is a run that died before its first word.
        stream::iter(ids)
            .map(|id| async move { self.get(&id).await })
            .buffered(READS)
            .try_filter_map(async |record| Ok(record))
            .take(limit)
            .try_collect()
            .await
    }
}

fn record_path(run_id: &str) -> Path {
    Runs::folder(run_id).join("run.json")
}

#[cfg(test)]
mod tests;
