//! A batch service without a port, for the seeded simulation (`tests/simulation`): the same queue, runs, lease and
//! recovery as [`BatchLayer`](crate::BatchLayer) starts.

use std::sync::{Arc, OnceLock};

use anabranch_access::{Caller, Calls};
use anabranch_compute::Kernel;
use anabranch_dataset::{Leases, Publications, Runs, Store};
use anabranch_definitions::Definitions;
use anabranch_realtime::{Directory, Peers};
use anabranch_runtime::{Settings, Shutdown};
use tokio::sync::{Mutex, Notify};

use crate::definitions::Current;
use crate::leader::Leadership;
use crate::lease::LeaseKeeper;
use crate::maintenance::Maintenance;
use crate::service::{Board, Shared, run_loop};
use crate::{Error, Trigger, lease, maintenance, recovery, watch};

/// What a simulated batch service is made of.
pub struct BatchParts {
    pub settings: Arc<Settings>,
    /// Those that are in the definitions log are followed from there on.
    pub definitions: Arc<Definitions>,
    /// With the process's simulated surroundings.
    pub store: Store,
    pub worker_id: String,
    /// Shared, since starting its threads costs more than a run here.
    pub kernel: Arc<Kernel>,
    /// Reaches the speed workers, whose state runs are compared with.
    pub peers: Arc<dyn Peers>,
}

/// Never used here. A new one reads and decodes the system's certificates, which costs as much as a small run.
fn calls() -> Result<Calls, Error> {
    static CALLS: OnceLock<Calls> = OnceLock::new();
    if let Some(calls) = CALLS.get() {
        return Ok(calls.clone());
    }
    let calls = Caller::plain().calls()?;
    Ok(CALLS.get_or_init(|| calls).clone())
}

/// One simulated batch service; its tasks live in its store's environment.
pub struct Batch {
    shared: Arc<Shared>,
}

impl Batch {
    /// Settles what a former process left behind, and starts to take runs.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn start(parts: BatchParts) -> Result<Self, Error> {
        let BatchParts {
            settings,
            definitions,
            store,
            worker_id,
            kernel,
            peers,
        } = parts;
        let leases = Leases::new(&store);
        let address = format!("http://{worker_id}");
        let environment = store.environment().clone();
        let definitions = Current::new(&store, definitions);
        let shared = Arc::new(Shared {
            publications: Publications::new(&store),
            runs: Runs::new(&store),
            leadership: Leadership::alone(&store, &worker_id),
            lease: LeaseKeeper::new(leases.clone(), worker_id, address),
            directory: Some(Directory::simulated(&store, peers)),
            calls: calls()?,
            caller: Caller::plain(),
            leases,
            kernel,
            schedule: None,
            board: Mutex::new(Board::default()),
            requesting: Mutex::new(()),
            interrupted: Mutex::default(),
            datasets: Mutex::default(),
            wake: Notify::new(),
            stopped: Shutdown::new(),
            shutdown: Shutdown::new(),
            maintenance: Maintenance::default(),
            settings,
            definitions,
            store,
        });
        recovery::settle_interrupted(&shared).await?;
        shared.lease.renew(&shared).await?;
        environment.spawn(run_loop(Arc::clone(&shared)));
        environment.spawn(lease::keep(Arc::clone(&shared)));
        environment.spawn(recovery::keep_settling(Arc::clone(&shared)));
        environment.spawn(watch::definitions(Arc::clone(&shared)));
        environment.spawn(watch::state_budget(Arc::clone(&shared)));
        environment.spawn(watch::exclusions(Arc::clone(&shared)));
        environment.spawn(maintenance::watch_retention(Arc::clone(&shared)));
        environment.spawn(maintenance::look_after(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    /// Asks for a run, as `POST /v1/batch/runs` does.
    ///
    /// # Errors
    /// When its record cannot be written.
    pub async fn request(&self) -> Result<(), Error> {
        self.shared.request(Trigger::Request, false).await.map(drop)
    }

    /// Whether a run is running or queued.
    pub async fn is_busy(&self) -> bool {
        self.shared.is_busy().await
    }

    /// What interrupted its maintenance last.
    pub fn trouble(&self) -> Option<String> {
        self.shared.maintenance.trouble()
    }
}
