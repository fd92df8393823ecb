//! A serving process without HTTP, for the seeded simulation (`tests/simulation`): the same adoption of publications,
//! directory of workers, lease and consistent snapshots as [`ServingLayer`](crate::ServingLayer) starts.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anabranch_dataset::Store;
use anabranch_definitions::Definitions;
use anabranch_model::CoverageMap;
use anabranch_realtime::{Directory, Peers};
use anabranch_runtime::{Settings, Shutdown};
use arrow::array::RecordBatch;
use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};

use crate::Error;
use crate::compute::Compute;
use crate::follow::adoption::{Adoption, Probe};
use crate::follow::batch_view::Holdings;
use crate::follow::directory;
use crate::follow::masters::Masters;
use crate::server::keep_lease;
use crate::snapshot::consistency::{Consistency, Demand};
use crate::snapshot::pushdown::Pushdown;

/// How often a query is begun anew because the version of a view that it reads was replaced.
const ATTEMPTS: u32 = 5;

/// What a simulated serving process is made of.
pub struct ServingParts {
    /// Those that are in the definitions log are followed from there on.
    pub definitions: Arc<Definitions>,
    /// With the process's simulated surroundings.
    pub store: Store,
    pub worker_id: String,
    /// How often it looks at publications and leases.
    pub poll: Duration,
    /// Reaches the speed workers.
    pub peers: Arc<dyn Peers>,
}

/// One simulated serving process; its tasks live in its store's environment.
#[derive(Clone)]
pub struct Serving {
    adoption: Arc<Adoption>,
    consistency: Arc<Consistency>,
    memory: Arc<dyn MemoryPool>,
}

/// One answer about all views, from one consistent snapshot.
pub struct Answer {
    /// By view: the finalised rows, in no order.
    pub rows: BTreeMap<String, Vec<RecordBatch>>,
    pub coverage: CoverageMap,
    /// Number of the definitions that said which views there are when it began; 0 when they are in no log.
    pub definitions: u64,
    /// Whether it had read by then what is published. Before, the newest version of each view answers, with what it lacks.
    pub is_ready: bool,
    /// By view: the hash of the version that answered.
    pub versions: BTreeMap<String, String>,
}

impl Serving {
    /// Starts to follow publications, leases and partition starts. Must be called on a runtime.
    pub fn start(parts: ServingParts) -> Self {
        let ServingParts {
            definitions,
            store,
            worker_id,
            poll,
            peers,
        } = parts;
        let environment = store.environment().clone();
        let adoption = Arc::new(Adoption::new(
            &store,
            definitions,
            Arc::new(Compute::inline()),
            Holdings::new(&Settings::default().serving),
        ));
        let directory = Arc::new(Directory::simulated(&store, peers));
        let masters = Arc::new(Masters::new(&store));
        let consistency = Arc::new(Consistency::new(
            Arc::clone(&adoption),
            Arc::clone(&directory),
            Arc::clone(&masters),
        ));
        let probe: Weak<dyn Probe> = Arc::downgrade(&(Arc::clone(&consistency) as Arc<dyn Probe>));
        adoption.attach(probe);
        let shutdown = Shutdown::new();
        {
            let (adoption, shutdown) = (Arc::clone(&adoption), shutdown.clone());
            environment.spawn(async move { adoption.follow(poll, shutdown).await });
        }
        {
            let (directory, shutdown, clock) = (Arc::clone(&directory), shutdown.clone(), environment.clone());
            environment.spawn(async move { directory::follow(&directory, &clock, poll, shutdown).await });
        }
        {
            let (directory, adoption, shutdown) = (Arc::clone(&directory), Arc::clone(&adoption), shutdown.clone());
            environment.spawn(async move { masters.follow(&directory, &adoption, shutdown).await });
        }
        let kept = Arc::clone(&adoption);
        environment.spawn(async move {
            let address = format!("http://{worker_id}");
            keep_lease(&kept, &directory, &worker_id, &address, shutdown).await
        });
        Self {
            adoption,
            consistency,
            memory: Arc::new(UnboundedMemoryPool::default()),
        }
    }

    /// Answers all views that there are at once, waiting up to `timeout` for an exact answer if `exact` asks for one.
    ///
    /// # Errors
    /// When the answer would not be exact although that was asked for, when a worker was lost on the way, and when the
    /// pieces do not fit together.
    pub async fn answer(&self, exact: bool, timeout: Duration) -> Result<Answer, Error> {
        let demand = Demand {
            exact,
            timeout,
            ..Demand::default()
        };
        let mut attempt = 1;
        let (views, definitions, is_ready, frozen) = loop {
            let is_ready = self.adoption.is_ready();
            let (views, definitions) = {
                let published = self.adoption.pin();
                (Arc::clone(&published.served), published.definitions.number)
            };
            match self.consistency.freeze(&views, &demand).await {
                // Another version took its place in between.
                Err(Error::Superseded) if attempt < ATTEMPTS => attempt += 1,
                frozen => break (views, definitions, is_ready, frozen?),
            }
        };
        let mut rows = BTreeMap::new();
        for view in views.iter() {
            let reading = frozen.open(view.name(), &Pushdown::default(), &self.memory).await?;
            rows.insert(view.name().to_owned(), reading.collect().await?);
        }
        Ok(Answer {
            rows,
            coverage: frozen.coverage(),
            definitions,
            is_ready,
            versions: views
                .iter()
                .map(|view| (view.name().to_owned(), view.hash().clone()))
                .collect(),
        })
    }
}
