//! Log clean-up: commits and checkpoints that a later checkpoint has made superfluous are removed.
//!
//! The Delta protocol asks for one thing: the oldest version that stays must be a checkpoint. Commits are removed in ascending
//! order, so that what is gone is a prefix of the log. A process that slept through a clean-up can tell by that: the commit of
//! the version that it knows is missing, while the next one does not exist either
//! ([`MasterDataset::refresh`](super::MasterDataset)).

use std::collections::BTreeSet;
use std::time::Duration;

use anabranch_model::crash_point;
use chrono::{DateTime, Utc};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::MasterDataset;
use super::kernel::{self, log_path};
use crate::error::Result;

/// What may be removed from the log.
#[derive(Clone, Debug)]
pub struct LogCleaning {
    /// What the store's clock shows.
    pub now: DateTime<Utc>,
    /// Versions younger than this stay readable.
    pub keep: Duration,
    /// Versions that somebody reads; they and later ones stay readable.
    pub pinned: BTreeSet<u64>,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What a clean-up removed, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanedLog {
    pub commits: u64,
    pub checkpoints: u64,
}

/// An object of the log.
#[derive(Clone, Debug)]
struct Entry {
    version: u64,
    checkpoint: bool,
    written_at: DateTime<Utc>,
    path: Path,
}

impl LogCleaning {
    /// The checkpoint before which everything may go: the newest that is old enough, that no pinned version lies before, and
    /// that the log's own hint has reached.
    fn cutoff(&self, entries: &[Entry], hint: u64) -> Option<u64> {
        let first_pinned = self.pinned.first().copied().unwrap_or(u64::MAX);
        let old_enough = |entry: &&Entry| (self.now - entry.written_at).to_std().is_ok_and(|age| age >= self.keep);
        entries
            .iter()
            .filter(|entry| entry.checkpoint && entry.version <= hint.min(first_pinned))
            .filter(old_enough)
            .map(|entry| entry.version)
            .max()
    }
}

impl MasterDataset {
    /// Removes commits and checkpoints before the newest checkpoint that is old enough.
    ///
    /// # Errors
    /// `Data` when that checkpoint cannot be read; nothing is removed then. `Unavailable` when the store does not answer.
    pub async fn clean_log(&self, cleaning: &LogCleaning) -> Result<CleanedLog> {
        let Some(hint) = kernel::last_checkpoint(&self.inner.store, &self.inner.root).await? else {
            return Ok(CleanedLog::default());
        };
        let entries = self.log_entries().await?;
        let Some(cutoff) = cleaning.cutoff(&entries, hint) else {
            return Ok(CleanedLog::default());
        };
        let mut old: Vec<Entry> = entries.into_iter().filter(|entry| entry.version < cutoff).collect();
        // Ascending, checkpoints after the commit of their version: at any moment what is gone is a prefix.
        old.sort_unstable_by_key(|entry| (entry.version, entry.checkpoint));
        let checkpoints = old.iter().filter(|entry| entry.checkpoint).count() as u64;
        let cleaned = CleanedLog {
            commits: old.len() as u64 - checkpoints,
            checkpoints,
        };
        if cleaning.dry_run || old.is_empty() {
            return Ok(cleaned);
        }
        // What stays must be enough to read the table.
        let (store, source) = (&self.inner.store, &self.inner.source.name);
        kernel::load(store, source, &self.inner.root, Some(cutoff)).await?;
        crash_point!("clean_log.delete.before");
        for entry in old {
            store.remove(entry.path).await?;
        }
        crash_point!("clean_log.delete.after");
        Ok(cleaned)
    }

    async fn log_entries(&self) -> Result<Vec<Entry>> {
        let folder = log_path(&self.inner.root);
        let parse = |name: &str| match name.strip_suffix(".json") {
            Some(version) => Some((version.parse::<u64>().ok()?, false)),
            None => Some((name.strip_suffix(".checkpoint.parquet")?.parse::<u64>().ok()?, true)),
        };
        let entry = |object: ObjectMeta| {
            let (version, checkpoint) = parse(object.location.filename()?)?;
            Some(Entry {
                version,
                checkpoint,
                written_at: object.last_modified,
                path: object.location,
            })
        };
        let objects = self.inner.store.list(&folder).await?;
        Ok(objects.into_iter().filter_map(entry).collect())
    }
}

#[cfg(test)]
mod tests;
