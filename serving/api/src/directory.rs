use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anabranch_dataset::{Lease, Leases, Store};
use anabranch_merge::Owner;
use anabranch_model::PartitionId;
use anabranch_runtime::Shutdown;
use arc_swap::ArcSwap;
use arrow_flight::flight_service_client::FlightServiceClient;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tonic::transport::{Channel, Endpoint};

use crate::Error;

/// How long a speed worker may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest Flight message taken from a speed worker, in bytes. Workers send record batches of a few thousand rows.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

pub(crate) type FlightClient = FlightServiceClient<Channel>;

/// Who is alive, as their leases say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services {
    pub(crate) speed: Vec<SpeedWorker>,
    pub(crate) batch: Vec<Lease>,
    pub(crate) serve: Vec<Lease>,
}

/// A live speed worker.
#[derive(Clone, Debug)]
pub(crate) struct SpeedWorker {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) facts: SpeedFacts,
}

/// What a speed worker's lease says about it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SpeedFacts {
    pub(crate) sources: BTreeMap<String, SourceFacts>,
    pub(crate) state_bytes: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SourceFacts {
    pub(crate) topic: String,
    pub(crate) partitions_total: i32,
    pub(crate) owned: BTreeMap<PartitionId, OwnedFacts>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OwnedFacts {
    pub(crate) epoch: i64,
    pub(crate) next_consumed: i64,
    pub(crate) next_landed: i64,
    pub(crate) end: i64,
}

impl Services {
    /// Partitions of a source, by the worker that sees most of them. `None` when no live worker serves the source.
    pub(crate) fn partitions_total(&self, source: &str) -> Option<i32> {
        let totals = self.speed.iter().filter_map(|worker| worker.facts.sources.get(source));
        totals
            .map(|facts| facts.partitions_total)
            .max()
            .filter(|total| *total > 0)
    }

    /// The owner of the highest epoch of each partition of a source.
    pub(crate) fn owners(&self, source: &str) -> BTreeMap<PartitionId, Owner> {
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

/// Follows the leases of all services, and keeps one connection per speed worker.
pub(crate) struct Directory {
    leases: Leases,
    current: ArcSwap<Services>,
    clients: Mutex<HashMap<String, FlightClient>>,
    turn: AtomicUsize,
    refreshing: tokio::sync::Mutex<()>,
    read: AtomicBool,
}

impl Directory {
    pub(crate) fn new(store: &Store) -> Self {
        Self {
            leases: Leases::new(store),
            current: ArcSwap::default(),
            clients: Mutex::default(),
            turn: AtomicUsize::new(0),
            refreshing: tokio::sync::Mutex::new(()),
            read: AtomicBool::new(false),
        }
    }

    pub(crate) fn services(&self) -> Arc<Services> {
        self.current.load_full()
    }

    /// Whether the leases have been read at all.
    pub(crate) fn is_ready(&self) -> bool {
        self.read.load(Ordering::Acquire)
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Reads the leases now.
    ///
    /// # Errors
    /// When they cannot be read; the last known ones stay.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        let _refreshing = self.refreshing.lock().await;
        let (speed, batch, serve) = tokio::try_join!(
            self.leases.list("speed"),
            self.leases.list("batch"),
            self.leases.list("serve")
        )?;
        let speed: Vec<SpeedWorker> = speed.into_iter().map(read_worker).collect();
        self.clients
            .lock()
            .retain(|address, _| speed.iter().any(|worker| &worker.address == address));
        metrics::gauge!("anabranch_serving_speed_workers").set(speed.len() as f64);
        self.current.store(Arc::new(Services { speed, batch, serve }));
        self.read.store(true, Ordering::Release);
        Ok(())
    }

    /// Polls until shutdown.
    pub(crate) async fn follow(&self, every: Duration, shutdown: Shutdown) -> Result<(), Error> {
        let mut failing = false;
        while !shutdown.is_cancelled() {
            match self.refresh().await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "leases cannot be read; serving goes on with the last known ones");
                    }
                    failing = true;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }

    /// The kept connection to a worker. Connects when first used, and again after a loss.
    pub(crate) fn client(&self, worker: &SpeedWorker) -> Result<FlightClient, Error> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(&worker.address) {
            return Ok(client.clone());
        }
        let failed = |error: tonic::transport::Error| Error::WorkerFailed {
            worker: worker.id.clone(),
            message: format!("its address {} cannot be used: {error}", worker.address),
        };
        let channel = Endpoint::from_shared(worker.address.clone())
            .map_err(failed)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .connect_lazy();
        let client = FlightServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        clients.insert(worker.address.clone(), client.clone());
        Ok(client)
    }

    /// Takes turns between `count` equals.
    pub(crate) fn next_turn(&self, count: usize) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % count.max(1)
    }
}

fn read_worker(lease: Lease) -> SpeedWorker {
    let facts = serde_json::from_value(lease.facts).unwrap_or_else(|error| {
        tracing::warn!(worker = lease.id, %error, "the facts of a speed lease cannot be read");
        SpeedFacts::default()
    });
    SpeedWorker {
        id: lease.id,
        address: lease.address,
        facts,
    }
}
