//! Runs that were held back because they differ from what was served: kept, published or discarded.

use anabranch_dataset::{Publication, RunManifest, RunRecord, RunState};

use super::board::{Board, HeldRun};
use super::record::rfc3339;
use super::results::{self, check_files, publication_of, remove_results};
use crate::Error;
use crate::site::Site;

/// How far back held runs are looked for.
const LATEST_RUNS: usize = 1000;

/// Remembers a held run, so that the lease keeps its cuts and files.
pub(crate) async fn keep(board: &Board, computed: &RunManifest) {
    let held = HeldRun {
        run_id: computed.manifest.run_id.clone(),
        based_on: computed.based_on,
        cuts: computed.manifest.cuts.clone(),
    };
    tracing::warn!(
        run_id = held.run_id,
        "the run differs from what was served and is held; `anabranch runs show` tells how, `runs publish` or `runs discard` ends it"
    );
    board.hold(Some(held)).await;
}

/// Finds the run that a former process held and that may still be published; what can no longer be is discarded.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn recall(site: &Site, board: &Board) -> Result<(), Error> {
    let latest = site.latest_number().await?;
    let mut found = None;
    for mut record in site.runs.list(LATEST_RUNS).await? {
        if record.state != RunState::Held {
            continue;
        }
        // The process may have ended between the publication and its record.
        if let Some(publication) = publication_of(&site.publications, &record.run_id).await? {
            record.state = RunState::Published;
            record.publication = Some(publication.number);
            site.runs.put(&record).await?;
            continue;
        }
        match site.runs.get_manifest(&record.run_id).await? {
            Some(computed) if computed.based_on == latest && found.is_none() => {
                found = Some(HeldRun {
                    run_id: record.run_id,
                    based_on: latest,
                    cuts: computed.manifest.cuts,
                });
            }
            _ => end(site, record, "another run was published meanwhile").await?,
        }
    }
    board.hold(found).await;
    Ok(())
}

/// Publishes a held run, if nothing was published since it was computed.
///
/// # Errors
/// `Conflict` when the run is not held, or is based on an older publication.
pub(crate) async fn publish(site: &Site, board: &Board, run_id: &str) -> Result<Publication, Error> {
    let (mut record, computed) = held(site, board, run_id).await?;
    for view in computed.manifest.views.values() {
        check_files(&site.store, view).await?;
    }
    let publication = results::publish(&site.publications, computed).await?;
    record.state = RunState::Published;
    record.publication = Some(publication.number);
    site.runs.put(&record).await?;
    tracing::info!(run_id, publication = publication.number, "held batch run published");
    discard_outdated(site, board).await;
    Ok(publication)
}

/// Discards a held run and its state files.
///
/// # Errors
/// `Conflict` when the run is not held.
pub(crate) async fn discard(site: &Site, board: &Board, run_id: &str) -> Result<RunRecord, Error> {
    let (record, _) = held(site, board, run_id).await?;
    end(site, record, "discarded by hand").await?;
    board.let_go_if(|held| held.run_id == run_id).await;
    board.find(run_id, &site.runs).await
}

/// Discards a held run that a newer publication has overtaken.
pub(crate) async fn discard_outdated(site: &Site, board: &Board) {
    let outdated = async {
        let latest = site.latest_number().await?;
        let outdated = board.let_go_if(|held| held.based_on != latest).await;
        let Some(outdated) = outdated else { return Ok(()) };
        match site.runs.get(&outdated.run_id).await? {
            Some(record) if record.state == RunState::Held => {
                end(site, record, "another run was published meanwhile").await
            }
            _ => Ok(()),
        }
    };
    if let Err(error) = outdated.await {
        let error: Error = error;
        tracing::warn!(%error, "cannot discard a held run that was overtaken");
    }
}

async fn held(site: &Site, board: &Board, run_id: &str) -> Result<(RunRecord, RunManifest), Error> {
    let record = board.find(run_id, &site.runs).await?;
    if record.state != RunState::Held {
        return Err(Error::NotHeld {
            run_id: run_id.to_owned(),
            state: record.state,
        });
    }
    let computed = site.runs.get_manifest(run_id).await?;
    let computed = computed.ok_or_else(|| Error::Gone(format!("the manifest of run {run_id}")))?;
    Ok((record, computed))
}

async fn end(site: &Site, mut record: RunRecord, why: &str) -> Result<(), Error> {
    record.state = RunState::Discarded;
    record.error = Some(why.to_owned());
    record
        .finished_at
        .get_or_insert_with(|| rfc3339(site.environment().now()));
    // First the record: a run without files must not be taken for one that can be published.
    site.runs.put(&record).await?;
    remove_results(site, &record.run_id).await?;
    tracing::info!(run_id = record.run_id, why, "held batch run discarded");
    Ok(())
}

#[cfg(test)]
mod tests;
