//! The triggers that are not requests: the schedule, changed definitions, changed exclusions, the speed layer's state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_dataset::{Lease, Notes, Publication};
use anabranch_model::{Offset, OffsetRange};
use anabranch_view::View;
use chrono::Utc;

use super::requests::Requests;
use super::schedule::Schedule;
use crate::site::Site;
use crate::{Error, Trigger};

/// Sleeps are cut into pieces of this length, so that a clock that was set, or a laptop that slept, is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);
/// How soon after a run for the state budget the next may follow: the speed layer drops segments only some seconds after
/// a publication.
const STATE_BUDGET_PAUSE: Duration = Duration::from_secs(30);
/// How soon a failed run for changed definitions is tried again.
const DEFINITION_PAUSE: Duration = Duration::from_secs(60);
/// How soon a run for the same exclusions is asked for again when the one before was not published.
const EXCLUSIONS_PAUSE: Duration = Duration::from_secs(60);

/// Fires the schedule.
pub(crate) async fn schedule(requests: Arc<Requests>, schedule: Option<Schedule>) -> Result<(), Error> {
    let Some(schedule) = schedule else {
        return Ok(());
    };
    let mut next = schedule.next_after(Utc::now());
    while let Some(at) = next {
        let wait = (at - Utc::now()).to_std().unwrap_or_default();
        if wait.is_zero() {
            // Moments that passed while the process could not run come to one run, not to many.
            next = schedule.next_after(Utc::now());
            requests.ask(Trigger::Schedule).await;
            continue;
        }
        tokio::select! {
            biased;
            () = requests.shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait.min(LONGEST_SLEEP)) => {}
        }
    }
    Ok(())
}

