//! One batch run, from snapshot to publication.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_compute::ViewState;
use anabranch_dataset::{BatchView, Diff, Manifest, Notes, Publication, RunKind, RunManifest, RunState};
use anabranch_model::{CutMap, ErrorKind, with_causes};
use anabranch_runtime::{BatchMode, OnDiff};
use anabranch_view::View;

use crate::diff::{Computed, compare_view, expected, is_alarming};
use crate::input::{Rows, SourceInput, fold, stored};
use crate::plan::{Facts, RunPlan, ViewFact, plan};
use crate::record::{LiveRun, Task, rfc3339};
use crate::service::Shared;
use crate::{Error, held, recovery, rollback, verify, write};

/// How a run ended well.
pub(crate) enum Outcome {
    Published(Box<Publication>),
    /// It waits to be published or discarded.
    Held,
    /// It compared, and that was all it was for.
    Compared,
}

/// Runs `run` to its end and records how it ended. Never fails: a failed run is a record like any other.
pub(crate) async fn execute(shared: &Shared, run: &Arc<LiveRun>) {
    let environment = shared.store.environment();
    let began = environment.instant();
    run.update(|record| {
        record.state = RunState::Running;
        record.started_at = Some(rfc3339(environment.now()));
    });
    shared.save(run).await;
    tracing::info!(run_id = run.run_id, trigger = run.record().trigger, "batch run starts");

    // Up to the publication, which is carried through, a shutdown may drop the work at any await.
    let outcome = match &run.task {
        Task::Run => to_publication(shared, run).await,
        Task::Rollback { to } => rollback::execute(shared, run, to).await,
        Task::Verify { views } => verify::execute(shared, run, views).await,
    };
    let took = environment.elapsed(began);
    run.timed("total", took);
    let failed = outcome.as_ref().err().map(|error| with_causes(error));
    if let Some(error) = &failed {
        tracing::error!(run_id = run.run_id, error, "batch run failed");
        if !matches!(outcome, Err(Error::PublicationUnclear(_)))
            && let Err(error) = recovery::remove_results(shared, &run.run_id).await
        {
            tracing::warn!(run_id = run.run_id, %error, "cannot remove the results of a failed run");
        }
    }
    let record = run.update(|record| {
        record.finished_at = Some(rfc3339(environment.now()));
        record.error = failed;
        record.state = match &outcome {
            Ok(Outcome::Published(publication)) => {
                record.publication = Some(publication.number);
                RunState::Published
            }
            Ok(Outcome::Held) => RunState::Held,
            Ok(Outcome::Compared) => RunState::Compared,
            Err(_) => RunState::Failed,
        };
    });
    if record.error.is_none() {
        tracing::info!(
            run_id = run.run_id,
            state = ?record.state,
            publication = record.publication,
            rows = record.rows,
            groups = record.groups,
            seconds = took.as_secs_f64(),
            "batch run ended"
        );
    }
    let state = match record.state {
        RunState::Published => "published",
        RunState::Held => "held",
        RunState::Compared => "compared",
        _ => "failed",
    };
    if let Some(mut span) = anabranch_trace::Span::of_own_accord("batch run", took) {
        span.text("anabranch.run", run.run_id.as_str());
        span.text("anabranch.trigger", record.trigger.as_str());
        span.whole("anabranch.events", i64::try_from(record.rows).unwrap_or(i64::MAX));
        if let Some(error) = &record.error {
            span.failed(error.as_str());
        }
    }
    metrics::counter!("anabranch_batch_runs_total", "state" => state, "trigger" => record.trigger.clone()).increment(1);
    metrics::histogram!("anabranch_batch_run_seconds", "state" => state).record(took.as_secs_f64());
    if run.task == Task::Run {
        recovery::note_end(&record);
    }
    metrics::counter!("anabranch_batch_rows_total").increment(record.progress.rows_done);
    shared.save(run).await;
    if record.state == RunState::Published {
        held::discard_outdated(shared).await;
    }
}

