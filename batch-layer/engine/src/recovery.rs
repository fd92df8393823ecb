//! What a process that died, or a run that failed, left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anabranch_dataset::{Publication, Publications, RunKind, RunRecord, RunState, Runs};
use anabranch_model::crash_point;
use chrono::{TimeDelta, Utc};

use crate::Error;
use crate::lease::KIND;
use crate::record::rfc3339;
use crate::service::Shared;

/// How far back interrupted runs are looked for; older ones were settled by an earlier start.
const LATEST_RUNS: usize = 1000;
const FAILED_IN_A_ROW: &str = "anabranch_batch_failed_in_a_row";
const INTERRUPTED: &str = "the process that ran it ended before it was finished";

/// Between two looks at which runs other services hold.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Settles runs that are recorded as queued or running but belong to no living process: published if their publication is
/// there after all, failed otherwise. What a process has held that died a moment ago looks alive until its lease has expired,
/// and is for [`keep_settling`].
pub(crate) async fn settle_interrupted(shared: &Shared) -> Result<(), Error> {
    let mut interrupted = shared.interrupted.lock().await;
    interrupted.held = runs_of_others(shared).await?;
    let mut records = shared.runs.list(LATEST_RUNS).await?;
    for record in &mut records {
        if is_under_way(record) && !interrupted.held.contains(&record.run_id) {
            *record = interrupted.settle(shared, record.clone()).await?;
        }
    }
    metrics::gauge!(FAILED_IN_A_ROW).set(failed_in_a_row(&records) as f64);
    Ok(())
}

/// Counts a run that has ended among the failures, or ends their row.
pub(crate) fn note_end(record: &RunRecord) {
    match record.state {
        RunState::Failed => metrics::gauge!(FAILED_IN_A_ROW).increment(1.0),
        _ => metrics::gauge!(FAILED_IN_A_ROW).set(0.0),
    }
}

/// Whoever leads instead counts the failures.
pub(crate) fn forget_failures() {
    metrics::gauge!(FAILED_IN_A_ROW).set(0.0);
}

/// How many runs failed since one ended well, of records with the newest first.
fn failed_in_a_row(records: &[RunRecord]) -> usize {
    records
        .iter()
        .filter(|record| record.kind == RunKind::Run && !is_under_way(record))
        .take_while(|record| record.state == RunState::Failed)
        .count()
}

/// Settles the runs of others whose leases expire, until shutdown.
pub(crate) async fn keep_settling(shared: Arc<Shared>) -> Result<(), Error> {
    loop {
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => return Ok(()),
            () = shared.store.environment().sleep(LOOK_EVERY) => {}
        }
        // Whoever leads next begins with a look of its own.
        if shared.leadership.is_leader()
            && let Err(error) = shared.interrupted.lock().await.look(&shared).await
        {
            tracing::warn!(%error, "cannot look for interrupted batch runs; trying again");
        }
    }
}

/// Whether a process must be there for the run to go on.
fn is_under_way(record: &RunRecord) -> bool {
    !record.state.is_final() && record.state != RunState::Held
}

/// Runs of other processes, dead or alive.
#[derive(Debug, Default)]
pub(crate) struct Interrupted {
    /// Held by others, by their leases, at the last look.
    held: BTreeSet<String>,
    /// Runs that were recorded as failed, and the latest publication of that moment. The process may have been paused rather
    /// than dead, or its last request still be on its way, and then the publication appears yet: state files stay until a
    /// later publication makes that impossible (ARCHITECTURE.md, rule 12).
    given_up: BTreeMap<String, u64>,
}

