//! Builds the speed layer from its parts, and takes it down in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_access::{Need, Perimeter, common_needs, is_safe};
use anabranch_dataset::{Leases, Store};
use anabranch_definitions::Definitions;
use anabranch_log::PartitionedLog;
use anabranch_runtime::http::{Drain, advertised, base_router};
use anabranch_runtime::tls::Clients;
use anabranch_runtime::{Settings, Shutdown};
use anabranch_topology::{Grouping, TopologyBuilder};
use axum::Json;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::routing::{get, post};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Error;
use crate::decode_bolt::DecodeBolt;
use crate::definitions::Following;
use crate::flight::Flight;
use crate::ingest::{self, Ingest};
use crate::landing::LandBolt;
use crate::lease::Keeper;
use crate::message::{LAND_STREAM, Message, split_by_key};
use crate::opening::{OpenLog, Opener};
use crate::publications;
use crate::snapshots::Snapshots;
use crate::source::SourceLayer;
use crate::sources::Sources;
use crate::spout::LogSpout;
use crate::status::{Gauges, Status, source_status};
use crate::view_bolt::ViewBolt;

/// Commands to a spout that may wait; it looks many times a second.
const COMMANDS: usize = 64;

const LOOK_FOR_FAILURE_EVERY: Duration = Duration::from_millis(100);

/// What the speed layer is built from.
pub struct SpeedOptions {
    pub settings: Arc<Settings>,
    /// What runs at first; those that are in the definitions log are followed from there on.
    pub definitions: Arc<Definitions>,
    pub store: Store,
    /// Log of each source, by table name.
    pub logs: BTreeMap<String, Arc<dyn PartitionedLog>>,
    /// For tables that are declared later; `None` refuses them.
    pub open_log: Option<Arc<dyn OpenLog>>,
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

impl SpeedLayer {
    /// Opens the master dataset of each source, joins their readers and starts to serve. A source whose log or store does
    /// not answer is opened later, by itself; the others go on meanwhile.
    ///
    /// # Errors
    /// When a log is not the one that was recorded, or is refused for another reason that waiting does not mend.
    pub async fn start(options: SpeedOptions) -> Result<SpeedHandle, Error> {
        let serve = |perimeter: Perimeter, listener, router, stop| {
            perimeter.serve(listener, Clients::Certified, router, stop, Drain::default())
        };
        Self::start_with(options, serve).await
    }

    /// As [`start`](Self::start), with something else in place of the HTTP server.
    async fn start_with<S>(
        options: SpeedOptions,
        serve: impl FnOnce(Perimeter, TcpListener, axum::Router, Shutdown) -> S,
    ) -> Result<SpeedHandle, Error>
    where
        S: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let SpeedOptions {
            settings,
            definitions,
            store,
            logs,
            open_log,
            listener,
            worker_id,
            shutdown,
        } = options;
        let address = listener.local_addr()?;
        let perimeter = Perimeter::start(&settings, &store, &worker_id).await?;
        perimeter.check("speed.listen", address)?;
        let (paused, sources) = (Arc::new(AtomicBool::new(false)), Arc::new(Sources::default()));
        let (stop, background) = (shutdown.child(), Shutdown::new());
        let opening = StopOnError([stop.clone(), background.clone()].into());
        let opener = Arc::new(Opener {
            store: store.clone(),
            settings: Arc::clone(&settings),
            worker_id: worker_id.clone(),
            stop: stop.clone(),
            background: background.clone(),
            paused: Arc::clone(&paused),
            sources: Arc::clone(&sources),
        });
        let mut following = Following::new(definitions, opener, (logs, open_log));
        following.start().await?;
        let snapshots = Arc::new(Snapshots::new(
            Arc::clone(&sources),
            worker_id.clone(),
            store.environment(),
        ));
        let advertise = settings.speed.advertise.as_deref();
        let advertised = advertised("speed", advertise, perimeter.scheme(), address);
        let keeper = Keeper {
            sources: Arc::clone(&sources),
            snapshots: Arc::clone(&snapshots),
            store: store.clone(),
            worker_id: worker_id.clone(),
            address: advertised,
            state_budget_bytes: settings.speed.state_budget.get(),
            paused: Arc::clone(&paused),
        };
        let kill = Shutdown::new();
        let service = Service {
            sources,
            settings,
            snapshots,
            store,
            worker_id,
            paused,
            stop,
            background,
            kill: kill.clone(),
        };
        opening.succeeded();
        // HTTP stops last: status and state stay readable while the rest lands.
        let http_stop = Shutdown::new();
        let router = perimeter.protect(service.router(), needs);
        let http = serve(perimeter, listener, router, http_stop.clone());
        let http = Server {
            task: tokio::spawn(http),
            stop: http_stop,
        };
        let running = tokio::spawn(service.run(following, keeper, http));
        Ok(SpeedHandle { address, running, kill })
    }
}

