//! The log of redrives: which dead letters of a table are to be produced again, and which of them have been.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anabranch_model::{OffsetVector, crash_point};
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::letters::Letters;
use crate::store::Store;

/// Redrives read at once.
const READS: usize = 16;

/// What somebody asked for. Immutable once written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    pub number: u64,
    pub table: String,
    /// RFC 3339.
    pub at: String,
    /// Who asked, for people.
    pub by: String,
    pub letters: Letters,
    /// How many letters these are.
    pub count: u64,
    /// The recorded next offsets when it was asked for: what it produces lies at or beyond them.
    pub from: OffsetVector,
}

/// That a redrive is through. Immutable once written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedriveDone {
    pub number: u64,
    /// RFC 3339.
    pub at: String,
    /// The worker that finished it.
    pub worker: String,
    /// Records produced by that worker in its last attempt.
    pub produced: u64,
    /// Records that an earlier attempt, which did not get to its end, had produced.
    pub found: u64,
    /// Letters that were not there any more: expired in between.
    pub gone: u64,
}

/// `redrives/<table>/<20 digits>.json`, numbered from 1 without gaps, and `….done.json` beside each that is through. Cheap to
/// clone; clones share what they know.
#[derive(Clone, Debug)]
pub struct RedriveLog {
    store: Store,
    table: String,
    /// Those that are through, which nothing changes any more: each is read once.
    through: Arc<Mutex<BTreeMap<u64, (Redrive, RedriveDone)>>>,
}

impl RedriveLog {
    pub fn new(store: &Store, table: &str) -> Self {
        Self {
            store: store.clone(),
            table: table.to_owned(),
            through: Arc::default(),
        }
    }

    /// All redrives, ascending, and how those that are through have ended. Reads those that are not known to be through.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer, `Data` when an entry cannot be read.
    pub async fn all(&self) -> Result<Vec<(Redrive, Option<RedriveDone>)>> {
        self.newest(usize::MAX).await
    }

    /// As [`all`](Self::all), of the newest `limit` only.
    ///
    /// # Errors
    /// As [`all`](Self::all).
    pub async fn newest(&self, limit: usize) -> Result<Vec<(Redrive, Option<RedriveDone>)>> {
        let (mut asked, mut done) = (BTreeSet::new(), BTreeSet::new());
        for object in self.store.list(&self.folder()).await? {
            let Some(name) = object.location.filename().and_then(|name| name.strip_suffix(".json")) else {
                continue;
            };
            match name.strip_suffix(".done") {
                Some(number) => done.extend(number.parse::<u64>().ok()),
                None => asked.extend(name.parse::<u64>().ok()),
            }
        }
        let older = asked.len().saturating_sub(limit);
        stream::iter(asked.into_iter().skip(older))
            .map(|number| self.read(number, done.contains(&number)))
            .buffered(READS)
            .try_filter_map(async |entry| Ok(entry))
            .try_collect()
            .await
    }

    /// A redrive, and how it has ended if it `is_done`.
    async fn read(&self, number: u64, is_done: bool) -> Result<Option<(Redrive, Option<RedriveDone>)>> {
        if let Some((entry, done)) = self.through.lock().get(&number) {
            return Ok(Some((entry.clone(), Some(done.clone()))));
        }
        let done = async {
            match is_done {
                true => self.done(number).await,
                false => Ok(None),
            }
        };
        let (entry, done) = tokio::try_join!(self.get(number), done)?;
        if let (Some(entry), Some(done)) = (&entry, &done) {
            self.through.lock().insert(number, (entry.clone(), done.clone()));
        }
        Ok(entry.map(|entry| (entry, done)))
    }

    /// The redrive of this number.
    ///
    /// # Errors
    /// As [`all`](Self::all).
    pub async fn get(&self, number: u64) -> Result<Option<Redrive>> {
        let entry: Option<Redrive> = self.store.read_json(&self.path(number, "")).await?;
        if entry.as_ref().is_some_and(|entry| entry.number != number) {
            let path = self.path(number, "");
            return Err(Error::corrupt(&path, "it says it is another redrive"));
        }
        Ok(entry)
    }

    /// How a redrive has ended; `None` while it has not.
    ///
    /// # Errors
    /// As [`all`](Self::all).
    pub async fn done(&self, number: u64) -> Result<Option<RedriveDone>> {
        self.store.read_json(&self.path(number, ".done")).await
    }

    /// Creates exactly the redrive after `based_on` (0: the first), of letters chosen by what was known then.
    ///
    /// # Errors
    /// `Conflict` when somebody else was first: look at what they chose, and choose again.
    pub async fn append(&self, based_on: u64, letters: Letters, from: OffsetVector, by: &str) -> Result<Redrive> {
        let number = based_on + 1;
        let entry = Redrive {
            number,
            table: self.table.clone(),
            at: self.now(),
            by: by.to_owned(),
            count: letters.count(),
            letters,
            from,
        };
        let path = self.path(number, "");
        let bytes = serde_json::to_vec_pretty(&entry).map_err(|e| Error::corrupt(&path, e))?;
        crash_point!("redrive.ask.before");
        if !self.store.create(&path, bytes.into()).await? {
            return Err(Error::RedriveAsked {
                table: self.table.clone(),
                number,
            });
        }
        crash_point!("redrive.ask.after");
        Ok(entry)
    }

    /// Says that a redrive is through. What was said first counts.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn finish(&self, number: u64, worker: &str, counts: Finished) -> Result<()> {
        let done = RedriveDone {
            number,
            at: self.now(),
            worker: worker.to_owned(),
            produced: counts.produced,
            found: counts.found,
            gone: counts.gone,
        };
        let path = self.path(number, ".done");
        let bytes = serde_json::to_vec_pretty(&done).map_err(|e| Error::corrupt(&path, e))?;
        crash_point!("redrive.done.before");
        self.store.create(&path, bytes.into()).await?;
        crash_point!("redrive.done.after");
        Ok(())
    }

    fn now(&self) -> String {
        let now = self.store.environment().now();
        now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
    }

    fn folder(&self) -> Path {
        Path::from("redrives").join(self.table.as_str())
    }

    fn path(&self, number: u64, what: &str) -> Path {
        self.folder().join(format!("{number:020}{what}.json"))
    }
}

/// What has become of a redrive's letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    pub produced: u64,
    pub found: u64,
    pub gone: u64,
}

#[cfg(test)]
mod tests;
