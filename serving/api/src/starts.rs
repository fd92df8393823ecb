use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::Catalog;
use anabranch_dataset::{MasterDataset, Store};
use anabranch_model::{OffsetVector, PartitionId};
use anabranch_runtime::Shutdown;
use arc_swap::ArcSwap;

use crate::Error;
use crate::directory::Directory;

/// How long after a look into a master dataset the next one may follow.
const PAUSE: Duration = Duration::from_secs(2);

/// Where each partition begins, as its master dataset records. Never changes once recorded, so it is read once.
pub(crate) struct Starts {
    store: Store,
    catalog: Arc<Catalog>,
    known: ArcSwap<BTreeMap<String, OffsetVector>>,
}

impl Starts {
    pub(crate) fn new(store: &Store, catalog: Arc<Catalog>) -> Self {
        Self { store: store.clone(), catalog, known: ArcSwap::default() }
    }

    /// Recorded starts of a source, as far as known by now.
    pub(crate) fn of(&self, source: &str) -> OffsetVector {
        self.known.load().get(source).cloned().unwrap_or_default()
    }

    /// Looks up the start of partitions that appear in leases, until shutdown.
    pub(crate) async fn follow(&self, directory: &Directory, shutdown: Shutdown) -> Result<(), Error> {
        while !shutdown.is_cancelled() {
            for (name, source) in &self.catalog.sources {
                let known = self.of(name);
                let services = directory.services();
                let unknown = |partition: &PartitionId| known.get(*partition).is_none();
                if !services.owners(name).keys().any(unknown) {
                    continue;
                }
                match self.read(source).await {
                    Ok(starts) => {
                        let mut all = BTreeMap::clone(&self.known.load());
                        all.insert(name.clone(), starts);
                        self.known.store(Arc::new(all));
                    }
                    Err(error) => tracing::debug!(source = name, %error, "partition starts cannot be read yet"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }

    async fn read(&self, source: &Arc<anabranch_catalog::Source>) -> Result<OffsetVector, Error> {
        match MasterDataset::open_existing(&self.store, source).await? {
            Some(dataset) => Ok(dataset.snapshot(None).await?.starts),
            None => Ok(OffsetVector::new()),
        }
    }
}
