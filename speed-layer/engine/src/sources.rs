//! The sources of a speed layer: those that are open, and those that still wait for their log or their store. A change of
//! definitions adds some and drops others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch_runtime::Shutdown;
use anabranch_topology::Topology;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::Error;
use crate::source::SourceLayer;

/// What is open and what is not (yet). Sources open one by one: one whose broker is away holds up no other.
#[derive(Default)]
pub(crate) struct Sources {
    open: RwLock<BTreeMap<String, Open>>,
    waiting: RwLock<BTreeMap<String, Waiting>>,
    /// The publication that state reaches back to for a rollback; 0 for none.
    holds: AtomicU64,
    /// Those that were begun and not dropped, and what ends each.
    begun: Mutex<BTreeMap<String, Shutdown>>,
    /// One per source that was ever begun, from its opening to the end of its topology.
    tasks: Mutex<Vec<JoinHandle<Result<(), Error>>>>,
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
    /// Notes that a source is open; not, if it was dropped meanwhile.
    pub(crate) fn add(&self, layer: &Arc<SourceLayer>, topology: Option<Arc<Topology>>) {
        let name = layer.source.name.clone();
        let mut open = self.open.write();
        if !layer.ending.is_cancelled() || layer.shutdown.is_cancelled() {
            let layer = Arc::clone(layer);
            open.insert(name.clone(), Open { layer, topology });
        }
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

    /// Notes the task that opens and runs a source, and what ends it.
    pub(crate) fn begin(&self, table: String, ending: Shutdown, task: JoinHandle<Result<(), Error>>) {
        self.begun.lock().insert(table, ending);
        self.tasks.lock().push(task);
    }

    /// Whether a source is open, or waits in the background until it can be.
    pub(crate) fn is_begun(&self, table: &str) -> bool {
        self.begun.lock().contains_key(table) || self.open.read().contains_key(table)
    }

    /// Ends a source whose table was dropped: what was consumed is landed, and its partitions are let go.
    pub(crate) fn drop_source(&self, table: &str) {
        tracing::info!(table, "the table was dropped; its log is no longer read");
        if let Some(ending) = self.begun.lock().remove(table) {
            ending.cancel();
        }
        self.open.write().remove(table);
        self.waiting.write().remove(table);
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

    /// Waits until every source that was ever begun has ended.
    ///
    /// # Errors
    /// What the first of them failed of.
    pub(crate) async fn ended(&self) -> Result<(), Error> {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let mut first = Ok(());
        for task in tasks {
            let ended = task.await.map_err(|error| Error::Task(error.to_string()));
            first = first.and(ended.and_then(|ended| ended));
        }
        first
    }
}