/// Runs `work` unless the service stops or is no longer the one that runs batch runs.
pub(crate) async fn until_stopped<T>(
    shared: &Shared,
    run: &LiveRun,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let done = tokio::select! {
        biased;
        () = shared.shutdown.cancelled() => Err(Error::ShutDown),
        () = shared.leadership.lost() => Err(Error::LostLeadership),
        done = work => done,
    };
    // Threads that still fold for a run that is given up notice this between two batches.
    run.control.cancel();
    done
}

async fn to_publication(shared: &Shared, run: &Arc<LiveRun>) -> Result<Outcome, Error> {
    let (computed, held) = until_stopped(shared, run, compute(shared, run)).await?;
    if held {
        held::keep(shared, &computed).await;
        return Ok(Outcome::Held);
    }
    let began = shared.store.environment().instant();
    let publication = publish(shared, computed).await;
    run.timed("publish", shared.store.environment().elapsed(began));
    publication.map(|publication| Outcome::Published(Box::new(publication)))
}

/// What to fold of one source.
struct Fold {
    views: Vec<View>,
    rows: Rows,
    on_base: bool,
}

/// Computes, writes and compares all views; returns what to publish, and whether to hold it back.
async fn compute(shared: &Shared, run: &Arc<LiveRun>) -> Result<(RunManifest, bool), Error> {
    let environment = shared.store.environment();
    let started_at = rfc3339(environment.now());
    let began = environment.instant();
    // Read before the snapshot: a run that publishes in between then wins, and this one is told.
    let served = shared.publications.latest().await?;
    let based_on = served.as_ref().map_or(0, |publication| publication.number);
    let base = served.as_ref().map(|publication| &publication.manifest);
    let definitions = shared.definitions.newest().await?;
    let sources = snapshots(shared, &definitions.views).await?;
    let plan = plan(&Facts {
        mode: shared.settings.batch.mode,
        full_every: shared.settings.batch.full_every,
        full_requested: run.is_full_requested(),
        base,
        base_lacks: base_lacks(shared, base).await?,
        sources: sources
            .iter()
            .map(|(name, source)| (name.as_str(), (&source.cut, &*source.notes)))
            .collect(),
        views: definitions.views.iter().map(view_fact).collect(),
    });
    let cuts = cuts(&sources);
    let folds = folds(&definitions.views, &sources, &plan, base);
    run.update(|record| {
        record.cuts = cuts.clone();
        record.mode = plan.mode;
        record.base = plan.base.clone();
        record.based_on = Some(based_on);
        record.reason = plan.reason.clone();
        record.progress.rows_total = folds.iter().map(|fold| fold.rows.rows).sum();
        record.progress.bytes_total = folds.iter().map(|fold| fold.rows.bytes).sum();
    });
    // Before the first byte is read, so that the speed layer keeps segments apart at these cuts.
    shared.lease.renew(shared).await?;
    run.timed("snapshot", environment.elapsed(began));
    shared.save(run).await;

    let mut views = BTreeMap::new();
    for Fold {
        views: folded,
        rows,
        on_base,
    } in folds
    {
        for state in fold(shared, run, folded, rows).await? {
            let began = environment.instant();
            let view = state.view().clone();
            let state = match base.and_then(|base| base.views.get(view.name())).filter(|_| on_base) {
                Some(written) => with_base(shared, state, written).await,
                None => state,
            };
            let written = write::write_view(&shared.store, &run.run_id, state, write::PART_GROUPS).await?;
            run.timed("write", environment.elapsed(began));
            views.insert(view.name().to_owned(), written);
        }
    }
    run.update(|record| {
        record.rows = record.progress.rows_total;
        record.groups = views.values().map(|view: &BatchView| view.groups).sum();
    });

    let diff = compare(shared, run, (&definitions.views, &views), served.as_ref(), &sources).await;
    let hold = shared.settings.batch.on_diff == OnDiff::Hold && is_alarming(&diff);
    run.update(|record| record.diff = Some(diff));
    shared.save(run).await;

    let notes = sources.iter().filter(|(_, source)| !source.notes.is_empty());
    let manifest = Manifest {
        run_id: run.run_id.clone(),
        started_at,
        finished_at: rfc3339(environment.now()),
        cuts,
        views,
        notes: notes
            .map(|(name, source)| (name.clone(), Notes::clone(&source.notes)))
            .collect(),
        mode: plan.mode,
        base: plan.base,
        chain: plan.chain,
    };
    let computed = RunManifest { based_on, manifest };
    shared.runs.put_manifest(&computed).await?;
    Ok((computed, hold))
}

