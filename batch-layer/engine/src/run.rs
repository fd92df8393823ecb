//! One batch run, from snapshot to publication.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_compute::{Plan, ViewState};
use anabranch_dataset::{BatchView, DataFile, Manifest, Notes, Publication, RowFilter, RunState};
use anabranch_model::{Cut, CutMap, ErrorKind};
use anabranch_view::View;

use crate::fetch::Fetch;
use crate::record::{LiveRun, rfc3339};
use crate::service::Shared;
use crate::{Error, recovery, write};

/// Read-ahead is a share of the memory budget, within these bounds.
const READ_AHEAD_BYTES: std::ops::RangeInclusive<u64> = (32 << 20)..=(256 << 20);

/// What a run reads of one source.
struct SourceInput {
    /// Those that hold rows to fold, in path order.
    files: Vec<DataFile>,
    rows: u64,
    /// Which of the rows count, by the notes of the snapshot.
    filter: Arc<RowFilter>,
}

/// Runs `run` to its end and records how it ended. Never fails: a failed run is a record like any other.
pub(crate) async fn execute(shared: &Shared, run: &Arc<LiveRun>) {
    let began = shared.store.environment().instant();
    run.update(|record| {
        record.state = RunState::Running;
        record.started_at = Some(rfc3339(shared.store.environment().now()));
    });
    shared.save(run).await;
    tracing::info!(run_id = run.run_id, trigger = run.record().trigger, "batch run starts");

    let outcome = to_publication(shared, run).await;
    run.timed("total", shared.store.environment().elapsed(began));
    let record = match outcome {
        Ok(publication) => {
            let record = run.update(|record| {
                record.state = RunState::Published;
                record.finished_at = Some(rfc3339(shared.store.environment().now()));
                record.publication = Some(publication.number);
            });
            tracing::info!(
                run_id = run.run_id,
                publication = publication.number,
                rows = record.rows,
                groups = record.groups,
                seconds = shared.store.environment().elapsed(began).as_secs_f64(),
                "batch run published"
            );
            record
        }
        Err(error) => {
            let message = with_sources(&error);
            tracing::error!(run_id = run.run_id, error = message, "batch run failed");
            if !matches!(error, Error::PublicationUnclear(_))
                && let Err(error) = recovery::remove_results(shared, &run.run_id).await
            {
                tracing::warn!(run_id = run.run_id, %error, "cannot remove the results of a failed run");
            }
            run.update(|record| {
                record.state = RunState::Failed;
                record.error = Some(message);
                record.finished_at = Some(rfc3339(shared.store.environment().now()));
            })
        }
    };
    let state = if record.state == RunState::Published {
        "published"
    } else {
        "failed"
    };
    metrics::counter!("anabranch_batch_runs_total", "state" => state, "trigger" => record.trigger.clone()).increment(1);
    metrics::histogram!("anabranch_batch_run_seconds", "state" => state)
        .record(shared.store.environment().elapsed(began).as_secs_f64());
    metrics::counter!("anabranch_batch_rows_total").increment(record.progress.rows_done);
    shared.save(run).await;
}

async fn to_publication(shared: &Shared, run: &Arc<LiveRun>) -> Result<Publication, Error> {
    // Up to here a shutdown may drop the work at any await; publishing is carried through.
    let computed = tokio::select! {
        biased;
        () = shared.shutdown.cancelled() => Err(Error::ShutDown),
        computed = compute(shared, run) => computed,
    };
    // Threads that still fold for a run that is given up notice this between two batches.
    run.control.cancel();
    let (based_on, manifest) = computed?;
    let began = shared.store.environment().instant();
    let publication = publish(shared, based_on, manifest).await;
    run.timed("publish", shared.store.environment().elapsed(began));
    publication
}

