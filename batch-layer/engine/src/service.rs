use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{Caller, Calls, Perimeter};
use anabranch_catalog::Source;
use anabranch_compute::{Kernel, Options};
use anabranch_dataset::{Leases, MasterDataset, Publications, RunRecord, RunState, Runs, Store};
use anabranch_definitions::Definitions;
use anabranch_model::ErrorKind;
use anabranch_realtime::Directory;
use anabranch_runtime::http::{Drain, advertised};
use anabranch_runtime::tls::Clients;
use anabranch_runtime::{OnError, Settings, Shutdown, Tasks};
use chrono::{DateTime, Utc};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify};

use crate::definitions::Current;
use crate::held::HeldRun;
use crate::leader::Leadership;
use crate::lease::LeaseKeeper;
use crate::maintenance::{self, Maintenance};
use crate::queue::{Decision, decide};
use crate::record::{LiveRun, Task, rfc3339};
use crate::recovery::Interrupted;
use crate::rollback::Intent;
use crate::{Error, Schedule, Trigger, http, leader, lease, recovery, run, watch};

/// What the batch layer needs to start.
pub struct BatchOptions {
    pub settings: Arc<Settings>,
    /// What runs compute at first; those that are in the definitions log are followed from there on.
    pub definitions: Arc<Definitions>,
    pub store: Store,
    /// Bound by the caller, so that tests can let the system choose the port.
    pub listener: TcpListener,
    /// Names this process in its lease; must differ between living processes.
    pub worker_id: String,
    pub shutdown: Shutdown,
}

/// How soon a start is tried again that the store did not answer.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Starts the batch layer.
pub struct BatchLayer;

/// A running batch layer.
pub struct BatchHandle {
    address: SocketAddr,
    tasks: Tasks,
}

/// Exposes counters of rare things before the first of them: a rate over one that appears with its first event misses it.
fn begin_counters() {
    metrics::counter!("anabranch_maintenance_errors_total").increment(0);
    for trigger in Trigger::ALL {
        for state in ["published", "held", "compared", "failed"] {
            metrics::counter!("anabranch_batch_runs_total", "state" => state, "trigger" => trigger.as_str())
                .increment(0);
        }
    }
}

impl BatchLayer {
    /// Proves the store, settles what a former process left behind, and starts serving.
    ///
    /// # Errors
    /// Settings that cannot be used; a store that does not answer or has no atomic create-if-absent.
    pub async fn start(options: BatchOptions) -> Result<BatchHandle, Error> {
        let BatchOptions {
            settings,
            definitions,
            store,
            listener,
            worker_id,
            shutdown,
        } = options;
        let perimeter = Perimeter::start(&settings, &store, &worker_id).await?;
        let batch = &settings.batch;
        let schedule = batch
            .schedule
            .as_deref()
            .map(|text| Schedule::parse(text, &batch.time_zone))
            .transpose()?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::Task(format!("listener: {error}")))?;
        perimeter.check("batch.listen", address)?;
        let advertise = batch.advertise.as_deref();
        let advertised = advertised("batch", advertise, perimeter.scheme(), address);
        let kernel = Kernel::new(&Options {
            threads: batch.threads,
            memory_budget_bytes: batch.memory_budget.get(),
            spill_dir: batch.spill_dir.clone(),
        })?;
        let leases = Leases::new(&store);
        let shared = Arc::new(Shared {
            publications: Publications::new(&store),
            runs: Runs::new(&store),
            leadership: Leadership::new(&store, &worker_id),
            lease: LeaseKeeper::new(leases.clone(), worker_id, advertised),
            directory: Some(Directory::new(&store).with_caller(perimeter.caller())),
            calls: perimeter.caller().calls()?,
            caller: perimeter.caller(),
            leases,
            kernel: Arc::new(kernel),
            schedule,
            board: Mutex::new(Board::default()),
            requesting: Mutex::new(()),
            interrupted: Mutex::default(),
            datasets: Mutex::default(),
            wake: Notify::new(),
            stopped: Shutdown::new(),
            shutdown: shutdown.clone(),
            maintenance: Maintenance::default(),
            settings,
            definitions: Current::new(&store, definitions),
            store,
        });
        while let Err(error) = shared.begin().await {
            if error.kind() != ErrorKind::Unavailable || shutdown.is_cancelled() {
                return Err(error);
            }
            tracing::warn!(%error, "the object store does not answer; trying again");
            shared.store.environment().sleep(TRY_AGAIN).await;
        }

