//! The publication log: which batch run is served.

use std::sync::{Arc, Mutex, PoisonError};

use anabranch_model::{CutMap, Offset, crash_point};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::environment::Rule;
use crate::error::{Error, Result};
use crate::master::Notes;
use crate::runs::RunMode;
use crate::store::Store;

/// What a batch run wrote, below `runs/<run id>/`. Immutable once written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub run_id: String,
    /// RFC 3339.
    pub started_at: String,
    pub finished_at: String,
    pub cuts: CutMap,
    pub views: BTreeMap<String, BatchView>,
    /// Source → the notes it applied: what they exclude, and what has expired, is not in the views. A source without notes
    /// is absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, Notes>,
    /// How the run computed it.
    #[serde(default)]
    pub mode: RunMode,
    /// The run whose state this one built on; `None` when it folded all of history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Incremental runs since the full run that this state rests on; 0 for a full run.
    #[serde(default)]
    pub chain: u64,
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

/// One Parquet file of a view's state.
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

/// The publication log, `publications/<20 digits>.json`: numbered from 1 without gaps, never changed. Cheap to clone; clones
/// share what they know.
#[derive(Clone, Debug)]
pub struct Publications {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    /// The newest publication seen so far.
    newest: Mutex<Option<Arc<Publication>>>,
}

impl Publications {
    pub fn new(store: &Store) -> Self {
        Self {
            inner: Arc::new(Inner {
                store: store.clone(),
                newest: Mutex::new(None),
            }),
        }
    }

    /// The newest publication. Costs one request for each that is new, and one that finds nothing.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer, `Data` when a publication cannot be read.
    pub async fn latest(&self) -> Result<Option<Publication>> {
        Ok(self.newest().await?.map(Arc::unwrap_or_clone))
    }

    async fn newest(&self) -> Result<Option<Arc<Publication>>> {
        let known = self.inner.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut newest = match known {
            Some(known) => Some(known),
            // Only the first time: the log may be long by then.
            None => match self.list().await?.last() {
                Some(number) => self.get(*number).await?.map(Arc::new),
                None => None,
            },
        };
        while let Some(next) = self.get(newest.as_ref().map_or(0, |p| p.number) + 1).await? {
            newest = Some(Arc::new(next));
        }
        let mut known = self.inner.newest.lock().unwrap_or_else(PoisonError::into_inner);
        // Two callers may have looked at the same time.
        if newest.as_ref().map(|p| p.number) > known.as_ref().map(|p| p.number) {
            known.clone_from(&newest);
        }
        Ok(known.clone())
    }

    /// The publication with this number.
    ///
    /// # Errors
    /// As [`Self::latest`].
    pub async fn get(&self, number: u64) -> Result<Option<Publication>> {
        let path = path(number);
        let Some(publication) = self.inner.store.read_json::<Publication>(&path).await? else {
            return Ok(None);
        };
        if publication.number != number {
            return Err(Error::corrupt(
                &path,
                format!("it says it is publication {}", publication.number),
            ));
        }
        Ok(Some(publication))
    }

    /// The numbers of all publications, ascending.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn list(&self) -> Result<Vec<u64>> {
        self.inner.store.list_numbers(&Path::from("publications")).await
    }

    /// Creates exactly `based_on + 1` (ARCHITECTURE.md, rule 12).
    ///
    /// # Errors
    /// `Conflict` when another run published first; `Invalid` when it would lower a cut of a source.
    pub async fn publish(&self, based_on: u64, manifest: Manifest) -> Result<Publication> {
        if self.inner.store.environment().leaves_out(Rule::PublicationNumber) {
            let newest = self.newest().await?.map_or(0, |newest| newest.number);
            return self.append(newest, manifest).await;
        }
        let base = self.base(based_on).await?;
        if let Some(base) = base {
            refuse_lower_cuts(&base.manifest, &manifest)?;
        }
        self.append(based_on, manifest).await
    }

    /// Publishes an earlier publication's manifest again, as `based_on + 1`. The caller has rebuilt realtime state from
    /// its cut on (ARCHITECTURE.md, rule 5).
    ///
    /// # Errors
    /// `Conflict` when another run published first; `NotFound` when there is no publication `to`; `Invalid` when its state
    /// files are not there any more.
    pub async fn roll_back(&self, based_on: u64, to: u64) -> Result<Publication> {
        self.base(based_on).await?;
        let earlier = self.get(to).await?.ok_or(Error::NoPublication { number: to })?;
        // The files of a publication are removed together, so one of each view tells.
        for file in earlier.manifest.views.values().filter_map(|view| view.files.first()) {
            let path = Path::parse(&file.path).map_err(|e| Error::corrupt(&file.path, e))?;
            match self.inner.store.objects().head(&path).await {
                Ok(_) => {}
                Err(object_store::Error::NotFound { .. }) => return Err(Error::CleanedAway { number: to }),
                Err(error) => return Err(Error::store("read", &path)(error)),
            }
        }
        self.append(based_on, earlier.manifest).await
    }

    /// The publication to build on; it must be the newest.
    async fn base(&self, based_on: u64) -> Result<Option<Arc<Publication>>> {
        let newest = self.newest().await?;
        let latest = newest.as_ref().map_or(0, |publication| publication.number);
        if latest == based_on {
            Ok(newest)
        } else {
            Err(Error::Published { based_on, latest })
        }
    }

    async fn append(&self, based_on: u64, manifest: Manifest) -> Result<Publication> {
        let number = based_on + 1;
        let published_at = self
            .inner
            .store
            .environment()
            .now()
            .to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let publication = Publication {
            number,
            based_on,
            published_at,
            manifest,
        };
        let path = path(number);
        let bytes = serde_json::to_vec_pretty(&publication).map_err(|e| Error::corrupt(&path, e))?;
        crash_point!("publish.before");
        if !self.inner.store.create(&path, bytes.into()).await? {
            return Err(Error::Published {
                based_on,
                latest: number,
            });
        }
        crash_point!("publish.after");
        Ok(publication)
    }
}

/// A source may leave the manifest only together with all its views.
fn refuse_lower_cuts(base: &Manifest, next: &Manifest) -> Result<()> {
    for (table, before) in &base.cuts {
        let after = next.cuts.get(table);
        if after.is_none() && !next.views.values().any(|view| view.source == *table) {
            continue;
        }
        for (partition, from) in before.next.iter() {
            let to = after.and_then(|cut| cut.next.get(partition)).unwrap_or(Offset(0));
            if to < from {
                return Err(Error::CutLowered {
                    table: table.clone(),
                    partition,
                    from,
                    to,
                });
            }
        }
    }
    Ok(())
}

fn path(number: u64) -> Path {
    Path::from("publications").join(format!("{number:020}.json"))
}

#[cfg(test)]
mod tests;
