//! Rollback: an earlier publication's batch views are published again, once the speed layer holds what lies behind their cut
//! (ARCHITECTURE.md, rule 5).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anabranch_dataset::Publication;
use anabranch_model::{Cut, OffsetVector, PartitionId};
use anabranch_realtime::SpeedWorker;

use super::{Outcome, Runner, until_stopped};
use crate::Error;
use crate::runs::record::LiveRun;
use crate::runs::results::{check_files, publication_of};
use crate::runs::task::Target;
use crate::site::Site;

/// How long the speed layer may take to fold what lies behind the old cut.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How often leases are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(crate) async fn execute(runner: &Runner, run: &Arc<LiveRun>, target: &Target) -> Result<Outcome, Error> {
    let rolled_back = roll_back(runner, run, target).await;
    // Gone with the run, however it ends. Workers look at leases before they look at publications, so none of them misses
    // the new one and drops what it was asked to hold.
    runner.board.announce_rollback(None).await;
    rolled_back.map(|publication| Outcome::Published(Box::new(publication)))
}

async fn roll_back(runner: &Runner, run: &Arc<LiveRun>, target: &Target) -> Result<Publication, Error> {
    let site = runner.site();
    let environment = site.environment();
    let (latest, to) = until_stopped(runner, run, async {
        let latest = site.publications.latest().await?;
        let latest =
            latest.ok_or_else(|| Error::Refused("nothing is published, so there is nothing to go back to".into()))?;
        let to = resolve(site, &latest, target).await?;
        if to.manifest.run_id == latest.manifest.run_id {
            return Err(Error::Refused(format!(
                "publication {} is of the same run as the one that is served",
                to.number
            )));
        }
        // From here on the lease pins its files.
        run.update(|record| {
            record.base = Some(to.manifest.run_id.clone());
            record.based_on = Some(latest.number);
            record.cuts = to.manifest.cuts.clone();
            record.reason = Some(format!("from publication {} back to {}", latest.number, to.number));
            record.groups = to.manifest.views.values().map(|view| view.groups).sum();
        });
        runner.lease.renew().await?;
        can_be_served(site, &to).await?;
        Ok((latest.number, to))
    })
    .await?;
    runner.board.announce_rollback(Some(to.number)).await;
    let began = environment.instant();
    until_stopped(runner, run, async {
        runner.lease.renew().await?;
        run.save(&site.runs).await;
        wait(site, to.number).await
    })
    .await?;
    run.timed("rebuild", environment.elapsed(began));
    let publication = site.publications.roll_back(latest, to.number).await?;
    tracing::info!(
        publication = publication.number,
        of = to.number,
        "an earlier publication is served again"
    );
    Ok(publication)
}

/// Refuses what would not give right answers, or none.
async fn can_be_served(site: &Site, to: &Publication) -> Result<(), Error> {
    for view in site.definitions.newest().await?.views.iter() {
        let published = to.manifest.views.get(view.name());
        if published.is_none_or(|published| published.hash != *view.hash()) {
            return Err(Error::Refused(format!(
                "publication {} does not hold view `{}` as it is defined now, which would have to be folded from all of \
                 history; start a run instead",
                to.number,
                view.name()
            )));
        }
        let cut = to.manifest.cuts.get(&view.source().name);
        if let Some(dataset) = site.dataset(view.source()).await?
            && let Some(partition) = expired_behind(cut, &dataset.notes().await?.since)
        {
            return Err(Error::Refused(format!(
                "events of {}/{partition} behind the cut of publication {} have expired, so answers would lack them",
                view.source().name,
                to.number
            )));
        }
    }
    for view in to.manifest.views.values() {
        check_files(&site.store, view).await?;
    }
    Ok(())
}

/// A partition of which rows behind the cut are gone.
fn expired_behind(cut: Option<&Cut>, since: &OffsetVector) -> Option<PartitionId> {
    let cut_of = |partition| cut.and_then(|cut| cut.next.get(partition));
    since
        .iter()
        .find(|(partition, since)| cut_of(*partition).is_none_or(|cut| cut < *since))
        .map(|(partition, _)| partition)
}

async fn resolve(site: &Site, latest: &Publication, target: &Target) -> Result<Publication, Error> {
    let missing = |number: u64| {
        Error::Refused(format!(
            "there is no publication {number}; GET /v1/batch/publications lists them"
        ))
    };
    match target {
        Target::Previous => {
            // The newest of another run: rolling back twice must not lead forward again.
            let mut number = latest.number;
            while number > 1 {
                number -= 1;
                let Some(publication) = site.publications.get(number).await? else {
                    break;
                };
                if publication.manifest.run_id < latest.manifest.run_id {
                    return Ok(publication);
                }
            }
            Err(Error::Refused(format!(
                "no earlier run than that of publication {} was published",
                latest.number
            )))
        }
        Target::Publication(number) => site.publications.get(*number).await?.ok_or_else(|| missing(*number)),
        Target::Run(run_id) => publication_of(&site.publications, run_id)
            .await?
            .ok_or_else(|| Error::Refused(format!("run `{run_id}` was never published"))),
    }
}

/// Waits until every live speed worker holds what publication `number` needs.
async fn wait(site: &Site, number: u64) -> Result<(), Error> {
    let environment = site.environment();
    let began = environment.instant();
    let mut told = BTreeSet::new();
    loop {
        let leases = site.leases.list("speed").await?;
        let workers: Vec<SpeedWorker> = leases.into_iter().map(SpeedWorker::of_lease).collect();
        let waiting: BTreeSet<String> = workers
            .iter()
            .filter(|worker| !worker.facts.holds.contains(&number))
            .map(|worker| worker.id.clone())
            .collect();
        if waiting.is_empty() {
            return Ok(());
        }
        if environment.elapsed(began) > PATIENCE {
            return Err(Error::Refused(format!(
                "speed workers {waiting:?} did not rebuild what lies behind the cut of publication {number} within {PATIENCE:?}"
            )));
        }
        if told != waiting {
            tracing::info!(workers = ?waiting, publication = number, "waiting until realtime state reaches back to the old cut");
            told = waiting;
        }
        environment.sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests;
