//! Builds the speed layer from its parts, and takes it down in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_catalog::Catalog;
use anabranch_dataset::{Leases, Store};
use anabranch_log::PartitionedLog;
use anabranch_runtime::http::{self, base_router};
use anabranch_runtime::{Settings, Shutdown};
use anabranch_topology::{Grouping, Topology, TopologyBuilder};
use anabranch_view::View;
use axum::Json;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Error;
use crate::decode_bolt::DecodeBolt;
use crate::flight::Flight;
use crate::ingest::{self, Ingest};
use crate::landing::LandBolt;
use crate::lease::Keeper;
use crate::message::{LAND_STREAM, Message, split_by_key};
use crate::publications;
use crate::snapshots::Snapshots;
use crate::source::{SourceLayer, SourceParts};
use crate::spout::LogSpout;
use crate::status::{Status, record_gauges, source_status};
use crate::view_bolt::ViewBolt;

/// Commands to a spout that may wait; it looks many times a second.
const COMMANDS: usize = 64;

const LOOK_FOR_FAILURE_EVERY: Duration = Duration::from_millis(100);

/// What the speed layer is built from.
pub struct SpeedOptions {
    pub settings: Arc<Settings>,
    pub catalog: Arc<Catalog>,
    /// Compiled views; each names its source.
    pub views: Arc<Vec<View>>,
    pub store: Store,
    /// Log of each source, by table name.
    pub logs: BTreeMap<String, Arc<dyn PartitionedLog>>,
    /// Bound by the caller, so that port 0 works.
    pub listener: TcpListener,
    /// Unique among living workers.
    pub worker_id: String,
    pub shutdown: Shutdown,
}

/// The speed layer.
pub struct SpeedLayer;

/// A running speed layer.
pub struct SpeedHandle {
    address: SocketAddr,
    running: JoinHandle<Result<(), Error>>,
    kill: Shutdown,
}

impl SpeedHandle {
    /// Where HTTP and Flight are served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the layer has shut down: gracefully after the shutdown signal, or because it failed.
    ///
    /// # Errors
    /// What it failed of.
    pub async fn stopped(self) -> Result<(), Error> {
        self.running.await.map_err(|error| Error::Task(error.to_string()))?
    }

    /// Drops everything in flight, as a crash would: nothing more is landed, no lease released.
    pub async fn kill(self) {
        self.kill.cancel();
        // Its result is of no interest: it was killed.
        let _ = self.running.await;
    }
}

/// One source's running topology.
struct Running {
    layer: Arc<SourceLayer>,
    topology: Arc<Topology>,
}

impl SpeedLayer {
    /// Opens the master dataset of each source, joins their readers and starts to serve.
    ///
    /// # Errors
    /// When a log is not the one that was recorded, or anything it needs does not answer.
    pub async fn start(options: SpeedOptions) -> Result<SpeedHandle, Error> {
        let SpeedOptions {
            settings,
            catalog,
            views,
            store,
            logs,
            listener,
            worker_id,
            shutdown,
        } = options;
        let address = listener.local_addr()?;
        let paused = Arc::new(AtomicBool::new(false));
        // One signal for all sources: when one cannot go on, the whole layer stops in order.
        let stop = shutdown.child();
        let opening = StopOnError(Some(stop.clone()));
        let mut running = Vec::new();
        for source in catalog.sources.values() {
            let log = logs.get(&source.name).ok_or_else(|| Error::NoLog {
                table: source.name.clone(),
            })?;
            let layer = SourceLayer::open(SourceParts {
                source: Arc::clone(source),
                views: views
                    .iter()
                    .filter(|view| view.source().name == source.name)
                    .map(|view| (view.clone(), true))
                    .collect(),
                log: Arc::clone(log),
                store: store.clone(),
                settings: Arc::clone(&settings),
                worker_id: worker_id.clone(),
                shutdown: stop.clone(),
                paused: Arc::clone(&paused),
            })
            .await?;
            let topology = Arc::new(wire(&layer).await?.start()?);
            running.push(Running { layer, topology });
        }
        let layers: Vec<_> = running.iter().map(|running| Arc::clone(&running.layer)).collect();
        let snapshots = Arc::new(Snapshots::new(layers.clone(), worker_id.clone()));
        let advertised = settings.speed.advertise.clone().unwrap_or_else(|| advertised(address));
        let keeper = Keeper {
            layers: layers.clone(),
            snapshots: Arc::clone(&snapshots),
            store: store.clone(),
            worker_id: worker_id.clone(),
            address: advertised,
            state_budget_bytes: settings.speed.state_budget.get(),
            paused,
        };
        let kill = Shutdown::new();
        let service = Service {
            running,
            settings,
            snapshots,
            store,
            worker_id,
            stop,
            kill: kill.clone(),
        };
        opening.succeeded();
        let running = tokio::spawn(service.run(keeper, listener));
        Ok(SpeedHandle { address, running, kill })
    }
}

