//! The commit loop: exactly version N+1, on what was decided at N (ARCHITECTURE.md, rule 7).

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use object_store::path::Path;
use uuid::Uuid;

use super::MasterDataset;
use super::kernel::{self, commit_path};
use super::log::{Commit, TableState};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::store::{Store, backoff, worth_retrying};

/// Lost races before giving up. Each means that another writer got on.
const LOST_RACES: u32 = 200;
/// Unclear answers of the store before giving up.
const UNCLEAR_ANSWERS: u32 = 8;
/// Commits that are read at once when many are missing.
const READ_AHEAD: u64 = 32;
/// A commit is not cleaned away before it is much older than this.
const UNCLEANED: Duration = Duration::from_secs(60);
/// A checkpoint is due at each multiple of this.
pub(super) const CHECKPOINT_INTERVAL: u64 = 100;

/// What to do at a version of the table.
pub(super) enum Decision<T> {
    /// Commit this as the next version; `T` is the result if it succeeds.
    Commit(Commit, T),
    /// Do not commit anything.
    Stop(T),
}

/// How a commit loop ended.
pub(super) enum Outcome<T> {
    Committed { version: u64, result: T },
    Stopped(T),
}

impl MasterDataset {
    /// Commits what `decide` says about the newest version, as exactly the next one. `decide` is asked again whenever
    /// another writer was first. It is never believed to stop on state that may be old.
    ///
    /// `id` is the id of the commit: if it is found in the log, the commit is not repeated.
    pub(super) async fn commit<T: Clone>(
        &self,
        id: Uuid,
        decide: impl Fn(&TableState) -> Result<Decision<T>>,
    ) -> Result<Outcome<T>> {
        // One committer at a time per process: they would only race each other.
        let _turn = self.inner.committing.lock().await;
        let (mut lost, mut unclear, mut fresh) = (0, 0, false);
        // The result that belongs to the version last tried.
        let mut tried: Option<T> = None;
        loop {
            // Before the state is read: what another task learns meanwhile says nothing about what is decided here.
            let stale = self.may_be_cleaned_away();
            let (found, version, decision) =
                self.with_state(|state| (state.find_commit(id), state.version, decide(state)));
            let decision = decision?;
            if let Some(version) = found {
                if tried.is_some() {
                    self.after_commit(version);
                }
                let result = match (tried, decision) {
                    (Some(result), _) | (None, Decision::Commit(_, result) | Decision::Stop(result)) => result,
                };
                return Ok(Outcome::Committed { version, result });
            }
            let (commit, result) = match decision {
                Decision::Commit(commit, result) => (commit, result),
                Decision::Stop(result) if fresh => return Ok(Outcome::Stopped(result)),
                Decision::Stop(_) => {
                    self.refresh().await?;
                    fresh = true;
                    continue;
                }
            };
            fresh = false;
            tried = Some(result.clone());
            let next = version + 1;
            let lines = Bytes::from(commit.encode(now_ms(self.inner.store.environment())));
            match self
                .inner
                .store
                .put_if_absent(&commit_path(&self.inner.root, next), lines.clone())
                .await
            {
                Ok(true) if stale && self.is_void(next).await? => fresh = true,
                Ok(true) => {
                    self.apply(next, &lines)?;
                    self.after_commit(next);
                    return Ok(Outcome::Committed { version: next, result });
                }
                // Another writer was first, or our own put that the client repeated: the log says which.
                Ok(false) => {
                    lost += 1;
                    metrics::counter!("anabranch_dataset_lost_races_total", "table" => self.table()).increment(1);
                    if lost > LOST_RACES {
                        return Err(Error::Contended {
                            table: self.table(),
                            attempts: lost,
                        });
                    }
                    // Waits first and looks then: what is decided next is to be as new as can be.
                    backoff(self.inner.store.environment(), lost.min(6)).await;
                    self.refresh().await?;
                    fresh = true;
                }
                Err(error) if !worth_retrying(&error) => return Err(error),
                // It may be committed or not, or may still become so. The same version is tried again unless it is taken
                // by then, so the commit cannot get in twice.
                Err(error) => {
                    unclear += 1;
                    metrics::counter!("anabranch_dataset_unclear_commits_total", "table" => self.table()).increment(1);
                    tracing::warn!(table = %self.inner.source.name, version = next, %error,
                        "the store did not say whether the commit exists; looking for it");
                    if unclear >= UNCLEAR_ANSWERS {
                        let source = Box::new(error);
                        return Err(Error::Unclear {
                            table: self.table(),
                            attempts: unclear,
                            source,
                        });
                    }
                    backoff(self.inner.store.environment(), unclear).await;
                    match self.refresh().await {
                        Ok(()) => fresh = true,
                        Err(error) if worth_retrying(&error) => {
                            tracing::warn!(table = %self.inner.source.name, %error, "the log could not be read either");
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Applies the commits that others made since. Its cost is that of the new commits, not of history.
    pub(super) async fn refresh(&self) -> Result<()> {
        let mut ahead = 1;
        loop {
            let begun = self.inner.store.environment().instant();
            let from = self.with_state(|state| state.version) + 1;
            let commits: Vec<_> = stream::iter(from..from + ahead)
                .map(|version| read_commit(&self.inner.store, &self.inner.root, version))
                .buffered(ahead as usize)
                .collect()
                .await;
            for (version, lines) in (from..).zip(commits) {
                match lines? {
                    Some(lines) => self.apply(version, &lines)?,
                    None if !self.may_be_cleaned_away() || self.is_newest(version - 1).await? => {
                        self.confirm(begun);
                        return Ok(());
                    }
                    None => {
                        self.reload().await?;
                        break;
                    }
                }
            }
            ahead = (ahead * 4).min(READ_AHEAD);
        }
    }

    /// Whether so much time has passed since the version that we know was seen to be the newest that the log's
    /// [clean-up](super::cleaning) may have removed the commits after it.
    fn may_be_cleaned_away(&self) -> bool {
        let confirmed = *self.inner.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.store.environment().elapsed(confirmed) > UNCLEANED
    }

    fn confirm(&self, at: Instant) {
        *self.inner.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Whether `version`, which no commit follows, is the newest and not one whose successors were cleaned away. What is
    /// cleaned away is a prefix of the log that ends before a checkpoint.
    async fn is_newest(&self, version: u64) -> Result<bool> {
        let (store, root) = (&self.inner.store, &self.inner.root);
        let reached = kernel::last_checkpoint(store, root).await?;
        Ok(reached.is_none_or(|reached| reached <= version) && kernel::has_commit(store, root, version).await?)
    }

    /// Reads the table anew, from its newest checkpoint on.
    async fn reload(&self) -> Result<()> {
        let begun = self.inner.store.environment().instant();
        let (store, root) = (&self.inner.store, &self.inner.root);
        let loaded = kernel::load(store, &self.inner.source.name, root, None).await?;
        let loaded = loaded.ok_or_else(|| Error::corrupt(&kernel::log_path(root), "the table is gone"))?;
        tracing::warn!(table = %self.inner.source.name, version = loaded.version,
            "the log was cleaned up while this process slept; the table is read anew");
        self.with_state(|state| {
            if loaded.version > state.version {
                let remembers_removed = state.remembers_removed();
                *state = loaded;
                if !remembers_removed {
                    state.forget_all_removed();
                }
            }
        });
        self.confirm(begun);
        Ok(())
    }

    /// Settles a commit that was created long after its base was seen to be the newest version. If a checkpoint reaches as
    /// far, or the base has been cleaned away, then so had been the commit that took its place: ours lies before a
    /// checkpoint, where nobody reads it. The base alone does not tell, since it may be such a commit of another writer.
    async fn is_void(&self, version: u64) -> Result<bool> {
        let (store, root) = (&self.inner.store, &self.inner.root);
        let reached = kernel::last_checkpoint(store, root).await?;
        if reached.is_none_or(|reached| reached < version) && kernel::has_commit(store, root, version - 1).await? {
            return Ok(false);
        }
        store.remove(commit_path(root, version)).await?;
        self.reload().await?;
        Ok(true)
    }

    /// Applies a commit unless somebody else did so meanwhile.
    fn apply(&self, version: u64, lines: &[u8]) -> Result<()> {
        self.with_state(|state| {
            if state.version + 1 == version {
                state.apply_commit(version, lines)
            } else {
                Ok(())
            }
        })
    }

    pub(super) fn with_state<R>(&self, read: impl FnOnce(&mut TableState) -> R) -> R {
        // A panic while the lock is held cannot leave half a commit behind that matters: commits are applied line by line,
        // but `version` moves last, so the same commit is applied again.
        read(&mut self.inner.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checkpoints in the background when it is time. A failure costs nothing but reading more commits later.
    fn after_commit(&self, version: u64) {
        if version.is_multiple_of(CHECKPOINT_INTERVAL) {
            self.spawn_checkpoint(version);
        }
    }

    pub(super) fn spawn_checkpoint(&self, version: u64) {
        let (store, root, name) = (self.inner.store.clone(), self.inner.root.clone(), self.table());
        let environment = store.environment().clone();
        environment.spawn(async move {
            match kernel::checkpoint(&store, &name, &root, version).await {
                Ok(()) => tracing::debug!(table = %name, version, "checkpoint written"),
                Err(error) => {
                    tracing::warn!(table = %name, version, %error, "no checkpoint");
                }
            }
        });
    }
}

pub(super) async fn read_commit(store: &Store, root: &Path, version: u64) -> Result<Option<Bytes>> {
    store.read(&commit_path(root, version)).await
}

pub(super) fn now_ms(environment: &Environment) -> i64 {
    environment.now().timestamp_millis()
}
