use std::sync::Arc;

use anabranch_dataset::RunState;
use anabranch_runtime::Shutdown;
use tokio::sync::Mutex;

use super::queue::{Decision, decide};
use crate::runs::board::{Board, Skip};
use crate::runs::record::{LiveRun, rfc3339};
use crate::runs::task::Task;
use crate::site::Site;
use crate::standing::leader::Leadership;
use crate::{Error, Trigger};

/// Runs that wait at most: one recomputation, and what people ask for by hand.
const MAX_QUEUED: usize = 8;

/// Where runs are asked for.
pub(crate) struct Requests {
    pub(crate) site: Arc<Site>,
    pub(crate) board: Arc<Board>,
    pub(crate) leadership: Arc<Leadership>,
    pub(crate) shutdown: Shutdown,
    /// One at a time; the board stays free while a record is written.
    one: Mutex<()>,
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

impl Requests {
    pub(crate) fn new(site: Arc<Site>, board: Arc<Board>, leadership: Arc<Leadership>, shutdown: Shutdown) -> Self {
        Self {
            site,
            board,
            leadership,
            shutdown,
            one: Mutex::new(()),
        }
    }

    /// Asks for a run.
    ///
    /// # Errors
    /// When the record cannot be written; no run is queued then. [`Error::ShutDown`] during shutdown.
    pub(crate) async fn request(&self, trigger: Trigger, full: bool) -> Result<Requested, Error> {
        self.check_leading()?;
        let _one = self.one.lock().await;
        let (running, waiting) = self
            .board
            .show(|listed| {
                let recomputes = |run: &&Arc<LiveRun>| run.task == Task::Run;
                let running = listed.running.as_ref().filter(recomputes);
                let waiting = listed.queued.iter().find(recomputes).cloned();
                (running.map(|run| run.run_id.clone()), waiting)
            })
            .await;
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
                let skip = Skip {
                    at: rfc3339(self.site.environment().now()),
                    trigger: trigger.as_str().to_owned(),
                    because,
                };
                self.board.skip(skip).await;
                Ok(Requested::Skipped)
            }
        }
    }

    /// Asks for a run by itself: every service keeps the time and watches, and the one that leads asks.
    pub(crate) async fn ask(&self, trigger: Trigger) {
        if !self.leadership.is_leader() {
            return;
        }
        if let Err(error) = self.request(trigger, false).await {
            tracing::warn!(%trigger, %error, "cannot start a batch run");
        }
    }

    /// Waits until a watcher may look again; `false` when the service is to stop.
    pub(crate) async fn next_look(&self) -> bool {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => false,
            () = self.site.environment().sleep(*self.site.settings.batch.poll) => true,
        }
    }

    /// Asks for a rollback or a verification.
    ///
    /// # Errors
    /// `Conflict` when too many wait already; otherwise as [`request`](Self::request).
    pub(crate) async fn request_task(&self, task: Task) -> Result<String, Error> {
        self.check_leading()?;
        let _one = self.one.lock().await;
        if self.board.show(|listed| listed.queued.len()).await >= MAX_QUEUED {
            return Err(Error::Refused(format!("{MAX_QUEUED} runs are queued already")));
        }
        self.enqueue(Trigger::Request, task, false).await
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

    /// The caller is the one.
    async fn enqueue(&self, trigger: Trigger, task: Task, full: bool) -> Result<String, Error> {
        let environment = self.site.environment();
        let run = Arc::new(LiveRun::new(trigger, task, environment.now(), environment));
        if full {
            run.request_full();
        }
        self.site.runs.put(&run.record()).await?;
        let run_id = run.run_id.clone();
        self.board.add(run).await;
        Ok(run_id)
    }
}
