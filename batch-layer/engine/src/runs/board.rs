use std::collections::VecDeque;
use std::sync::Arc;

use anabranch_dataset::{RunRecord, Runs};
use anabranch_model::CutMap;
use anabranch_runtime::Shutdown;
use tokio::sync::{Mutex, Notify};

use super::record::LiveRun;
use crate::Error;

/// The runs of this process: which one runs, which wait, which is held.
#[derive(Default)]
pub(crate) struct Board {
    listed: Mutex<Listed>,
    added: Notify,
}

/// What stands on the board.
#[derive(Default)]
pub(crate) struct Listed {
    pub(crate) running: Option<Arc<LiveRun>>,
    pub(crate) queued: VecDeque<Arc<LiveRun>>,
    pub(crate) last: Option<RunRecord>,
    /// Waits to be published or discarded.
    pub(crate) held: Option<HeldRun>,
    /// The publication that is about to be served again: the speed layer prepares for it.
    pub(crate) rollback: Option<u64>,
    pub(crate) skipped: Skipped,
}

/// The run that may still be published.
#[derive(Clone, Debug)]
pub(crate) struct HeldRun {
    pub(crate) run_id: String,
    pub(crate) based_on: u64,
    pub(crate) cuts: CutMap,
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

impl Board {
    /// What `see` makes of the board of this moment.
    pub(crate) async fn show<T>(&self, see: impl FnOnce(&Listed) -> T) -> T {
        see(&*self.listed.lock().await)
    }

    /// Puts a run at the end of the queue.
    pub(crate) async fn add(&self, run: Arc<LiveRun>) {
        self.listed.lock().await.queued.push_back(run);
        self.added.notify_one();
    }

    /// Waits for a queued run and makes it the running one; `None` at shutdown.
    pub(crate) async fn next(&self, shutdown: &Shutdown) -> Option<Arc<LiveRun>> {
        loop {
            if shutdown.is_cancelled() {
                return None;
            }
            let mut listed = self.listed.lock().await;
            if let Some(run) = listed.queued.pop_front() {
                listed.running = Some(run.clone());
                return Some(run);
            }
            drop(listed);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = self.added.notified() => {}
            }
        }
    }

    /// The running run has ended.
    pub(crate) async fn end(&self, run: &LiveRun) {
        let mut listed = self.listed.lock().await;
        listed.last = Some(run.record());
        listed.running = None;
    }

    /// Takes away all runs that wait.
    pub(crate) async fn clear(&self) -> VecDeque<Arc<LiveRun>> {
        std::mem::take(&mut self.listed.lock().await.queued)
    }

    /// Whether a run is running or queued.
    pub(crate) async fn is_busy(&self) -> bool {
        self.show(|listed| listed.running.is_some() || !listed.queued.is_empty())
            .await
    }

    /// The run that is running.
    pub(crate) async fn running(&self) -> Option<Arc<LiveRun>> {
        self.show(|listed| listed.running.clone()).await
    }

    /// A run of this process that is running or queued.
    pub(crate) async fn live(&self, run_id: &str) -> Option<Arc<LiveRun>> {
        self.show(|listed| {
            let mut live = listed.running.iter().chain(&listed.queued);
            live.find(|run| run.run_id == run_id).cloned()
        })
        .await
    }

    /// A run by id: live from this process, or as recorded.
    pub(crate) async fn find(&self, run_id: &str, runs: &Runs) -> Result<RunRecord, Error> {
        if let Some(run) = self.live(run_id).await {
            return Ok(run.record());
        }
        let recorded = runs.get(run_id).await?;
        recorded.ok_or_else(|| Error::UnknownRun(run_id.to_owned()))
    }

    /// Counts a trigger that comes to nothing.
    pub(crate) async fn skip(&self, skip: Skip) {
        let mut listed = self.listed.lock().await;
        listed.skipped.count += 1;
        listed.skipped.last = Some(skip);
    }

    /// Holds this run, in place of any other.
    pub(crate) async fn hold(&self, held: Option<HeldRun>) {
        self.listed.lock().await.held = held;
    }

    /// Takes away the held run if `it` is so.
    pub(crate) async fn let_go_if(&self, it: impl FnOnce(&HeldRun) -> bool) -> Option<HeldRun> {
        self.listed.lock().await.held.take_if(|held| it(held))
    }

    /// Says which publication is about to be served again, or that none is.
    pub(crate) async fn announce_rollback(&self, to: Option<u64>) {
        self.listed.lock().await.rollback = to;
    }
}
