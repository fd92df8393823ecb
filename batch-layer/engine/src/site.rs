use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_catalog::Source;
use anabranch_dataset::{Environment, Leases, MasterDataset, Publications, Runs, Store};
use anabranch_definitions::Definitions;
use anabranch_runtime::Settings;
use tokio::sync::Mutex;

use crate::Error;
use crate::definitions::Current;

/// Where the batch layer works: what lies in the object store, and the settings. Nothing of this process's own.
pub(crate) struct Site {
    pub(crate) settings: Arc<Settings>,
    pub(crate) store: Store,
    pub(crate) definitions: Current,
    pub(crate) publications: Publications,
    pub(crate) runs: Runs,
    pub(crate) leases: Leases,
    datasets: Mutex<BTreeMap<String, MasterDataset>>,
}

impl Site {
    /// `definitions` count until the definitions log has any.
    pub(crate) fn new(settings: Arc<Settings>, store: Store, definitions: Arc<Definitions>) -> Self {
        Self {
            definitions: Current::new(&store, definitions),
            publications: Publications::new(&store),
            runs: Runs::new(&store),
            leases: Leases::new(&store),
            datasets: Mutex::default(),
            settings,
            store,
        }
    }

    /// Clock, chance and tasks.
    pub(crate) fn environment(&self) -> &Environment {
        self.store.environment()
    }

    /// A source's master dataset, if anything was ever landed. Kept open, so that each run reads only what is new in its log.
    pub(crate) async fn dataset(&self, source: &Arc<Source>) -> Result<Option<MasterDataset>, Error> {
        let mut datasets = self.datasets.lock().await;
        if !datasets.contains_key(&source.name)
            && let Some(opened) = MasterDataset::open_existing(&self.store, source).await?
        {
            datasets.insert(source.name.clone(), opened);
        }
        Ok(datasets.get(&source.name).cloned())
    }

    /// Number of the latest publication; 0 before the first.
    pub(crate) async fn latest_number(&self) -> Result<u64, Error> {
        let latest = self.publications.latest().await?;
        Ok(latest.map_or(0, |publication| publication.number))
    }
}