/// A state file that an incremental run would miss.
async fn base_lacks(shared: &Shared, base: Option<&Manifest>) -> Result<Option<String>, Error> {
    let Some(base) = base.filter(|_| shared.settings.batch.mode == BatchMode::Incremental) else {
        return Ok(None);
    };
    for view in base.views.values() {
        match held::check_files(shared, view).await {
            Ok(()) => {}
            Err(Error::Gone(file)) => return Ok(Some(file)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The newest state of the sources that `views` read, by name.
pub(crate) async fn snapshots(shared: &Shared, views: &[View]) -> Result<BTreeMap<String, SourceInput>, Error> {
    let mut sources = BTreeMap::new();
    for view in views {
        let name = &view.source().name;
        if !sources.contains_key(name) {
            sources.insert(name.clone(), SourceInput::snapshot(shared, view).await?);
        }
    }
    Ok(sources)
}

pub(crate) fn cuts(sources: &BTreeMap<String, SourceInput>) -> CutMap {
    let cut = |(name, source): (&String, &SourceInput)| (name.clone(), source.cut.clone());
    sources.iter().map(cut).collect()
}

fn view_fact(view: &View) -> ViewFact<'_> {
    ViewFact {
        name: view.name(),
        hash: view.hash(),
        source: &view.source().name,
    }
}

/// For each source the views that are folded in full, and those that build on the base.
fn folds(
    views: &[View],
    sources: &BTreeMap<String, SourceInput>,
    plan: &RunPlan,
    base: Option<&Manifest>,
) -> Vec<Fold> {
    let mut folds = Vec::new();
    for (name, source) in sources {
        let of_source = views.iter().filter(|view| view.source().name == *name).cloned();
        let (known, new): (Vec<View>, Vec<View>) = of_source.partition(|view| plan.on_base.contains(view.name()));
        if !new.is_empty() {
            folds.push(Fold {
                views: new,
                rows: source.rows(None, None),
                on_base: false,
            });
        }
        if !known.is_empty() {
            let from = base.and_then(|base| base.cuts.get(name)).map(|cut| &cut.next);
            folds.push(Fold {
                views: known,
                rows: source.rows(from, None),
                on_base: true,
            });
        }
    }
    folds
}

async fn with_base(shared: &Shared, state: ViewState, written: &BatchView) -> ViewState {
    let base = stored(shared, state.view(), written).await;
    state.with_base(base, written.rows)
}

/// Compares what was written with what is served at the same version.
async fn compare(
    shared: &Shared,
    run: &LiveRun,
    (views, written): (&[View], &BTreeMap<String, BatchView>),
    served: Option<&Publication>,
    sources: &BTreeMap<String, SourceInput>,
) -> Diff {
    let began = shared.store.environment().instant();
    let mut diff = Diff {
        publication: served.map(|publication| publication.number),
        views: BTreeMap::new(),
        expected: expected(served, sources),
    };
    for view in views {
        let (Some(written), Some(source)) = (written.get(view.name()), sources.get(&view.source().name)) else {
            continue;
        };
        let compared = compare_view(shared, run, view, Computed::Written(written), served, source).await;
        diff.views.insert(view.name().to_owned(), compared);
    }
    run.timed("compare", shared.store.environment().elapsed(began));
    diff
}

/// Publishes, and settles what an unclear answer of the store left open.
pub(crate) async fn publish(shared: &Shared, computed: RunManifest) -> Result<Publication, Error> {
    let run_id = computed.manifest.run_id.clone();
    match shared.publications.publish(computed.based_on, computed.manifest).await {
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

/// The kind of record that a task leaves.
pub(crate) fn kind(task: &Task) -> RunKind {
    match task {
        Task::Run => RunKind::Run,
        Task::Rollback { .. } => RunKind::Rollback,
        Task::Verify { .. } => RunKind::Verify,
    }
}

#[cfg(test)]
mod tests;