        begin_counters();
        let tasks = Tasks::new(shutdown.clone());
        tasks.spawn("batch runs", OnError::Shutdown, run_loop(shared.clone()));
        tasks.spawn("batch leadership", OnError::Log, leader::watch(shared.clone()));
        tasks.spawn("batch lease", OnError::Log, lease::keep(shared.clone()));
        let settling = recovery::keep_settling(shared.clone());
        tasks.spawn("interrupted batch runs", OnError::Log, settling);
        tasks.spawn("batch schedule", OnError::Shutdown, watch::schedule(shared.clone()));
        tasks.spawn("batch definitions", OnError::Log, watch::definitions(shared.clone()));
        tasks.spawn("batch exclusions", OnError::Log, watch::exclusions(shared.clone()));
        tasks.spawn("batch state budget", OnError::Log, watch::state_budget(shared.clone()));
        tasks.spawn(
            "batch retention",
            OnError::Log,
            maintenance::watch_retention(shared.clone()),
        );
        tasks.spawn("maintenance", OnError::Log, maintenance::look_after(shared.clone()));
        let router = perimeter.protect(http::router(shared.clone()), http::needs);
        // Last to stop: a client can still ask how the run ended.
        let served = perimeter.serve(
            listener,
            Clients::Certified,
            router,
            shared.stopped.clone(),
            Drain::default(),
        );
        tasks.spawn("batch http", OnError::Shutdown, served);
        tracing::info!(%address, schedule = shared.schedule.as_ref().map(Schedule::expression), "batch layer is up");
        Ok(BatchHandle { address, tasks })
    }
}

impl BatchHandle {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the layer has stopped: a running run is cancelled and recorded as failed, then HTTP ends.
    ///
    /// # Errors
    /// The failure that stopped it, if it was not the shutdown signal.
    pub async fn stopped(self) -> Result<(), Error> {
        self.tasks.join().await.map_err(Error::Task)
    }
}

/// Runs that wait at most: one recomputation, and what people ask for by hand.
const MAX_QUEUED: usize = 8;

/// What the tasks of one batch layer share.
pub(crate) struct Shared {
    pub(crate) settings: Arc<Settings>,
    pub(crate) definitions: Current,
    pub(crate) store: Store,
    pub(crate) publications: Publications,
    pub(crate) runs: Runs,
    pub(crate) leases: Leases,
    pub(crate) lease: LeaseKeeper,
    pub(crate) leadership: Leadership,
    /// The speed workers; `None` in a simulation without them.
    pub(crate) directory: Option<Directory>,
    /// Passes requests on to the service that leads.
    pub(crate) calls: Calls,
    pub(crate) caller: Caller,
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) schedule: Option<Schedule>,
    pub(crate) maintenance: Maintenance,
    pub(crate) board: Mutex<Board>,
    pub(crate) requesting: Mutex<()>,
    pub(crate) interrupted: Mutex<Interrupted>,
    pub(crate) datasets: Mutex<BTreeMap<String, MasterDataset>>,
    pub(crate) wake: Notify,
    pub(crate) shutdown: Shutdown,
    /// Given when the last run has ended after a shutdown: HTTP and the lease outlive the run.
    pub(crate) stopped: Shutdown,
}