async fn compute(shared: &Shared, run: &Arc<LiveRun>) -> Result<(u64, Manifest), Error> {
    let started_at = rfc3339(shared.store.environment().now());
    let began = shared.store.environment().instant();
    // Read before the snapshot: a run that publishes in between then wins, and this one is told.
    let based_on = shared
        .publications
        .latest()
        .await?
        .map_or(0, |publication| publication.number);
    let mut by_source: BTreeMap<&str, Vec<View>> = BTreeMap::new();
    for view in shared.views.iter() {
        by_source.entry(&view.source().name).or_default().push(view.clone());
    }
    let mut cuts = CutMap::new();
    let mut inputs: BTreeMap<&str, SourceInput> = BTreeMap::new();
    let mut notes = BTreeMap::new();
    for (&name, views) in &by_source {
        let (cut, input, noted) = snapshot(shared, &views[0]).await?;
        if !noted.is_empty() {
            notes.insert(name.to_owned(), Notes::clone(&noted));
        }
        cuts.insert(name.to_owned(), cut);
        inputs.insert(name, input);
    }
    run.update(|record| {
        record.cuts = cuts.clone();
        record.progress.rows_total = inputs.values().map(|input| input.rows).sum();
        record.progress.bytes_total = inputs
            .values()
            .flat_map(|input| &input.files)
            .map(|file| file.bytes)
            .sum();
    });
    // Before the first byte is read, so that the speed layer keeps segments apart at these cuts.
    shared.lease.renew(shared).await?;
    run.timed("snapshot", shared.store.environment().elapsed(began));
    shared.save(run).await;

    let mut views = BTreeMap::new();
    for (name, source_views) in by_source {
        let input = inputs.remove(name).expect("every source was snapshotted above");
        for state in fold(shared, run, source_views, input).await? {
            let began = shared.store.environment().instant();
            let name = state.view().name().to_owned();
            let written = write::write_view(&shared.store, &run.run_id, state, write::PART_GROUPS).await?;
            run.timed("write", shared.store.environment().elapsed(began));
            views.insert(name, written);
        }
    }
    run.update(|record| {
        record.rows = record.progress.rows_total;
        record.groups = views.values().map(|view: &BatchView| view.groups).sum();
    });
    let finished_at = rfc3339(shared.store.environment().now());
    Ok((
        based_on,
        Manifest {
            run_id: run.run_id.clone(),
            started_at,
            finished_at,
            cuts,
            views,
            notes,
        },
    ))
}

/// The newest state of a view's source; nothing, and the empty cut, when nothing was ever landed.
async fn snapshot(shared: &Shared, view: &View) -> Result<(Cut, SourceInput, Arc<Notes>), Error> {
    let Some(dataset) = shared.dataset(view.source()).await? else {
        return Ok((
            Cut::default(),
            SourceInput {
                files: Vec::new(),
                rows: 0,
                filter: Arc::default(),
            },
            Arc::default(),
        ));
    };
    let snapshot = dataset.snapshot(None).await?;
    let filter = RowFilter::new(&snapshot.notes, None, None);
    let wanted = |file: &DataFile| !file.dead && !filter.is_none(file);
    let files: Vec<DataFile> = snapshot.files.into_iter().filter(wanted).collect();
    let rows = files.iter().map(|file| file.rows).sum();
    Ok((
        Cut {
            version: Some(snapshot.version),
            next: snapshot.next,
        },
        SourceInput {
            files,
            rows,
            filter: Arc::new(filter),
        },
        snapshot.notes,
    ))
}

async fn fold(
    shared: &Shared,
    run: &Arc<LiveRun>,
    views: Vec<View>,
    input: SourceInput,
) -> Result<Vec<ViewState>, Error> {
    let began = shared.store.environment().instant();
    let plan = Plan::new(views, input.rows)?;
    let budget_bytes = shared.settings.batch.memory_budget.get();
    let files = Fetch {
        objects: shared.store.objects().clone(),
        files: input.files,
        columns: plan.columns().into(),
        filter: input.filter,
        read_ahead_bytes: (budget_bytes / 8).clamp(*READ_AHEAD_BYTES.start(), *READ_AHEAD_BYTES.end()),
        folded_bytes: run.folded_bytes.clone(),
        shutdown: shared.shutdown.clone(),
        environment: shared.store.environment().clone(),
    }
    .start();
    let (kernel, control) = (shared.kernel.clone(), run.control.clone());
    let environment = shared.store.environment();
    let states = environment
        .offload_reading(files, move |files| kernel.fold(&plan, files, &control))
        .await
        .map_err(|error| Error::Task(format!("folding: {error}")))??;
    run.timed("fold", shared.store.environment().elapsed(began));
    Ok(states)
}

/// Publishes, and settles what an unclear answer of the store left open.
async fn publish(shared: &Shared, based_on: u64, manifest: Manifest) -> Result<Publication, Error> {
    let run_id = manifest.run_id.clone();
    match shared.publications.publish(based_on, manifest).await {
        Ok(publication) => Ok(publication),
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            match recovery::publication_of(&shared.publications, &run_id).await {
                Ok(Some(publication)) => Ok(publication),
                _ => Err(Error::PublicationUnclear(error)),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// The message of an error and of what caused it.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Some messages quote their cause already.
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    message
}
