use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::Source;
use anabranch_dataset::{MasterDataset, Notes, RedriveLog, Snapshot, Store, TableSize};
use anabranch_merge::Noted;
use anabranch_model::{OffsetVector, PartitionId};
use anabranch_realtime::Directory;
use anabranch_runtime::Shutdown;
use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::noted;
use crate::Error;
use crate::follow::adoption::Adoption;

/// How long after a look into a master dataset the next one may follow.
const PAUSE: Duration = Duration::from_secs(2);

/// What serving reads of master datasets: where partitions begin, what was landed, and what is noted of it.
pub(crate) struct Masters {
    store: Store,
    /// Opened once; later looks only read what was committed since.
    open: Mutex<BTreeMap<String, MasterDataset>>,
    /// By table.
    redrives: Mutex<BTreeMap<String, RedriveLog>>,
    starts: ArcSwap<BTreeMap<String, OffsetVector>>,
    notes: ArcSwap<BTreeMap<String, Noted>>,
}

impl Masters {
    pub(crate) fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            open: Mutex::default(),
            redrives: Mutex::default(),
            starts: ArcSwap::default(),
            notes: ArcSwap::default(),
        }
    }

    /// The log of a table's redrives, which knows those that it has read.
    pub(crate) fn redrives(&self, table: &str) -> RedriveLog {
        let mut logs = self.redrives.lock();
        if let Some(log) = logs.get(table) {
            return log.clone();
        }
        let log = RedriveLog::new(&self.store, table);
        logs.insert(table.to_owned(), log.clone());
        log
    }

    /// Recorded starts of a source's partitions, as far as known by now. They never change once recorded.
    pub(crate) fn starts(&self, source: &str) -> OffsetVector {
        self.starts.load().get(source).cloned().unwrap_or_default()
    }

    /// What was noted of a source's events, as far as known by now.
    pub(crate) fn noted(&self, source: &str) -> Noted {
        self.notes.load().get(source).cloned().unwrap_or_default()
    }

    /// Reads the newest notes of a source; answers say them from now on.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) async fn notes(&self, dataset: &MasterDataset) -> Result<Arc<Notes>, Error> {
        let notes = dataset.notes().await?;
        let (name, new) = (&dataset.source().name, noted(&notes));
        if self.noted(name) != new {
            self.notes.rcu(|known| {
                let mut all = BTreeMap::clone(known);
                all.insert(name.clone(), new.clone());
                all
            });
        }
        Ok(notes)
    }

    /// A source's master dataset; `None` when nothing was ever landed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn dataset(&self, source: &Arc<Source>) -> Result<Option<MasterDataset>, Error> {
        if let Some(known) = self.open.lock().get(&source.name) {
            return Ok(Some(known.clone()));
        }
        let Some(opened) = MasterDataset::open_existing(&self.store, source).await? else {
            return Ok(None);
        };
        let opened = opened.never_vacuuming();
        Ok(Some(
            self.open.lock().entry(source.name.clone()).or_insert(opened).clone(),
        ))
    }

    /// How much a source's master dataset holds; `None` when nothing was ever landed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn size(&self, source: &Arc<Source>) -> Result<Option<TableSize>, Error> {
        match self.dataset(source).await? {
            Some(dataset) => Ok(Some(dataset.size().await?)),
            None => Ok(None),
        }
    }

    async fn snapshot(&self, source: &Arc<Source>) -> Result<Option<Snapshot>, Error> {
        match self.dataset(source).await? {
            Some(dataset) => Ok(Some(dataset.snapshot(None).await?)),
            None => Ok(None),
        }
    }

    async fn read_notes(&self, source: &Arc<Source>) -> Result<(), Error> {
        if let Some(dataset) = self.dataset(source).await? {
            self.notes(&dataset).await?;
        }
        Ok(())
    }

    /// Looks up the start of partitions that appear in leases, and what is noted, until shutdown.
    pub(crate) async fn follow(
        &self,
        directory: &Directory,
        adoption: &Adoption,
        shutdown: Shutdown,
    ) -> Result<(), Error> {
        while !shutdown.is_cancelled() {
            let published = adoption.pin();
            for (name, source) in &published.catalog().sources {
                if let Err(error) = self.read_notes(source).await {
                    tracing::debug!(source = name, %error, "notes cannot be read yet");
                }
                let known = self.starts(name);
                let unknown = |partition: &PartitionId| known.get(*partition).is_none();
                if !directory.services().owners(name).keys().any(unknown) {
                    continue;
                }
                match self.snapshot(source).await {
                    Ok(Some(snapshot)) => {
                        let mut all = BTreeMap::clone(&self.starts.load());
                        all.insert(name.clone(), snapshot.starts);
                        self.starts.store(Arc::new(all));
                    }
                    Ok(None) => {}
                    Err(error) => tracing::debug!(source = name, %error, "partition starts cannot be read yet"),
                }
            }
            tokio::select! {
                biased;
                () = self.store.environment().sleep(PAUSE) => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }
}
