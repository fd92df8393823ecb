//! Vacuum: removes files that no version which anybody may still read names.
//!
//! A file is in the way for one of two reasons. It was *taken out* of the table (merged into another, or expired): then the
//! versions before that name it, and runs that are pinned to one may read it. Or it was *left behind*: uploaded by a landing
//! that was never committed. A landing that is still under way looks the same, so two things keep it safe. Files that were
//! left behind are removed only when they are much older than any file that a landing still commits ([`UPLOAD_LIFETIME`]). And
//! before the first of them is removed, vacuum commits a version of its own: a landing that was decided before and had not
//! arrived is refused by that, looks again how old its files are, and uploads them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_model::crash_point;
use chrono::{DateTime, Utc};
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;
use serde_json::json;

use super::commit::{Decision, Outcome};
use super::kernel::log_path;
use super::log::{Commit, TableState, Tombstone};
use super::{MasterDataset, UPLOAD_LIFETIME};
use crate::error::{Error, Result};

/// Files that were left behind are removed when they are at least this many times as old as an uploaded file may get before it
/// is committed.
const LIFETIMES: u32 = 4;
/// Objects deleted at the same time.
const DELETES: usize = 8;

/// What may be removed.
#[derive(Clone, Debug)]
pub struct Vacuum {
    /// What the store's clock shows.
    pub now: DateTime<Utc>,
    /// Files that were taken out stay at least this long, for readers that pin nothing. Files that were left behind stay at
    /// least an hour.
    pub grace: Duration,
    /// Versions that somebody reads.
    pub pinned: BTreeSet<u64>,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What a vacuum removed, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vacuumed {
    pub files: u64,
    pub bytes: u64,
    /// Of the files removed, those that were never committed.
    pub left_behind: u64,
    /// Files that stay because a pinned version names them.
    pub pinned: u64,
    /// Files that stay because they are too young.
    pub waiting: u64,
}

/// What becomes of a file that the newest version does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Remove,
    Pinned,
    Waiting,
}

impl Vacuum {
    /// `tombstone`: how the file was taken out, if it was. `removed_at`: when, by the store's clock if that is known.
    fn judge(
        &self,
        written_at: DateTime<Utc>,
        tombstone: Option<Tombstone>,
        removed_at: impl FnOnce(Tombstone) -> DateTime<Utc>,
    ) -> Verdict {
        let (since, grace) = match tombstone {
            Some(tombstone) if self.pinned.range(..tombstone.version).next().is_some() => return Verdict::Pinned,
            Some(tombstone) => (removed_at(tombstone).max(written_at), self.grace),
            None => (written_at, self.grace.max(UPLOAD_LIFETIME * LIFETIMES)),
        };
        match (self.now - since).to_std() {
            Ok(age) if age >= grace => Verdict::Remove,
            _ => Verdict::Waiting,
        }
    }
}

/// A file of the store that the table may not need.
struct Candidate {
    object: ObjectMeta,
    tombstone: Option<Tombstone>,
}

impl MasterDataset {
    /// Removes files that were taken out of the table, and those that were left behind by crashes, once nobody can need them.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer. What was removed by then is gone; the rest is found the next time.
    /// `Invalid` for a table that is [not for vacuuming](Self::never_vacuuming).
    pub async fn vacuum(&self, vacuum: &Vacuum) -> Result<Vacuumed> {
        if !self.with_state(|state| state.remembers_removed()) {
            return Err(Error::Invalid(format!(
                "`{}` was not opened to be vacuumed",
                self.table()
            )));
        }
        // Listed first: what is uploaded from now on is not looked at.
        let objects = self.data_objects().await?;
        self.refresh().await?;
        let commit_times = self.commit_times().await?;
        let mut vacuumed = Vacuumed::default();
        let mut remove = Vec::new();
        for object in objects {
            let (named, tombstone) =
                self.with_state(|state| (state.names(&object.location), state.tombstone(&object.location)));
            if named {
                continue;
            }
            let removed_at = |tombstone: Tombstone| {
                let known = commit_times.get(&tombstone.version).copied();
                known.unwrap_or_else(|| DateTime::from_timestamp_millis(tombstone.at_ms).unwrap_or_default())
            };
            match vacuum.judge(object.last_modified, tombstone, removed_at) {
                Verdict::Remove => remove.push(Candidate { object, tombstone }),
                Verdict::Pinned => vacuumed.pinned += 1,
                Verdict::Waiting => vacuumed.waiting += 1,
            }
        }
        if !vacuum.dry_run && remove.iter().any(|file| file.tombstone.is_none()) {
            self.fence().await?;
            // Whatever was committed before the fence is known now, and whatever comes after it has younger files.
            remove.retain(|file| !self.with_state(|state| state.names(&file.object.location)));
        }
        for file in &remove {
            vacuumed.files += 1;
            vacuumed.bytes += file.object.size;
            vacuumed.left_behind += u64::from(file.tombstone.is_none());
        }
        if !vacuum.dry_run {
            crash_point!("vacuum.delete.before");
            let paths: BTreeSet<Path> = remove.into_iter().map(|file| file.object.location).collect();
            self.delete(paths.iter()).await?;
            self.with_state(|state| state.forget_removed(|path| paths.contains(path)));
            crash_point!("vacuum.delete.after");
        }
        Ok(vacuumed)
    }

    /// Commits a version that changes nothing, so that commits decided before it have to be decided again.
    async fn fence(&self) -> Result<()> {
        let id = self.environment().ordered_id();
        let fence = |_: &TableState| {
            let commit = Commit {
                id,
                operation: "VACUUM START",
                parameters: json!({}),
                actions: Vec::new(),
            };
            Ok(Decision::Commit(commit, ()))
        };
        crash_point!("vacuum.fence.before");
        let (Outcome::Committed { .. } | Outcome::Stopped(())) = self.commit(id, fence).await?;
        crash_point!("vacuum.fence.after");
        Ok(())
    }

    /// Data files in the store, whether or not the table names them.
    pub(super) async fn data_objects(&self) -> Result<Vec<ObjectMeta>> {
        let mut objects = Vec::new();
        for dead in [false, true] {
            let folder = self.inner.root.clone().join(format!("_dead={dead}"));
            let listed = self.inner.store.list(&folder).await?;
            objects.extend(
                listed
                    .into_iter()
                    .filter(|object| object.location.extension() == Some("parquet")),
            );
        }
        Ok(objects)
    }

    /// When each version was committed, by the store's clock, as far as the commits are still there.
    pub(super) async fn commit_times(&self) -> Result<BTreeMap<u64, DateTime<Utc>>> {
        let folder = log_path(&self.inner.root);
        let version = |name: &str| name.strip_suffix(".json")?.parse::<u64>().ok();
        let objects = self.inner.store.list(&folder).await?;
        let time = |object: &ObjectMeta| Some((version(object.location.filename()?)?, object.last_modified));
        Ok(objects.iter().filter_map(time).collect())
    }

    /// Deletes objects; those that are gone already are no error.
    async fn delete<'p>(&self, paths: impl Iterator<Item = &'p Path>) -> Result<()> {
        stream::iter(paths.cloned())
            .map(|path| self.inner.store.remove(path))
            .buffer_unordered(DELETES)
            .try_collect()
            .await
    }
}

#[cfg(test)]
mod tests;