impl Interrupted {
    async fn look(&mut self, shared: &Shared) -> Result<(), Error> {
        let holding = runs_of_others(shared).await?;
        let let_go: Vec<String> = self.held.difference(&holding).cloned().collect();
        for run_id in let_go {
            // Whoever ended it in order has recorded that before letting go of it.
            if let Some(record) = shared.runs.get(&run_id).await?.filter(is_under_way) {
                let settled = self.settle(shared, record).await?;
                if settled.kind == RunKind::Run {
                    note_end(&settled);
                }
            }
        }
        self.held = holding;
        if self.given_up.is_empty() {
            return Ok(());
        }
        let latest = latest_number(shared).await?;
        let barred = |(_, settled_at): &(&String, &u64)| **settled_at < latest;
        let barred: Vec<String> = self.given_up.iter().filter(barred).map(|(id, _)| id.clone()).collect();
        for run_id in barred {
            remove_results(shared, &run_id).await?;
            self.given_up.remove(&run_id);
        }
        Ok(())
    }

    async fn settle(&mut self, shared: &Shared, record: RunRecord) -> Result<RunRecord, Error> {
        let publication = outcome_of(&shared.publications, &record).await?;
        let settled = settle(record, publication.as_ref(), &rfc3339(shared.store.environment().now()));
        tracing::warn!(run_id = settled.run_id, state = ?settled.state, "settled an interrupted batch run");
        shared.runs.put(&settled).await?;
        // Before it has recorded its cuts, a run has written nothing, and not yet read which publication it is based on.
        if settled.state == RunState::Failed && !settled.cuts.is_empty() {
            let latest = latest_number(shared).await?;
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

async fn latest_number(shared: &Shared) -> Result<u64, Error> {
    Ok(shared.publications.latest().await?.map_or(0, |latest| latest.number))
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

/// Run ids that other living batch services hold. Our own former lease may still look alive after a quick restart.
async fn runs_of_others(shared: &Shared) -> Result<BTreeSet<String>, Error> {
    let leases = shared.leases.list(KIND).await?;
    let facts = leases
        .into_iter()
        .filter(|lease| !shared.lease.is_own(lease))
        .map(|lease| lease.facts);
    Ok(facts.flat_map(|facts| run_ids(&facts)).collect())
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

/// The publication of a run, if there is one by now. Run ids sort by time, so the log need only be read back to where it is
/// older than the run. It is not listed: a listing may be behind.
pub(crate) async fn publication_of(publications: &Publications, run_id: &str) -> Result<Option<Publication>, Error> {
    let newest = publications.latest().await?.map_or(0, |newest| newest.number);
    for number in (1..=newest).rev() {
        let Some(publication) = publications.get(number).await? else {
            continue;
        };
        if publication.manifest.run_id == run_id {
            return Ok(Some(publication));
        }
        if is_older(&publication, run_id) {
            break;
        }
    }
    Ok(None)
}

/// How far the clocks of machines that publish may be apart.
const CLOCKS_APART: TimeDelta = TimeDelta::hours(1);

/// Whether the publication was made before the run was created, by whatever clock either was timed.
fn is_older(publication: &Publication, run_id: &str) -> bool {
    let Ok(published_at) = publication.published_at.parse::<chrono::DateTime<Utc>>() else {
        return false;
    };
    let latest = (published_at + CLOCKS_APART).format("%Y%m%dT%H%M%SZ").to_string();
    latest.as_str() < run_id.split('-').next().unwrap_or(run_id)
}

/// Removes a failed run's state files; its record stays. Only for runs that have not tried to publish, or were told that
/// another one was first, or that another one has overtaken: from any other a publication may yet appear. Does nothing if one refers to the run.
pub(crate) async fn remove_results(shared: &Shared, run_id: &str) -> Result<(), Error> {
    if publication_of(&shared.publications, run_id).await?.is_some() {
        return Ok(());
    }
    let folder = Runs::folder(run_id);
    let found = shared.store.list(&folder).await?;
    for object in found {
        if object.location.extension() != Some("parquet") {
            continue;
        }
        crash_point!("run.remove_results.before");
        shared.store.remove(object.location).await?;
        crash_point!("run.remove_results.after");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