/// Ends what was started for the first sources when a later one cannot be opened.
struct StopOnError(Vec<Shutdown>);

impl StopOnError {
    fn succeeded(mut self) {
        self.0.clear();
    }
}

impl Drop for StopOnError {
    fn drop(&mut self) {
        self.0.iter().for_each(Shutdown::cancel);
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

/// The HTTP server.
struct Server {
    task: JoinHandle<std::io::Result<()>>,
    stop: Shutdown,
}

/// What runs until shutdown.
struct Service {
    sources: Arc<Sources>,
    settings: Arc<Settings>,
    snapshots: Arc<Snapshots>,
    store: Store,
    worker_id: String,
    paused: Arc<AtomicBool>,
    /// Given from outside or by a source that cannot go on.
    stop: Shutdown,
    /// Stops what goes on while sources land what they have.
    background: Shutdown,
    kill: Shutdown,
}

impl Service {
    async fn run(self, following: Following, keeper: Keeper, mut http: Server) -> Result<(), Error> {
        let poll = *self.settings.speed.publication_poll;
        let watch = tokio::spawn(publications::watch(
            Arc::clone(&self.sources),
            self.store.clone(),
            poll,
            self.background.clone(),
        ));
        let keep = tokio::spawn(keeper.run(self.background.clone()));
        let follow = tokio::spawn(following.follow(poll, self.stop.clone()));
        let failures = tokio::spawn(stop_on_failure(
            Arc::clone(&self.sources),
            self.stop.clone(),
            self.background.clone(),
        ));
        let ends = async {
            self.stop.cancelled().await;
            // From here on no source is added.
            let _ = follow.await;
            self.sources.ended().await
        };
        tokio::pin!(ends);
        let mut unserved = None;
        let outcome = tokio::select! {
            outcome = &mut ends => outcome,
            // Nobody can ask this worker any more: it lands what it has and makes room for one that can be asked.
            ended = &mut http.task => {
                let error = ended.map_or_else(|error| Some(std::io::Error::other(error)), Result::err);
                let error = Error::ServerEnded(error);
                tracing::error!(%error, "the speed layer cannot go on");
                unserved = Some(error);
                self.stop.cancel();
                ends.await
            }
            () = self.kill.cancelled() => {
                self.sources.running().iter().for_each(|(_, topology)| topology.kill());
                self.background.cancel();
                http.task.abort();
                watch.abort();
                keep.abort();
                self.stop.cancel();
                // Its result is of no interest: it was killed.
                let _ = ends.await;
                return Ok(());
            }
        };

        self.background.cancel();
        let _ = tokio::join!(watch, keep, failures);
        if let Err(error) = Leases::new(&self.store).release("speed", &self.worker_id).await {
            tracing::warn!(%error, "cannot release the lease; it expires by itself");
        }
        http.stop.cancel();
        let served = match unserved {
            Some(error) => Err(error),
            None => match http.task.await {
                Ok(served) => served.map_err(Error::from),
                Err(error) => Err(Error::Task(error.to_string())),
            },
        };

        let faults = self.sources.layers().iter().find_map(|layer| layer.take_fault());
        if let Some(fault) = faults {
            return Err(fault);
        }
        outcome?;
        served
    }

    fn router(&self) -> axum::Router {
        let max_body_bytes = usize::try_from(self.settings.serving.max_ingest_body.get()).unwrap_or(usize::MAX);
        let ingest = Ingest::new(Arc::clone(&self.sources), max_body_bytes);
        let reporter = Reporter {
            sources: Arc::clone(&self.sources),
            worker_id: self.worker_id.clone(),
            state_budget_bytes: self.settings.speed.state_budget.get(),
            paused: Arc::clone(&self.paused),
            gauges: Mutex::default(),
        };
        let reporter = Arc::new(reporter);
        let (stop, sources) = (self.stop.clone(), Arc::clone(&self.sources));
        let ready = move || {
            if stop.is_cancelled() {
                return Err("it is stopping".to_owned());
            }
            match sources.waiting().pop_first() {
                Some((table, waiting)) => Err(format!("table {table} is not open yet: {}", waiting.error)),
                None => Ok(()),
            }
        };
        let status_reporter = Arc::clone(&reporter);
        let ingest_route = post(ingest::ingest)
            .layer(DefaultBodyLimit::disable())
            .with_state(ingest);
        base_router("speed", ready)
            .route("/v1/status", get(async move || Json(status_reporter.status())))
            .route("/v1/ingest/{table}", ingest_route)
            .route_service(FLIGHT_ROUTE, Flight::service(Arc::clone(&self.snapshots)))
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

/// The methods of Flight.
const FLIGHT_ROUTE: &str = "/arrow.flight.protocol.FlightService/{*method}";

/// What each route needs. Realtime state over Flight is for services; status tells of all views.
fn needs(method: &Method, route: Option<&str>) -> Need {
    common_needs(method, route).unwrap_or(match route {
        Some("/v1/ingest/{table}") if *method == Method::POST => Need::Ingest,
        Some("/v1/status") if is_safe(method) => Need::ReadAll,
        Some(FLIGHT_ROUTE) => Need::Service,
        _ => Need::Admin,
    })
}

/// Gives the stop signal as soon as a topology fails, so that none of its tasks goes on waiting for a store.
async fn stop_on_failure(sources: Arc<Sources>, stop: Shutdown, ended: Shutdown) {
    while !ended.is_cancelled() && !stop.is_cancelled() {
        if sources.running().iter().any(|(_, topology)| topology.has_failed()) {
            stop.cancel();
        }
        tokio::time::sleep(LOOK_FOR_FAILURE_EVERY).await;
    }
}

struct Reporter {
    sources: Arc<Sources>,
    worker_id: String,
    state_budget_bytes: u64,
    paused: Arc<AtomicBool>,
    gauges: Mutex<Gauges>,
}

impl Reporter {
    fn status(&self) -> Status {
        let running = self.sources.running();
        let sources = running
            .iter()
            .map(|(layer, topology)| (layer.source.name.clone(), source_status(layer, topology.stats())));
        Status {
            worker: self.worker_id.clone(),
            state_bytes: running.iter().map(|(layer, _)| layer.state_bytes()).sum(),
            landing_bytes: running.iter().map(|(layer, _)| layer.landing_bytes()).sum(),
            state_budget_bytes: self.state_budget_bytes,
            paused: self.paused.load(Ordering::Relaxed),
            waiting: self.sources.waiting(),
            sources: sources.collect(),
        }
    }

    fn record(&self) {
        let mut gauges = self.gauges.lock();
        gauges.record(&self.sources.running(), &self.sources.names());
    }
}

#[cfg(test)]
mod tests;
