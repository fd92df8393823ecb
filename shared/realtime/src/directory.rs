use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anabranch_access::Caller;
use anabranch_dataset::{Lease, Leases, Store};
use anabranch_model::PartitionId;
use anabranch_model::realtime::Owner;
use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::worker::Peers;
use crate::{Error, SpeedFacts, Worker};

/// Who is alive, as their leases say.
#[derive(Clone, Debug, Default)]
pub struct Services {
    pub speed: Vec<SpeedWorker>,
    pub batch: Vec<Lease>,
    pub serve: Vec<Lease>,
}

/// A live speed worker.
#[derive(Clone, Debug)]
pub struct SpeedWorker {
    pub id: String,
    /// `http://host:port` of its Flight service.
    pub address: String,
    pub facts: SpeedFacts,
}

impl SpeedWorker {
    /// Reads a speed lease. Facts that cannot be read are as good as none.
    pub fn of_lease(lease: Lease) -> Self {
        let facts = serde_json::from_value(lease.facts).unwrap_or_else(|error| {
            tracing::warn!(worker = lease.id, %error, "the facts of a speed lease cannot be read");
            SpeedFacts::default()
        });
        Self {
            id: lease.id,
            address: lease.address,
            facts,
        }
    }
}

impl Services {
    /// Partitions of a source, by the worker that sees most of them. `None` when no live worker serves the source.
    pub fn partitions_total(&self, source: &str) -> Option<i32> {
        let totals = self.speed.iter().filter_map(|worker| worker.facts.sources.get(source));
        totals
            .map(|facts| facts.partitions_total)
            .max()
            .filter(|total| *total > 0)
    }

    /// The owner of the highest epoch of each partition of a source.
    pub fn owners(&self, source: &str) -> BTreeMap<PartitionId, Owner> {
        let mut owners: BTreeMap<PartitionId, Owner> = BTreeMap::new();
        for worker in &self.speed {
            for (partition, owned) in worker
                .facts
                .sources
                .get(source)
                .into_iter()
                .flat_map(|facts| &facts.owned)
            {
                if owners.get(partition).is_none_or(|known| known.epoch < owned.epoch) {
                    owners.insert(
                        *partition,
                        Owner {
                            worker: worker.id.clone(),
                            epoch: owned.epoch,
                        },
                    );
                }
            }
        }
        owners
    }
}

/// Reads the leases of all services, and keeps one connection per speed worker.
pub struct Directory {
    leases: Leases,
    current: ArcSwap<Services>,
    /// By address: a worker that is restarted at the same place is reached by the same connection.
    workers: Mutex<HashMap<String, Worker>>,
    turn: AtomicUsize,
    refreshing: tokio::sync::Mutex<()>,
    read: AtomicBool,
    caller: Caller,
    /// In a simulation: what stands in for connections.
    peers: Option<Arc<dyn Peers>>,
}

impl Directory {
    /// Knows nobody before the first [`refresh`](Self::refresh).
    pub fn new(store: &Store) -> Self {
        Self {
            leases: Leases::new(store),
            current: ArcSwap::default(),
            workers: Mutex::default(),
            turn: AtomicUsize::new(0),
            refreshing: tokio::sync::Mutex::new(()),
            read: AtomicBool::new(false),
            caller: Caller::plain(),
            peers: None,
        }
    }

    /// Says as whom workers are called, and how connections to them are secured.
    #[must_use]
    pub fn with_caller(mut self, caller: Caller) -> Self {
        self.caller = caller;
        self
    }

    /// As [`new`](Self::new), for a simulation without a network.
    #[doc(hidden)]
    pub fn simulated(store: &Store, peers: Arc<dyn Peers>) -> Self {
        let mut directory = Self::new(store);
        directory.peers = Some(peers);
        directory
    }

    /// Who was alive at the last refresh.
    pub fn services(&self) -> Arc<Services> {
        self.current.load_full()
    }

    /// Whether the leases have been read at all.
    pub fn is_ready(&self) -> bool {
        self.read.load(Ordering::Acquire)
    }

    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Reads the leases now.
    ///
    /// # Errors
    /// When they cannot be read; the last known ones stay.
    pub async fn refresh(&self) -> Result<(), Error> {
        let _refreshing = self.refreshing.lock().await;
        let (speed, batch, serve) = tokio::try_join!(
            self.leases.list("speed"),
            self.leases.list("batch"),
            self.leases.list("serve")
        )?;
        let speed: Vec<SpeedWorker> = speed.into_iter().map(SpeedWorker::of_lease).collect();
        self.workers
            .lock()
            .retain(|address, _| speed.iter().any(|worker| &worker.address == address));
        self.current.store(Arc::new(Services { speed, batch, serve }));
        self.read.store(true, Ordering::Release);
        Ok(())
    }

    /// The kept connection to a worker.
    ///
    /// # Errors
    /// When its address is none.
    pub fn worker(&self, worker: &SpeedWorker) -> Result<Worker, Error> {
        let mut workers = self.workers.lock();
        if let Some(known) = workers.get(&worker.address).filter(|known| known.id() == worker.id) {
            return Ok(known.clone());
        }
        let connection = match &self.peers {
            None => Worker::new(worker, self.caller.clone())?,
            Some(peers) => Worker::simulated(worker, &**peers),
        };
        workers.insert(worker.address.clone(), connection.clone());
        Ok(connection)
    }

    /// Takes turns between `count` equals.
    pub fn next_turn(&self, count: usize) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % count.max(1)
    }
}

#[cfg(test)]
mod tests;
