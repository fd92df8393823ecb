//! A batch service without a port, for the seeded simulation (`tests/simulation`): the same queue, runs, lease and
//! recovery as [`BatchLayer`](crate::BatchLayer) starts.

use std::sync::Arc;

use anabranch_compute::Kernel;
use anabranch_dataset::Store;
use anabranch_definitions::Definitions;
use anabranch_realtime::{Directory, Peers};
use anabranch_runtime::{Settings, Shutdown};

use crate::parts::{Given, Parts};
use crate::standing::leader::Leadership;
use crate::{Error, Trigger};

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

/// One simulated batch service; its tasks live in its store's environment.
pub struct Batch {
    parts: Parts,
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
        let environment = store.environment().clone();
        let address = format!("http://{worker_id}");
        let parts = Parts::new(Given {
            leadership: Leadership::alone(&store, &worker_id),
            lease: (worker_id, address),
            directory: Directory::simulated(&store, peers),
            shutdown: Shutdown::new(),
            settings,
            definitions,
            store,
            kernel,
        });
        parts.recovery.settle_interrupted().await?;
        parts.lease.renew().await?;
        for (_, _, work) in parts.standing() {
            environment.spawn(work);
        }
        Ok(Self { parts })
    }

    /// Asks for a run, as `POST /v1/batch/runs` does.
    ///
    /// # Errors
    /// When its record cannot be written.
    pub async fn request(&self) -> Result<(), Error> {
        self.parts.requests.request(Trigger::Request, false).await.map(drop)
    }

    /// Whether a run is running or queued.
    pub async fn is_busy(&self) -> bool {
        self.parts.board.is_busy().await
    }

    /// What interrupted its maintenance last.
    pub fn trouble(&self) -> Option<String> {
        self.parts.maintenance.trouble()
    }
}