/// The runs of this process.
#[derive(Default)]
pub(crate) struct Board {
    pub(crate) running: Option<Arc<LiveRun>>,
    pub(crate) queued: VecDeque<Arc<LiveRun>>,
    pub(crate) last: Option<RunRecord>,
    /// Waits to be published or discarded.
    pub(crate) held: Option<HeldRun>,
    /// A rollback that the speed layer prepares for.
    pub(crate) intent: Option<Intent>,
    pub(crate) skipped: Skipped,
}

/// Triggers that came to nothing because a run was on its way.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Skipped {
    pub(crate) count: u64,
    pub(crate) last: Option<Skip>,
}

#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Skip {
    pub(crate) at: String,
    pub(crate) trigger: String,
    /// The run that was in the way.
    pub(crate) because: String,
}

/// What became of a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Requested {
    /// This run is new, or was on its way already.
    Run {
        run_id: String,
        state: RunState,
    },
    Skipped,
}

impl Shared {
    /// What a start needs of the store.
    async fn begin(&self) -> Result<(), Error> {
        self.store.prove_create_if_absent().await?;
        // First the lease: who claims leadership must be seen to be alive.
        self.lease.renew(self).await?;
        leader::settle(self, true).await
    }

    /// Asks for a run.
    ///
    /// # Errors
    /// When the record cannot be written; no run is queued then. [`Error::ShutDown`] during shutdown.
    pub(crate) async fn request(&self, trigger: Trigger, full: bool) -> Result<Requested, Error> {
        self.check_leading()?;
        // One trigger at a time; the board stays free while the record is written.
        let _requesting = self.requesting.lock().await;
        let (running, waiting) = {
            let board = self.board.lock().await;
            let recomputes = |run: &&Arc<LiveRun>| run.task == Task::Run;
            let running = board.running.as_ref().filter(recomputes);
            let waiting = board.queued.iter().find(recomputes).cloned();
            (running.map(|run| run.run_id.clone()), waiting)
        };
        let queued = waiting.as_ref().map(|run| run.run_id.clone());
        match decide(trigger, running.as_deref(), queued.as_deref()) {
            Decision::Queue => {
                let run_id = self.enqueue(trigger, Task::Run, full).await?;
                Ok(Requested::Run {
                    run_id,
                    state: RunState::Queued,
                })
            }
            Decision::Join(run_id) => {
                let state = match waiting.filter(|run| run.run_id == run_id) {
                    Some(run) => {
                        if full {
                            run.request_full();
                        }
                        RunState::Queued
                    }
                    None => RunState::Running,
                };
                Ok(Requested::Run { run_id, state })
            }
            Decision::Skip { because } => {
                tracing::warn!(%trigger, because, "skipped: a batch run is on its way");
                metrics::counter!("anabranch_batch_skipped_total", "trigger" => trigger.as_str()).increment(1);
                let mut board = self.board.lock().await;
                board.skipped.count += 1;
                board.skipped.last = Some(Skip {
                    at: rfc3339(self.store.environment().now()),
                    trigger: trigger.as_str().to_owned(),
                    because,
                });
                Ok(Requested::Skipped)
            }
        }
    }

    /// A run that is asked for at the moment when leadership moves belongs to the next leader.
    fn check_leading(&self) -> Result<(), Error> {
        if self.shutdown.is_cancelled() {
            return Err(Error::ShutDown);
        }
        if !self.leadership.is_leader() {
            return Err(Error::LostLeadership);
        }
        Ok(())
    }

    /// Asks for a rollback or a verification.
    ///
    /// # Errors
    /// `Conflict` when too many wait already; otherwise as [`request`](Self::request).
    pub(crate) async fn request_task(&self, task: Task) -> Result<String, Error> {
        self.check_leading()?;
        let _requesting = self.requesting.lock().await;
        if self.board.lock().await.queued.len() >= MAX_QUEUED {
            return Err(Error::Refused(format!("{MAX_QUEUED} runs are queued already")));
        }
        self.enqueue(Trigger::Request, task, false).await
    }

