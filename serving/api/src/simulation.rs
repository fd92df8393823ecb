//! A serving process without HTTP, for the seeded simulation (`tests/simulation`): the same adoption of publications,
//! directory of workers, lease and consistent snapshots as [`ServingLayer`](crate::ServingLayer) starts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::Catalog;
use anabranch_dataset::Store;
use anabranch_definitions::Definitions;
use anabranch_model::CoverageMap;
use anabranch_realtime::{Directory, Peers};
use anabranch_runtime::{Settings, Shutdown};
use anabranch_view::View;
use arrow::array::RecordBatch;

use crate::Error;
use crate::adoption::Adoption;
use crate::batch_view::Holdings;
use crate::compute::Compute;
use crate::consistency::{Consistency, Demand};
use crate::directory;
use crate::masters::Masters;
use crate::pushdown::Pushdown;
use crate::server::keep_lease;

/// What a simulated serving process is made of.
pub struct ServingParts {
    pub catalog: Arc<Catalog>,
    pub views: Arc<Vec<View>>,
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
    views: Arc<Vec<View>>,
    consistency: Arc<Consistency>,
}

/// One answer about all views, from one consistent snapshot.
pub struct Answer {
    /// By view: the finalised rows, in no order.
    pub rows: BTreeMap<String, Vec<RecordBatch>>,
    pub coverage: CoverageMap,
}

impl Serving {
    /// Starts to follow publications, leases and partition starts. Must be called on a runtime.
    pub fn start(parts: ServingParts) -> Self {
        let ServingParts {
            catalog,
            views,
            store,
            worker_id,
            poll,
            peers,
        } = parts;
        let environment = store.environment().clone();
        let definitions = Arc::new(Definitions::fixed(catalog, Arc::clone(&views)));
        let adoption = Arc::new(Adoption::new(
            &store,
            definitions,
            Arc::new(Compute::inline()),
            Holdings::new(&Settings::default().serving),
        ));
        let directory = Arc::new(Directory::simulated(&store, peers));
        let masters = Arc::new(Masters::new(&store));
        let consistency = Arc::new(Consistency {
            adoption: Arc::clone(&adoption),
            directory: Arc::clone(&directory),
            masters: Arc::clone(&masters),
        });
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
        environment.spawn(async move {
            let address = format!("http://{worker_id}");
            keep_lease(&adoption, &directory, &worker_id, &address, shutdown).await
        });
        Self { views, consistency }
    }

    /// Answers all views at once, waiting up to `timeout` for an exact answer if `exact` asks for one.
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
        let frozen = self.consistency.freeze(&self.views, &demand).await?;
        let mut rows = BTreeMap::new();
        for view in self.views.iter() {
            let batches = frozen.read(view.name(), &Pushdown::default()).await?;
            rows.insert(view.name().to_owned(), batches);
        }
        Ok(Answer {
            rows,
            coverage: frozen.coverage(),
        })
    }
}
