use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anabranch_access::Perimeter;
use anabranch_dataset::{Lease, Store};
use anabranch_definitions::Definitions;
use anabranch_realtime::Directory;
use anabranch_runtime::tls::Clients;
use anabranch_runtime::{OnError, Settings, Shutdown, Tasks, http};
use serde_json::json;
use tokio::net::TcpListener;

use crate::Error;
use crate::admission::Admission;
use crate::compute::Compute;
use crate::follow::adoption::{Adoption, Probe};
use crate::follow::batch_view::Holdings;
use crate::follow::directory;
use crate::follow::masters::Masters;
use crate::forward::Forwarder;
use crate::front_ends::FrontEnds;
use crate::live::Hub;
use crate::query::{FrontEngine, SqlEngine, System};
use crate::service::Service;
use crate::snapshot::consistency::Consistency;

/// How long others believe this service's lease, and how often it is written.
const LEASE_TTL: Duration = Duration::from_secs(10);
const LEASE_RENEWAL: Duration = Duration::from_secs(2);

/// What open requests get beyond the time that a query may take, once the service is asked to stop.
const GRACE: Duration = Duration::from_secs(5);

/// What the serving layer needs to start.
pub struct ServingOptions {
    pub settings: Arc<Settings>,
    /// What is served at first; those that are in the definitions log are followed from there on.
    pub definitions: Arc<Definitions>,
    pub store: Store,
    /// Bound by the caller, so that it can choose the port.
    pub listener: TcpListener,
    /// The servers beside HTTP.
    pub front_ends: FrontEnds,
    /// Names this process in its lease; unique among serving processes.
    pub worker_id: String,
    pub shutdown: Shutdown,
}

/// The serving layer. See [`ServingLayer::start`].
pub struct ServingLayer;

/// A running serving layer.
pub struct ServingHandle {
    address: SocketAddr,
    tasks: Tasks,
}

