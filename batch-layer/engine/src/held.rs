//! Runs that were held back because they differ from what was served: kept, published or discarded.

use anabranch_dataset::{BatchView, Publication, RunManifest, RunRecord, RunState};
use anabranch_model::CutMap;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::record::rfc3339;
use crate::service::Shared;
use crate::{Error, recovery, run};

/// How far back held runs are looked for.
const LATEST_RUNS: usize = 1000;

/// The run that may still be published.
#[derive(Clone, Debug)]
pub(crate) struct HeldRun {
    pub(crate) run_id: String,
    pub(crate) based_on: u64,
    pub(crate) cuts: CutMap,
}

/// Remembers a held run, so that the lease keeps its cuts and files.
pub(crate) async fn keep(shared: &Shared, computed: &RunManifest) {
    let held = HeldRun {
        run_id: computed.manifest.run_id.clone(),
        based_on: computed.based_on,
        cuts: computed.manifest.cuts.clone(),
    };
    tracing::warn!(
        run_id = held.run_id,
        "the run differs from what was served and is held; `anabranch runs show` tells how, `runs publish` or `runs discard` ends it"
    );
    shared.board.lock().await.held = Some(held);
}

/// Finds the run that a former process held and that may still be published; what can no longer be is discarded.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn recall(shared: &Shared) -> Result<(), Error> {
    let latest = shared
        .publications
        .latest()
        .await?
        .map_or(0, |publication| publication.number);
    let mut found = None;
    for mut record in shared.runs.list(LATEST_RUNS).await? {
        if record.state != RunState::Held {
            continue;
        }
        // The process may have ended between the publication and its record.
        if let Some(publication) = recovery::publication_of(&shared.publications, &record.run_id).await? {
            record.state = RunState::Published;
            record.publication = Some(publication.number);
            shared.runs.put(&record).await?;
            continue;
        }
        match shared.runs.get_manifest(&record.run_id).await? {
            Some(computed) if computed.based_on == latest && found.is_none() => {
                found = Some(HeldRun {
                    run_id: record.run_id,
                    based_on: latest,
                    cuts: computed.manifest.cuts,
                });
            }
            _ => end(shared, record, "another run was published meanwhile").await?,
        }
    }
    shared.board.lock().await.held = found;
    Ok(())
}

/// Publishes a held run, if nothing was published since it was computed.
///
/// # Errors
/// `Conflict` when the run is not held, or is based on an older publication.
pub(crate) async fn publish(shared: &Shared, run_id: &str) -> Result<Publication, Error> {
    let (mut record, computed) = held(shared, run_id).await?;
    for view in computed.manifest.views.values() {
        check_files(shared, view).await?;
    }
    let publication = run::publish(shared, computed).await?;
    record.state = RunState::Published;
    record.publication = Some(publication.number);
    shared.runs.put(&record).await?;
    tracing::info!(run_id, publication = publication.number, "held batch run published");
    discard_outdated(shared).await;
    Ok(publication)
}

/// Discards a held run and its state files.
///
/// # Errors
/// `Conflict` when the run is not held.
pub(crate) async fn discard(shared: &Shared, run_id: &str) -> Result<RunRecord, Error> {
    let (record, _) = held(shared, run_id).await?;
    end(shared, record, "discarded by hand").await?;
    let mut board = shared.board.lock().await;
    board.held.take_if(|held| held.run_id == run_id);
    drop(board);
    shared.find(run_id).await
}

/// Discards a held run that a newer publication has overtaken.
pub(crate) async fn discard_outdated(shared: &Shared) {
    let outdated = async {
        let latest = shared
            .publications
            .latest()
            .await?
            .map_or(0, |publication| publication.number);
        let outdated = shared.board.lock().await.held.take_if(|held| held.based_on != latest);
        let Some(outdated) = outdated else { return Ok(()) };
        match shared.runs.get(&outdated.run_id).await? {
            Some(record) if record.state == RunState::Held => {
                end(shared, record, "another run was published meanwhile").await
            }
            _ => Ok(()),
        }
    };
    if let Err(error) = outdated.await {
        let error: Error = error;
        tracing::warn!(%error, "cannot discard a held run that was overtaken");
    }
}

async fn held(shared: &Shared, run_id: &str) -> Result<(RunRecord, RunManifest), Error> {
    let record = shared.find(run_id).await?;
    if record.state != RunState::Held {
        return Err(Error::NotHeld {
            run_id: run_id.to_owned(),
            state: record.state,
        });
    }
    let computed = shared.runs.get_manifest(run_id).await?;
    let computed = computed.ok_or_else(|| Error::Gone(format!("the manifest of run {run_id}")))?;
    Ok((record, computed))
}

async fn end(shared: &Shared, mut record: RunRecord, why: &str) -> Result<(), Error> {
    record.state = RunState::Discarded;
    record.error = Some(why.to_owned());
    record
        .finished_at
        .get_or_insert_with(|| rfc3339(shared.store.environment().now()));
    // First the record: a run without files must not be taken for one that can be published.
    shared.runs.put(&record).await?;
    recovery::remove_results(shared, &record.run_id).await?;
    tracing::info!(run_id = record.run_id, why, "held batch run discarded");
    Ok(())
}

/// Whether a batch view's files are all there: it must not be published without.
pub(crate) async fn check_files(shared: &Shared, view: &BatchView) -> Result<(), Error> {
    for file in &view.files {
        let path = Path::parse(&file.path).map_err(|error| Error::Gone(format!("{}: {error}", file.path)))?;
        match shared.store.objects().head(&path).await {
            Ok(found) if found.size == file.bytes => {}
            Ok(found) => {
                return Err(Error::Gone(format!(
                    "{path} has {} bytes and not the {} that the manifest names",
                    found.size, file.bytes
                )));
            }
            Err(object_store::Error::NotFound { .. }) => return Err(Error::Gone(path.to_string())),
            Err(source) => {
                return Err(Error::Fetch {
                    path: path.to_string(),
                    source,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
