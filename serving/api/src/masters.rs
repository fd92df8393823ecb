use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::{Catalog, Source};
use anabranch_dataset::{MasterDataset, Snapshot, Store};
use anabranch_model::{OffsetVector, PartitionId};
use anabranch_realtime::Directory;
use anabranch_runtime::Shutdown;
use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::Error;

/// How long after a look into a master dataset the next one may follow.
const PAUSE: Duration = Duration::from_secs(2);

/// What serving reads of master datasets: where partitions begin, and what was landed.
pub(crate) struct Masters {
    store: Store,
    catalog: Arc<Catalog>,
    /// Opened once; later looks only read what was committed since.
    open: Mutex<BTreeMap<String, MasterDataset>>,
    starts: ArcSwap<BTreeMap<String, OffsetVector>>,
}

impl Masters {
    pub(crate) fn new(store: &Store, catalog: Arc<Catalog>) -> Self {
        Self {
            store: store.clone(),
            catalog,
            open: Mutex::default(),
            starts: ArcSwap::default(),
        }
    }

    /// Recorded starts of a source's partitions, as far as known by now. They never change once recorded.
    pub(crate) fn starts(&self, source: &str) -> OffsetVector {
        self.starts.load().get(source).cloned().unwrap_or_default()
    }

    /// The newest state of a source's master dataset; `None` when nothing was ever landed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn snapshot(&self, source: &Arc<Source>) -> Result<Option<Snapshot>, Error> {
        let known = self.open.lock().get(&source.name).cloned();
        let dataset = match known {
            Some(dataset) => dataset,
            None => {
                let Some(dataset) = MasterDataset::open_existing(&self.store, source).await? else {
                    return Ok(None);
                };
                self.open.lock().insert(source.name.clone(), dataset.clone());
                dataset
            }
        };
        Ok(Some(dataset.snapshot(None).await?))
    }

    /// Looks up the start of partitions that appear in leases, until shutdown.
    pub(crate) async fn follow(&self, directory: &Directory, shutdown: Shutdown) -> Result<(), Error> {
        while !shutdown.is_cancelled() {
            for (name, source) in &self.catalog.sources {
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
                () = self.store.environment().sleep(PAUSE) => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }
}