/// Ends what was started for the first sources when a later one cannot be opened.
struct StopOnError(Option<Shutdown>);

impl StopOnError {
    fn succeeded(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnError {
    fn drop(&mut self) {
        if let Some(stop) = &self.0 {
            stop.cancel();
        }
    }
}

/// Spout → DecodeBolts → ViewBolts and LandBolt.
pub(crate) async fn wire(layer: &Arc<SourceLayer>) -> Result<TopologyBuilder<Message>, Error> {
    let group = format!("anabranch.{}", layer.name());
    let subscription = layer.log.subscribe(&group).await?;
    let commands = mpsc::channel(COMMANDS);
    let mut builder = TopologyBuilder::new(layer.name()).channel_capacity(layer.settings.speed.channel_capacity);
    let spout_layer = Arc::clone(layer);
    builder
        .spout("spout", move || LogSpout::new(spout_layer, subscription, commands))
        .max_pending(usize::MAX);
    let decode_layer = Arc::clone(layer);
    builder
        .bolt("decode", layer.decoders, move |_| {
            DecodeBolt::new(Arc::clone(&decode_layer))
        })
        .stream(LAND_STREAM)
        .subscribe(
            "spout",
            Grouping::fields(|message: &Message| message.partition().0.unsigned_abs().into()),
        );
    let view_layer = Arc::clone(layer);
    builder
        .bolt("view", layer.view_bolts, move |instance| {
            ViewBolt::new(Arc::clone(&view_layer), instance)
        })
        .subscribe("decode", Grouping::split(split_by_key));
    let land_layer = Arc::clone(layer);
    builder
        .bolt("land", 1, move |_| LandBolt::new(Arc::clone(&land_layer)))
        .subscribe_to("decode", LAND_STREAM, Grouping::global());
    Ok(builder)
}

/// What runs until shutdown.
struct Service {
    running: Vec<Running>,
    settings: Arc<Settings>,
    snapshots: Arc<Snapshots>,
    store: Store,
    worker_id: String,
    /// Given from outside or by a source that cannot go on.
    stop: Shutdown,
    kill: Shutdown,
}

impl Service {
    async fn run(self, keeper: Keeper, listener: TcpListener) -> Result<(), Error> {
        // HTTP stops last: status and state stay readable while the rest lands.
        let http_stop = Shutdown::new();
        let http = tokio::spawn(http::serve(listener, self.router(), http_stop.clone()));
        let layers: Vec<_> = self.running.iter().map(|running| Arc::clone(&running.layer)).collect();
        let poll = *self.settings.speed.publication_poll;
        let background = Shutdown::new();
        let watch = tokio::spawn(publications::watch(
            layers,
            self.store.clone(),
            poll,
            background.clone(),
        ));
        let keep = tokio::spawn(keeper.run(background.clone()));

        let ends = self.running.iter().map(|running| {
            let topology = Arc::clone(&running.topology);
            let stop = self.stop.clone();
            tokio::task::spawn_blocking(move || {
                let ended = topology.wait();
                // A topology that ends by itself takes the others with it.
                stop.cancel();
                ended
            })
        });
        let ends = futures::future::join_all(ends);
        tokio::pin!(ends);
        let failures = tokio::spawn(stop_on_failure(
            self.topologies(),
            self.stop.clone(),
            background.clone(),
        ));
        let outcomes = tokio::select! {
            outcomes = &mut ends => outcomes,
            () = self.kill.cancelled() => {
                self.running.iter().for_each(|running| running.topology.kill());
                background.cancel();
                http.abort();
                watch.abort();
                keep.abort();
                self.stop.cancel();
                ends.await;
                return Ok(());
            }
        };

        background.cancel();
        let _ = tokio::join!(watch, keep, failures);
        if let Err(error) = Leases::new(&self.store).release("speed", &self.worker_id).await {
            tracing::warn!(%error, "cannot release the lease; it expires by itself");
        }
        http_stop.cancel();
        let served = http.await;

        let faults = self.running.iter().find_map(|running| running.layer.take_fault());
        if let Some(fault) = faults {
            return Err(fault);
        }
        for outcome in outcomes {
            outcome.map_err(|error| Error::Task(error.to_string()))??;
        }
        served.map_err(|error| Error::Task(error.to_string()))??;
        Ok(())
    }

    fn topologies(&self) -> Vec<Arc<Topology>> {
        self.running
            .iter()
            .map(|running| Arc::clone(&running.topology))
            .collect()
    }

    fn router(&self) -> axum::Router {
        let by_name: BTreeMap<_, _> = self
            .running
            .iter()
            .map(|running| (running.layer.source.name.clone(), Arc::clone(&running.layer)))
            .collect();
        let max_body_bytes = usize::try_from(self.settings.serving.max_ingest_body.get()).unwrap_or(usize::MAX);
        let ingest = Ingest::new(by_name, max_body_bytes);
        let reporter = Reporter {
            sources: self
                .running
                .iter()
                .map(|running| (Arc::clone(&running.layer), Arc::clone(&running.topology)))
                .collect(),
            worker_id: self.worker_id.clone(),
            state_budget_bytes: self.settings.speed.state_budget.get(),
        };
        let reporter = Arc::new(reporter);
        let stop = self.stop.clone();
        let ready = move || {
            if stop.is_cancelled() {
                Err("it is stopping".to_owned())
            } else {
                Ok(())
            }
        };
        let status_reporter = Arc::clone(&reporter);
        let ingest_route = post(ingest::ingest)
            .layer(DefaultBodyLimit::disable())
            .with_state(ingest);
        base_router("speed", ready)
            .route("/v1/status", get(async move || Json(status_reporter.status())))
            .route("/v1/ingest/{table}", ingest_route)
            .route_service(
                "/arrow.flight.protocol.FlightService/{*method}",
                Flight::service(Arc::clone(&self.snapshots)),
            )
            .layer(axum::middleware::from_fn(
                move |request: axum::extract::Request, next: axum::middleware::Next| {
                    // Gauges are set when somebody asks for them.
                    if request.uri().path() == "/metrics" {
                        reporter.record();
                    }
                    next.run(request)
                },
            ))
    }
}

/// Gives the stop signal as soon as a topology fails, so that none of its tasks goes on waiting for a store.
async fn stop_on_failure(topologies: Vec<Arc<Topology>>, stop: Shutdown, ended: Shutdown) {
    while !ended.is_cancelled() && !stop.is_cancelled() {
        if topologies.iter().any(|topology| topology.has_failed()) {
            stop.cancel();
        }
        tokio::time::sleep(LOOK_FOR_FAILURE_EVERY).await;
    }
}

/// The address others are told when none is set: that of the listener, unless it stands for all interfaces.
fn advertised(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        tracing::warn!(%address, "listening on all interfaces, but `advertise` in [speed] is not set: others are told 127.0.0.1");
        return format!("http://127.0.0.1:{}", address.port());
    }
    format!("http://{address}")
}

struct Reporter {
    sources: Vec<(Arc<SourceLayer>, Arc<Topology>)>,
    worker_id: String,
    state_budget_bytes: u64,
}

impl Reporter {
    fn status(&self) -> Status {
        let sources = self
            .sources
            .iter()
            .map(|(layer, topology)| (layer.source.name.clone(), source_status(layer, topology.stats())));
        Status {
            worker: self.worker_id.clone(),
            state_bytes: self.sources.iter().map(|(layer, _)| layer.state_bytes()).sum(),
            state_budget_bytes: self.state_budget_bytes,
            paused: self
                .sources
                .iter()
                .any(|(layer, _)| layer.paused.load(Ordering::Relaxed)),
            sources: sources.collect(),
        }
    }

    fn record(&self) {
        self.sources
            .iter()
            .for_each(|(layer, topology)| record_gauges(layer, &topology.stats()));
    }
}