impl ServingLayer {
    /// Starts serving. Returns once the listener accepts requests; `/readyz` says when publications are known.
    ///
    /// # Errors
    /// When threads or sockets cannot be had. An object store that does not answer is waited for.
    pub async fn start(options: ServingOptions) -> Result<ServingHandle, Error> {
        let ServingOptions {
            settings,
            definitions,
            store,
            listener,
            front_ends,
            worker_id,
            shutdown,
        } = options;
        let address = listener.local_addr().map_err(|source| Error::Io {
            what: "cannot read the listener's address",
            source,
        })?;
        let perimeter = Perimeter::start(&settings, &store, &worker_id).await?;
        perimeter.check("serving.listen", address)?;
        let compute = Arc::new(Compute::start()?);
        let adoption = Arc::new(Adoption::new(
            &store,
            definitions,
            Arc::clone(&compute),
            Holdings::new(&settings.serving),
        ));
        let directory = Arc::new(Directory::new(&store).with_caller(perimeter.caller()));
        let masters = Arc::new(Masters::new(&store));
        let consistency = Arc::new(Consistency::new(
            Arc::clone(&adoption),
            Arc::clone(&directory),
            Arc::clone(&masters),
        ));
        let probe: Weak<dyn Probe> = Arc::downgrade(&(Arc::clone(&consistency) as Arc<dyn Probe>));
        adoption.attach(probe);
        let admission = Admission::new(&settings.serving);
        let forwarder = Arc::new(Forwarder::new(perimeter.caller())?);
        let system = System {
            adoption: Arc::clone(&adoption),
            directory: Arc::clone(&directory),
            masters: Arc::clone(&masters),
            consistency: Arc::clone(&consistency),
            forwarder: Arc::clone(&forwarder),
        };
        let engine = SqlEngine::new(
            Arc::clone(&consistency),
            Arc::clone(&compute),
            Arc::clone(&admission),
            Arc::new(system),
        );
        let shared = Arc::new(FrontEngine {
            sql: engine.clone(),
            adoption: Arc::clone(&adoption),
            perimeter: perimeter.clone(),
        });
        let service = Arc::new(Service {
            id: worker_id.clone(),
            engine,
            forwarder,
            settings: Arc::clone(&settings),
            adoption: Arc::clone(&adoption),
            directory: Arc::clone(&directory),
            masters: Arc::clone(&masters),
            live: Hub::new(
                consistency.clone(),
                Arc::clone(&admission),
                compute.clone(),
                &settings.serving,
                shutdown.clone(),
            ),
            compute,
            consistency,
            admission,
        });

        let poll = *settings.serving.poll;
        let advertise = settings.serving.advertise.as_deref();
        let advertised = http::advertised("serving", advertise, perimeter.scheme(), address);
        // A rate over a counter that appears with its first event misses it.
        for name in [
            "anabranch_serving_snapshot_retries_total",
            "anabranch_serving_snapshot_failures_total",
        ] {
            metrics::counter!(name).increment(0);
        }
        let tasks = Tasks::new(shutdown.clone());
        // While requests are still answered, what answers need goes on: each task hears the end of HTTP, which hears the signal.
        let front = shutdown;
        let shutdown = Shutdown::new();
        {
            let (adoption, shutdown) = (Arc::clone(&adoption), shutdown.clone());
            tasks.spawn("publications", OnError::Shutdown, async move {
                adoption.follow(poll, shutdown).await
            });
        }
        {
            let (directory, shutdown) = (Arc::clone(&directory), shutdown.clone());
            let environment = store.environment().clone();
            tasks.spawn("leases", OnError::Shutdown, async move {
                directory::follow(&directory, &environment, poll, shutdown).await
            });
        }
        {
            let (masters, directory, shutdown) = (Arc::clone(&masters), Arc::clone(&directory), shutdown.clone());
            let adoption = Arc::clone(&adoption);
            tasks.spawn("partition starts", OnError::Log, async move {
                masters.follow(&directory, &adoption, shutdown).await
            });
        }
        {
            let shutdown = shutdown.clone();
            tasks.spawn("lease", OnError::Log, async move {
                keep_lease(&adoption, &directory, &worker_id, &advertised, shutdown).await
            });
        }
        {
            let live = Arc::clone(&service.live);
            tasks.spawn("live queries", OnError::Log, async move { live.drained().await });
        }
        let drain = http::Drain {
            announce: *settings.serving.drain,
            // As long as a query may take; whoever holds a connection open beyond that is cut off.
            grace: *settings.serving.query_timeout + GRACE,
        };
        front_ends.start(shared, &perimeter, &settings.serving, &tasks, &front)?;
        let router = crate::http::router(service, front.clone()).merge(perimeter.session_routes());
        let router = perimeter.protect(router, crate::http::needs);
        tasks.spawn("http", OnError::Shutdown, async move {
            let served = perimeter.serve(listener, Clients::Anybody, router, front, drain).await;
            shutdown.cancel();
            served
        });
        tracing::info!(%address, "serving");
        Ok(ServingHandle { address, tasks })
    }
}

impl ServingHandle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has stopped: after `shutdown.cancel()`, or because it failed.
    ///
    /// # Errors
    /// The failure that stopped it.
    pub async fn stopped(self) -> Result<(), Error> {
        self.tasks.join().await.map_err(Error::Task)
    }
}

/// Says that this service is alive and which publication it still reads; at once when that changes.
pub(crate) async fn keep_lease(
    adoption: &Adoption,
    directory: &Directory,
    id: &str,
    address: &str,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let leases = directory.leases();
    while !shutdown.is_cancelled() {
        let (definition, views) = adoption.versions_pinned();
        let lease = Lease {
            kind: "serve".into(),
            id: id.to_owned(),
            address: address.to_owned(),
            facts: json!({"publication": adoption.oldest_pinned(), "definition": definition, "views": views}),
            ttl: LEASE_TTL,
        };
        if let Err(error) = leases.renew(&lease).await {
            tracing::warn!(%error, "this service's lease cannot be renewed");
        }
        tokio::select! {
            biased;
            () = adoption.environment().sleep(LEASE_RENEWAL) => {}
            () = adoption.changed() => {}
            () = shutdown.cancelled() => {}
        }
    }
    leases.release("serve", id).await?;
    Ok(())
}