    /// The caller holds `requesting`.
    async fn enqueue(&self, trigger: Trigger, task: Task, full: bool) -> Result<String, Error> {
        let environment = self.store.environment();
        let run = Arc::new(LiveRun::new(trigger, task, environment.now(), environment));
        if full {
            run.request_full();
        }
        self.runs.put(&run.record()).await?;
        let run_id = run.run_id.clone();
        self.board.lock().await.queued.push_back(run);
        self.wake.notify_one();
        Ok(run_id)
    }

    /// Whether a run is running or queued.
    pub(crate) async fn is_busy(&self) -> bool {
        let board = self.board.lock().await;
        board.running.is_some() || !board.queued.is_empty()
    }

    /// A run of this process that is running or queued.
    pub(crate) async fn live(&self, run_id: &str) -> Option<Arc<LiveRun>> {
        let board = self.board.lock().await;
        board
            .running
            .iter()
            .chain(&board.queued)
            .find(|run| run.run_id == run_id)
            .cloned()
    }

    /// A run by id: live from this process, or as recorded.
    pub(crate) async fn find(&self, run_id: &str) -> Result<RunRecord, Error> {
        match self.live(run_id).await {
            Some(run) => Ok(run.record()),
            None => self
                .runs
                .get(run_id)
                .await?
                .ok_or_else(|| Error::UnknownRun(run_id.to_owned())),
        }
    }

    /// When the schedule fires next.
    pub(crate) fn next_scheduled(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.schedule.as_ref()?.next_after(now)
    }

    /// A source's master dataset, if anything was ever landed. Kept open, so that each run reads only what is new in its log.
    pub(crate) async fn dataset(&self, source: &Arc<Source>) -> Result<Option<MasterDataset>, Error> {
        let mut datasets = self.datasets.lock().await;
        if !datasets.contains_key(&source.name)
            && let Some(opened) = MasterDataset::open_existing(&self.store, source).await?
        {
            datasets.insert(source.name.clone(), opened);
        }
        Ok(datasets.get(&source.name).cloned())
    }

    /// Writes a run's record. The run itself matters more than its record, so a failure is only logged.
    pub(crate) async fn save(&self, run: &LiveRun) {
        let _saving = run.saving.lock().await;
        if let Err(error) = self.runs.put(&run.record()).await {
            tracing::warn!(run_id = run.run_id, %error, "cannot write the run's record");
        }
    }

    /// Writes the running run's record, for readers in other processes.
    pub(crate) async fn save_progress(&self) {
        let running = self.board.lock().await.running.clone();
        if let Some(run) = running {
            self.save(&run).await;
        }
    }

    /// Waits for a queued run and makes it the running one; `None` at shutdown.
    async fn next_run(&self) -> Option<Arc<LiveRun>> {
        loop {
            if self.shutdown.is_cancelled() {
                return None;
            }
            let mut board = self.board.lock().await;
            if let Some(run) = board.queued.pop_front() {
                board.running = Some(run.clone());
                return Some(run);
            }
            drop(board);
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => {}
                () = self.wake.notified() => {}
            }
        }
    }
}

/// One run after the other until shutdown.
pub(crate) async fn run_loop(shared: Arc<Shared>) -> Result<(), Error> {
    // However this task ends, HTTP and the lease end after it.
    let stopped = StopGuard(shared.stopped.clone());
    while let Some(run) = shared.next_run().await {
        run::execute(&shared, &run).await;
        let mut board = shared.board.lock().await;
        board.last = Some(run.record());
        board.running = None;
        drop(board);
        if let Err(error) = shared.lease.renew(&shared).await {
            tracing::warn!(%error, "cannot renew the batch lease");
        }
    }
    let waiting = std::mem::take(&mut shared.board.lock().await.queued);
    for run in waiting {
        run.update(|record| {
            record.state = RunState::Failed;
            record.error = Some(Error::ShutDown.to_string());
            record.finished_at = Some(rfc3339(shared.store.environment().now()));
        });
        shared.save(&run).await;
    }
    drop(stopped);
    Ok(())
}

struct StopGuard(Shutdown);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests;