/// Follows the definitions log, and asks for a run whenever the latest publication lacks views as they are defined now;
/// again after a failure.
pub(crate) async fn definitions(requests: Arc<Requests>) -> Result<(), Error> {
    let site = &requests.site;
    let environment = site.environment();
    let mut looked: Option<Looked> = None;
    loop {
        let newest = match site.definitions.newest().await {
            Ok(newest) => newest,
            Err(error) => {
                tracing::warn!(%error, "cannot follow the definitions log; trying again");
                site.definitions.known()
            }
        };
        let due = looked.as_ref().is_none_or(|looked| {
            looked.definition != newest.number || (looked.asked && environment.elapsed(looked.at) >= DEFINITION_PAUSE)
        });
        // A run that has begun may go by former definitions: whether it was enough is seen when it has ended.
        if due && !requests.board.is_busy().await {
            let mut asked = true;
            match site.publications.latest().await {
                Ok(publication) => {
                    let missing = missing_views(publication.as_ref(), &newest.views);
                    asked = !missing.is_empty();
                    if asked {
                        tracing::info!(views = ?missing, "the latest publication lacks views as they are defined now");
                        requests.ask(Trigger::Definition).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot read the latest publication"),
            }
            looked = Some(Looked {
                definition: newest.number,
                at: environment.instant(),
                asked,
            });
        }
        if !requests.next_look().await {
            return Ok(());
        }
    }
}

/// When the latest publication was compared with definitions, and whether that is to be done again.
struct Looked {
    definition: u64,
    at: Instant,
    asked: bool,
}

/// Watches what the speed layer says about its state.
pub(crate) async fn state_budget(requests: Arc<Requests>) -> Result<(), Error> {
    let site = &requests.site;
    let budget_bytes = site.settings.speed.state_budget.get();
    let environment = site.environment();
    let mut asked: Option<Instant> = None;
    while requests.next_look().await {
        if requests.board.is_busy().await {
            // The pause counts from the end of a run.
            asked = asked.map(|_| environment.instant());
            continue;
        }
        if asked.is_some_and(|at| environment.elapsed(at) < STATE_BUDGET_PAUSE) {
            continue;
        }
        match site.leases.list("speed").await {
            Ok(leases) => {
                if let Some((worker, state_bytes)) = over_budget(&leases, budget_bytes) {
                    tracing::info!(worker, state_bytes, budget_bytes, "realtime state is over its budget");
                    requests.ask(Trigger::StateBudget).await;
                    asked = Some(environment.instant());
                }
            }
            Err(error) => tracing::warn!(%error, "cannot read the speed layer's leases"),
        }
    }
    Ok(())
}

/// Watches for exclusions that the latest publication does not apply yet.
pub(crate) async fn exclusions(requests: Arc<Requests>) -> Result<(), Error> {
    let site = &requests.site;
    let environment = site.environment();
    let mut asked: Option<(Vec<String>, Instant)> = None;
    while requests.next_look().await {
        if requests.board.is_busy().await {
            continue;
        }
        let pending = match pending_exclusions(site).await {
            Ok(pending) => pending,
            Err(error) => {
                tracing::warn!(%error, "cannot compare exclusions with the latest publication");
                continue;
            }
        };
        let asked_before = asked
            .as_ref()
            .is_some_and(|(before, at)| *before == pending && environment.elapsed(*at) < EXCLUSIONS_PAUSE);
        if !pending.is_empty() && !asked_before {
            tracing::info!(changes = ?pending, "exclusions have changed since the latest publication");
            requests.ask(Trigger::Exclusions).await;
            asked = Some((pending, environment.instant()));
        }
    }
    Ok(())
}

/// What the latest publication counts though it is excluded, or leaves out though it no longer is, in words.
async fn pending_exclusions(site: &Site) -> Result<Vec<String>, Error> {
    let Some(publication) = site.publications.latest().await? else {
        return Ok(Vec::new());
    };
    let definitions = site.definitions.known();
    let sources: BTreeMap<_, _> = definitions
        .views
        .iter()
        .map(|view| (view.source().name.as_str(), view.source()))
        .collect();
    let mut pending = Vec::new();
    for (name, source) in sources {
        if let Some(dataset) = site.dataset(source).await? {
            let notes = dataset.notes().await?;
            pending.extend(changed_exclusions(&publication, name, &notes));
        }
    }
    Ok(pending)
}

fn changed_exclusions(publication: &Publication, source: &str, notes: &Notes) -> Vec<String> {
    let manifest = &publication.manifest;
    let nothing = Notes::default();
    let applied = manifest.notes.get(source).unwrap_or(&nothing);
    let cut = manifest.cuts.get(source).into_iter().flat_map(|cut| cut.next.iter());
    let changed = |(partition, next)| {
        let before_cut = OffsetRange::new(Offset(i64::MIN), next);
        let (is, was) = (notes.excluded_of(partition), applied.excluded_of(partition));
        let (is, was) = (is.within(before_cut), was.within(before_cut));
        (is != was).then(|| {
            format!(
                "{source}/{partition}: excluded {}; included {}",
                is.minus(&was),
                was.minus(&is)
            )
        })
    };
    cut.filter_map(changed).collect()
}

/// Views that an existing publication lacks, or has with another hash. Without any publication nothing is missing: realtime
/// state covers everything then.
fn missing_views<'v>(publication: Option<&Publication>, views: &'v [View]) -> Vec<&'v str> {
    let Some(publication) = publication else {
        return Vec::new();
    };
    let published = |view: &View| publication.manifest.views.get(view.name()).map(|batch| &batch.hash);
    views
        .iter()
        .filter(|view| published(view) != Some(view.hash()))
        .map(View::name)
        .collect()
}

/// The first worker over the budget, and its state in bytes.
fn over_budget(leases: &[Lease], budget_bytes: u64) -> Option<(&str, u64)> {
    leases.iter().find_map(|lease| {
        let state_bytes = lease.facts.get("state_bytes")?.as_u64()?;
        (state_bytes > budget_bytes).then_some((lease.id.as_str(), state_bytes))
    })
}

#[cfg(test)]
mod tests;
