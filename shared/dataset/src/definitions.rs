//! The definitions log: which `views.sql` the services run.

use std::sync::Arc;

use anabranch_model::crash_point;
use object_store::path::Path;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::store::Store;

/// One entry of the definitions log. Immutable once written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionEntry {
    pub number: u64,
    /// SHA-256 of `sql`, lower-case hex.
    pub hash: String,
    /// RFC 3339.
    pub applied_at: String,
    /// Who applied it: a command or a service's id; for people.
    pub by: String,
    /// The whole text of a `views.sql`.
    pub sql: String,
}

/// The definitions log, `definitions/<20 digits>.json`: numbered from 1 without gaps, never changed; the newest entry counts.
/// Cheap to clone; clones share what they know.
#[derive(Clone, Debug)]
pub struct DefinitionLog {
    store: Store,
    newest: Arc<Mutex<Option<DefinitionEntry>>>,
}

impl DefinitionLog {
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            newest: Arc::default(),
        }
    }

    /// The newest entry. Costs one request for each that is new, and one that finds nothing.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer, `Data` when an entry cannot be read.
    pub async fn newest(&self) -> Result<Option<DefinitionEntry>> {
        let mut newest = self.newest.lock().clone();
        if newest.is_none()
            && let Some(number) = self.list().await?.last()
        {
            newest = self.get(*number).await?;
        }
        while let Some(next) = self.get(newest.as_ref().map_or(0, |entry| entry.number) + 1).await? {
            newest = Some(next);
        }
        let mut known = self.newest.lock();
        // Two callers may have looked at the same time.
        if newest.as_ref().map(|entry| entry.number) > known.as_ref().map(|entry| entry.number) {
            known.clone_from(&newest);
        }
        Ok(known.clone())
    }

    /// The entry with this number.
    ///
    /// # Errors
    /// As [`Self::newest`].
    pub async fn get(&self, number: u64) -> Result<Option<DefinitionEntry>> {
        let path = path(number);
        let Some(entry) = self.store.read_json::<DefinitionEntry>(&path).await? else {
            return Ok(None);
        };
        if entry.number != number || entry.hash != text_hash(&entry.sql) {
            return Err(Error::corrupt(&path, "its number or hash is not that of its content"));
        }
        Ok(Some(entry))
    }

    /// Numbers of all entries, ascending.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn list(&self) -> Result<Vec<u64>> {
        self.store.list_numbers(&Path::from("definitions")).await
    }

    /// Creates exactly the entry after `based_on` (0: the first).
    ///
    /// # Errors
    /// `Conflict` when somebody else was first: look at what they applied.
    pub async fn append(&self, based_on: u64, sql: &str, by: &str) -> Result<DefinitionEntry> {
        let number = based_on + 1;
        let now = self.store.environment().now();
        let entry = DefinitionEntry {
            number,
            hash: text_hash(sql),
            applied_at: now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            by: by.to_owned(),
            sql: sql.to_owned(),
        };
        let path = path(number);
        let bytes = serde_json::to_vec_pretty(&entry).map_err(|e| Error::corrupt(&path, e))?;
        crash_point!("definitions.append.before");
        if !self.store.create(&path, bytes.into()).await? {
            return Err(Error::DefinitionsApplied { number });
        }
        crash_point!("definitions.append.after");
        Ok(entry)
    }
}

/// How the text of a `views.sql` is told from others.
pub fn text_hash(sql: &str) -> String {
    use std::fmt::Write;
    Sha256::digest(sql.as_bytes())
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

fn path(number: u64) -> Path {
    Path::from("definitions").join(format!("{number:020}.json"))
}

#[cfg(test)]
mod tests;
