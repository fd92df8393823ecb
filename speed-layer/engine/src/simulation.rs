//! A worker without threads and ports, for the seeded simulation (`tests/simulation`): the same spout, bolts, landing,
//! realtime state, lease, and watches of publications and definitions as [`SpeedLayer`](crate::SpeedLayer) starts, driven
//! step by step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anabranch_dataset::Store;
use anabranch_definitions::Definitions;
use anabranch_log::PartitionedLog;
use anabranch_model::realtime::{SnapshotReply, SnapshotRequest, StateTicket};
use anabranch_runtime::{Settings, Shutdown};
use anabranch_topology::{Step, SteppedTopology};
use arrow::array::RecordBatch;

use crate::Error;
use crate::definitions::Following;
use crate::layer::wire;
use crate::lease::Keeper;
use crate::look;
use crate::message::Message;
use crate::opening::Opener;
use crate::publications;
use crate::snapshots::Snapshots;
use crate::source::{SourceLayer, SourceParts};
use crate::sources::Sources;

/// What a simulated worker is made of.
pub struct WorkerParts {
    /// With one table. Those that are in the definitions log are followed from there on.
    pub definitions: Arc<Definitions>,
    /// The table's.
    pub log: Arc<dyn PartitionedLog>,
    /// With the process's simulated surroundings.
    pub store: Store,
    pub settings: Arc<Settings>,
    pub worker_id: String,
}

/// One simulated worker. Its background tasks live in its store's environment; whoever crashes the process drops those
/// and this.
pub struct Worker {
    layer: Arc<SourceLayer>,
    topology: SteppedTopology<Message>,
    snapshots: Arc<Snapshots>,
}

/// What others may ask of a worker, as they do over Flight.
#[derive(Clone)]
pub struct Flight {
    snapshots: Arc<Snapshots>,
    store: Store,
}

impl Worker {
    /// Opens the master dataset, joins the readers of the log, and starts lease and watches.
    ///
    /// # Errors
    /// As [`SpeedLayer::start`](crate::SpeedLayer::start).
    pub async fn start(parts: WorkerParts) -> Result<Self, Error> {
        let WorkerParts {
            definitions,
            log,
            store,
            settings,
            worker_id,
        } = parts;
        let poll = *settings.speed.publication_poll;
        let state_budget_bytes = settings.speed.state_budget.get();
        let (paused, shutdown) = (Arc::new(AtomicBool::new(false)), Shutdown::new());
        let sources = Arc::new(Sources::default());
        let opener = Arc::new(Opener {
            store: store.clone(),
            settings: Arc::clone(&settings),
            worker_id: worker_id.clone(),
            stop: shutdown.clone(),
            background: shutdown.clone(),
            paused: Arc::clone(&paused),
            sources: Arc::clone(&sources),
        });
        let table = definitions.catalog.sources.keys().next().cloned().unwrap_or_default();
        let logs = BTreeMap::from([(table.clone(), Arc::clone(&log))]);
        let mut following = Following::new(definitions, opener, (logs, None));
        let (source, views) = following.first().await?.pop().ok_or(Error::NoLog { table })?;
        let identity = log.identity().await?;
        let parts = SourceParts {
            source,
            views,
            log,
            store: store.clone(),
            settings,
            worker_id: worker_id.clone(),
            shutdown: shutdown.clone(),
            ending: shutdown.child(),
            paused: Arc::clone(&paused),
        };
        let layer = SourceLayer::open(parts, &identity).await?;
        let topology = wire(&layer).await?.start_stepped()?;
        sources.add(&layer, None);
        let snapshots = Arc::new(Snapshots::new(
            Arc::clone(&sources),
            worker_id.clone(),
            store.environment(),
        ));
        let keeper = Keeper {
            sources: Arc::clone(&sources),
            snapshots: Arc::clone(&snapshots),
            store: store.clone(),
            address: format!("http://{worker_id}"),
            worker_id,
            state_budget_bytes,
            paused,
        };
        let watch = publications::watch(sources, store, poll, shutdown.clone());
        layer.spawn(watch);
        layer.spawn(following.follow(poll, shutdown.clone()));
        layer.spawn(look::run(Arc::clone(&layer), shutdown.clone()));
        layer.spawn(keeper.run(shutdown));
        Ok(Self {
            layer,
            topology,
            snapshots,
        })
    }

    /// Tasks of the topology.
    pub fn tasks(&self) -> usize {
        self.topology.tasks()
    }

    /// Lets one task of the topology do one thing.
    ///
    /// # Errors
    /// What the worker cannot go on from.
    pub fn step(&mut self, task: usize, now: Instant) -> Result<Step, Error> {
        if let Some(fault) = self.layer.take_fault() {
            return Err(fault);
        }
        Ok(self.topology.step(task, now)?)
    }

    /// What others may ask of it.
    pub fn flight(&self) -> Flight {
        Flight {
            snapshots: Arc::clone(&self.snapshots),
            store: self.layer.store.clone(),
        }
    }

    /// Landings that were refused so far.
    pub fn refusals(&self) -> u64 {
        self.layer.facts.refusals.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Rebuilds of state from landed rows so far.
    pub fn rebuilds(&self) -> u64 {
        self.layer.facts.rebuilds.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Flight {
    /// Freezes one prefix for several views.
    pub fn freeze(&self, request: &SnapshotRequest) -> SnapshotReply {
        self.snapshots.freeze(request, self.store.environment().instant())
    }

    /// Reads one view's state in a snapshot.
    ///
    /// # Errors
    /// When the snapshot has expired.
    pub fn read(&self, ticket: &StateTicket) -> Result<Vec<RecordBatch>, Error> {
        self.snapshots.open(ticket)?.state()
    }
}
