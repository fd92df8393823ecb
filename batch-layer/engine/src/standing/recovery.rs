//! What a process that died left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anabranch_dataset::{Publication, Publications, RunKind, RunRecord, RunState};
use anabranch_runtime::Shutdown;
use tokio::sync::Mutex;

use super::leader::Leadership;
use super::lease::{KIND, LeaseKeeper};
use crate::Error;
use crate::runs::failures;
use crate::runs::record::{is_under_way, rfc3339};
use crate::runs::results::{publication_of, remove_results};
use crate::site::Site;

/// How far back interrupted runs are looked for; older ones were settled by an earlier start.
const LATEST_RUNS: usize = 1000;
const INTERRUPTED: &str = "the process that ran it ended before it was finished";

/// Between two looks at which runs other services hold.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Ends the runs of processes that have died.
pub(crate) struct Recovery {
    site: Arc<Site>,
    lease: Arc<LeaseKeeper>,
    interrupted: Mutex<Interrupted>,
}

impl Recovery {
    pub(crate) fn new(site: &Arc<Site>, lease: &Arc<LeaseKeeper>) -> Self {
        Self {
            site: Arc::clone(site),
            lease: Arc::clone(lease),
            interrupted: Mutex::default(),
        }
    }

    /// Settles runs that are recorded as queued or running but belong to no living process: published if their publication is
    /// there after all, failed otherwise. What a process has held that died a moment ago looks alive until its lease has
    /// expired, and is for [`keep_settling`].
    pub(crate) async fn settle_interrupted(&self) -> Result<(), Error> {
        let mut interrupted = self.interrupted.lock().await;
        interrupted.held = self.runs_of_others().await?;
        let mut records = self.site.runs.list(LATEST_RUNS).await?;
        for record in &mut records {
            if is_under_way(record) && !interrupted.held.contains(&record.run_id) {
                *record = interrupted.settle(&self.site, record.clone()).await?;
            }
        }
        failures::count(&records);
        Ok(())
    }

    async fn look(&self) -> Result<(), Error> {
        let mut interrupted = self.interrupted.lock().await;
        let holding = self.runs_of_others().await?;
        interrupted.look(&self.site, holding).await
    }

    /// Run ids that other living batch services hold. Our own former lease may still look alive after a quick restart.
    async fn runs_of_others(&self) -> Result<BTreeSet<String>, Error> {
        let leases = self.site.leases.list(KIND).await?;
        let others = leases.into_iter().filter(|lease| !self.lease.is_own(lease));
        Ok(others.flat_map(|lease| run_ids(&lease.facts)).collect())
    }
}

/// Settles the runs of others whose leases expire, until shutdown.
pub(crate) async fn keep_settling(
    recovery: Arc<Recovery>,
    leadership: Arc<Leadership>,
    shutdown: Shutdown,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = recovery.site.environment().sleep(LOOK_EVERY) => {}
        }
        // Whoever leads next begins with a look of its own.
        if leadership.is_leader()
            && let Err(error) = recovery.look().await
        {
            tracing::warn!(%error, "cannot look for interrupted batch runs; trying again");
        }
    }
}

/// Runs of other processes, dead or alive.
#[derive(Debug, Default)]
struct Interrupted {
    /// Held by others, by their leases, at the last look.
    held: BTreeSet<String>,
    /// Runs that were recorded as failed, and the latest publication of that moment. The process may have been paused rather
    /// than dead, or its last request still be on its way, and then the publication appears yet: state files stay until a
    /// later publication makes that impossible (ARCHITECTURE.md, rule 12).
    given_up: BTreeMap<String, u64>,
}

impl Interrupted {
    async fn look(&mut self, site: &Site, holding: BTreeSet<String>) -> Result<(), Error> {
        let let_go: Vec<String> = self.held.difference(&holding).cloned().collect();
        for run_id in let_go {
            // Whoever ended it in order has recorded that before letting go of it.
            if let Some(record) = site.runs.get(&run_id).await?.filter(is_under_way) {
                failures::note_end(&self.settle(site, record).await?);
            }
        }
        self.held = holding;
        if self.given_up.is_empty() {
            return Ok(());
        }
        let latest = site.latest_number().await?;
        let barred = |(_, settled_at): &(&String, &u64)| **settled_at < latest;
        let barred: Vec<String> = self.given_up.iter().filter(barred).map(|(id, _)| id.clone()).collect();
        for run_id in barred {
            remove_results(site, &run_id).await?;
            self.given_up.remove(&run_id);
        }
        Ok(())
    }

    async fn settle(&mut self, site: &Site, record: RunRecord) -> Result<RunRecord, Error> {
        let publication = outcome_of(&site.publications, &record).await?;
        let settled = settle(record, publication.as_ref(), &rfc3339(site.environment().now()));
        tracing::warn!(run_id = settled.run_id, state = ?settled.state, "settled an interrupted batch run");
        site.runs.put(&settled).await?;
        // Before it has recorded its cuts, a run has written nothing, and not yet read which publication it is based on.
        if settled.state == RunState::Failed && !settled.cuts.is_empty() {
            let latest = site.latest_number().await?;
            self.given_up.insert(settled.run_id.clone(), latest);
        }
        Ok(settled)
    }
}

/// What an interrupted run published, if it came that far.
async fn outcome_of(publications: &Publications, record: &RunRecord) -> Result<Option<Publication>, Error> {
    let Some(based_on) = record.based_on else {
        return publication_of(publications, &record.run_id).await;
    };
    // A rollback publishes the manifest of another run again.
    let of = match record.kind {
        RunKind::Rollback => record.base.as_ref(),
        RunKind::Run | RunKind::Verify => Some(&record.run_id),
    };
    let next = publications.get(based_on + 1).await?;
    Ok(next.filter(|publication| Some(&publication.manifest.run_id) == of))
}

/// How an interrupted run is recorded in the end.
fn settle(mut record: RunRecord, publication: Option<&Publication>, now: &str) -> RunRecord {
    record.finished_at.get_or_insert_with(|| now.to_owned());
    match publication {
        Some(publication) => {
            record.state = RunState::Published;
            record.publication = Some(publication.number);
            record.cuts = publication.manifest.cuts.clone();
            record.groups = publication.manifest.views.values().map(|view| view.groups).sum();
        }
        None => {
            record.state = RunState::Failed;
            record.error = Some(INTERRUPTED.to_owned());
        }
    }
    record
}

fn run_ids(facts: &serde_json::Value) -> Vec<String> {
    let list = |key: &str| {
        facts
            .get(key)
            .and_then(serde_json::Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let running = list("running")
        .into_iter()
        .filter_map(|run| Some(run.get("run_id")?.as_str()?.to_owned()));
    running
        .chain(
            list("queued")
                .into_iter()
                .filter_map(|run| Some(run.as_str()?.to_owned())),
        )
        .collect()
}

#[cfg(test)]
mod tests;
