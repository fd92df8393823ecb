//! The sources of a speed layer: those that are open, and those that still wait for their log or their store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch_topology::Topology;
use parking_lot::RwLock;
use serde::Serialize;

use crate::source::SourceLayer;

/// What is open and what is not (yet). Sources open one by one: one whose broker is away holds up no other.
#[derive(Default)]
pub(crate) struct Sources {
    open: RwLock<BTreeMap<String, Open>>,
    waiting: RwLock<BTreeMap<String, Waiting>>,
    /// The publication that state reaches back to for a rollback; 0 for none.
    holds: AtomicU64,
}

struct Open {
    layer: Arc<SourceLayer>,
    /// Absent in the simulation, which drives its topologies itself.
    topology: Option<Arc<Topology>>,
}

/// A source that cannot be opened at the moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Waiting {
    /// RFC 3339.
    pub(crate) since: String,
    /// What the last attempt failed of.
    pub(crate) error: String,
}

impl Sources {
    /// Notes that a source is open.
    pub(crate) fn add(&self, layer: &Arc<SourceLayer>, topology: Option<Arc<Topology>>) {
        let name = layer.source.name.clone();
        let layer = Arc::clone(layer);
        self.open.write().insert(name.clone(), Open { layer, topology });
        self.waiting.write().remove(&name);
    }

    /// Notes why a source is not open; how long it has waited is kept.
    pub(crate) fn wait(&self, table: &str, now: String, error: String) {
        let mut waiting = self.waiting.write();
        let known = waiting.entry(table.to_owned()).or_insert_with(|| Waiting {
            since: now,
            error: String::new(),
        });
        known.error = error;
    }

    /// Those that are open, by name.
    pub(crate) fn layers(&self) -> Vec<Arc<SourceLayer>> {
        self.open.read().values().map(|open| Arc::clone(&open.layer)).collect()
    }

    /// One that is open.
    pub(crate) fn layer(&self, table: &str) -> Option<Arc<SourceLayer>> {
        self.open.read().get(table).map(|open| Arc::clone(&open.layer))
    }

    /// Notes which publication that is about to be rolled back to could be answered from by now.
    pub(crate) fn hold(&self, publication: Option<u64>) {
        self.holds.store(publication.unwrap_or(0), Ordering::Release);
    }

    /// What [`Self::hold`] noted last.
    pub(crate) fn holds(&self) -> Option<u64> {
        Some(self.holds.load(Ordering::Acquire)).filter(|number| *number > 0)
    }

    /// Those that run, and their topologies.
    pub(crate) fn running(&self) -> Vec<(Arc<SourceLayer>, Arc<Topology>)> {
        let open = self.open.read();
        let running = open
            .values()
            .filter_map(|open| Some((Arc::clone(&open.layer), Arc::clone(open.topology.as_ref()?))));
        running.collect()
    }

    /// Those that are not open, and why.
    pub(crate) fn waiting(&self) -> BTreeMap<String, Waiting> {
        self.waiting.read().clone()
    }

    /// Every name, open or not.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.open.read().keys().cloned().collect();
        names.extend(self.waiting.read().keys().cloned());
        names.sort_unstable();
        names
    }
}
