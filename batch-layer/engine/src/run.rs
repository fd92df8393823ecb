//! One batch run, from snapshot to publication.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_compute::ViewState;
use anabranch_dataset::{BatchView, Diff, Manifest, Notes, Publication, RunManifest, RunState};
use anabranch_model::{CutMap, with_causes};
use anabranch_runtime::{BatchMode, OnDiff, Shutdown};
use anabranch_view::View;

mod diff;
mod fetch;
mod input;
mod plan;
mod rollback;
mod served;
mod verify;
mod workshop;
mod write;

use diff::{Computed, compare_view, expected, is_alarming};
use input::{Rows, SourceInput, fold, stored};
use plan::{Facts, RunPlan, ViewFact, plan};

use crate::Error;
use crate::runs::board::Board;
use crate::runs::record::{LiveRun, rfc3339};
use crate::runs::results::{self, check_files, remove_results};
use crate::runs::task::Task;
use crate::runs::{failures, held};
use crate::site::Site;
use crate::standing::leader::Leadership;
use crate::standing::lease::LeaseKeeper;

pub(crate) use workshop::Workshop;
#[cfg(test)]
pub(crate) use write::part_path;

/// Carries runs out: what it takes to compute, and to tell others of it.
pub(crate) struct Runner {
    pub(crate) workshop: Workshop,
    pub(crate) board: Arc<Board>,
    /// Tells the speed layer of cuts before they are read.
    pub(crate) lease: Arc<LeaseKeeper>,
    /// A run of a service that leads no more is given up.
    pub(crate) leadership: Arc<Leadership>,
}

impl Runner {
    fn site(&self) -> &Site {
        &self.workshop.site
    }
}

/// One run after the other until shutdown; then `stopped`.
pub(crate) async fn run_loop(runner: Arc<Runner>, stopped: Shutdown) -> Result<(), Error> {
    // However this task ends, HTTP and the lease end after it.
    let stopped = StopGuard(stopped);
    let site = runner.site();
    while let Some(run) = runner.board.next(&runner.workshop.shutdown).await {
        execute(&runner, &run).await;
        runner.board.end(&run).await;
        if let Err(error) = runner.lease.renew().await {
            tracing::warn!(%error, "cannot renew the batch lease");
        }
    }
    for run in runner.board.clear().await {
        run.update(|record| {
            record.state = RunState::Failed;
            record.error = Some(Error::ShutDown.to_string());
            record.finished_at = Some(rfc3339(site.environment().now()));
        });
        run.save(&site.runs).await;
    }
    drop(stopped);
    Ok(())
}

struct StopGuard(Shutdown);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// How a run ended well.
pub(crate) enum Outcome {
    Published(Box<Publication>),
    /// It waits to be published or discarded.
    Held,
    /// It compared, and that was all it was for.
    Compared,
}

/// Runs `run` to its end and records how it ended. Never fails: a failed run is a record like any other.
async fn execute(runner: &Runner, run: &Arc<LiveRun>) {
    let site = runner.site();
    let environment = site.environment();
    let began = environment.instant();
    run.update(|record| {
        record.state = RunState::Running;
        record.started_at = Some(rfc3339(environment.now()));
    });
    run.save(&site.runs).await;
    tracing::info!(run_id = run.run_id, trigger = run.record().trigger, "batch run starts");

    // Up to the publication, which is carried through, a shutdown may drop the work at any await.
    let outcome = match &run.task {
        Task::Run => to_publication(runner, run).await,
        Task::Rollback { to } => rollback::execute(runner, run, to).await,
        Task::Verify { views } => verify::execute(runner, run, views).await,
    };
    let took = environment.elapsed(began);
    run.timed("total", took);
    let failed = outcome.as_ref().err().map(|error| with_causes(error));
    if let Some(error) = &failed {
        tracing::error!(run_id = run.run_id, error, "batch run failed");
        if !matches!(outcome, Err(Error::PublicationUnclear(_)))
            && let Err(error) = remove_results(site, &run.run_id).await
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
    failures::note_end(&record);
    metrics::counter!("anabranch_batch_rows_total").increment(record.progress.rows_done);
    run.save(&site.runs).await;
    if record.state == RunState::Published {
        held::discard_outdated(site, &runner.board).await;
    }
}

/// Runs `work` unless the service stops or is no longer the one that runs batch runs.
async fn until_stopped<T>(
    runner: &Runner,
    run: &LiveRun,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let done = tokio::select! {
        biased;
        () = runner.workshop.shutdown.cancelled() => Err(Error::ShutDown),
        () = runner.leadership.lost() => Err(Error::LostLeadership),
        done = work => done,
    };
    // Threads that still fold for a run that is given up notice this between two batches.
    run.control.cancel();
    done
}

async fn to_publication(runner: &Runner, run: &Arc<LiveRun>) -> Result<Outcome, Error> {
    let site = runner.site();
    let (computed, held) = until_stopped(runner, run, compute(runner, run)).await?;
    if held {
        held::keep(&runner.board, &computed).await;
        return Ok(Outcome::Held);
    }
    let began = site.environment().instant();
    let publication = results::publish(&site.publications, computed).await;
    run.timed("publish", site.environment().elapsed(began));
    publication.map(|publication| Outcome::Published(Box::new(publication)))
}

/// What to fold of one source.
struct Fold {
    views: Vec<View>,
    rows: Rows,
    on_base: bool,
}

/// Computes, writes and compares all views; returns what to publish, and whether to hold it back.
async fn compute(runner: &Runner, run: &Arc<LiveRun>) -> Result<(RunManifest, bool), Error> {
    let site = runner.site();
    let environment = site.environment();
    let started_at = rfc3339(environment.now());
    let began = environment.instant();
    // Read before the snapshot: a run that publishes in between then wins, and this one is told.
    let served = site.publications.latest().await?;
    let based_on = served.as_ref().map_or(0, |publication| publication.number);
    let base = served.as_ref().map(|publication| &publication.manifest);
    let definitions = site.definitions.newest().await?;
    let sources = snapshots(site, &definitions.views).await?;
    let plan = plan(&Facts {
        mode: site.settings.batch.mode,
        full_every: site.settings.batch.full_every,
        full_requested: run.is_full_requested(),
        base,
        base_lacks: base_lacks(site, base).await?,
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
    runner.lease.renew().await?;
    run.timed("snapshot", environment.elapsed(began));
    run.save(&site.runs).await;

    let mut views = BTreeMap::new();
    for Fold {
        views: folded,
        rows,
        on_base,
    } in folds
    {
        for state in fold(&runner.workshop, run, folded, rows).await? {
            let began = environment.instant();
            let view = state.view().clone();
            let state = match base.and_then(|base| base.views.get(view.name())).filter(|_| on_base) {
                Some(written) => with_base(site, state, written).await,
                None => state,
            };
            let written = write::write_view(&site.store, &run.run_id, state, write::PART_GROUPS).await?;
            run.timed("write", environment.elapsed(began));
            views.insert(view.name().to_owned(), written);
        }
    }
    run.update(|record| {
        record.rows = record.progress.rows_total;
        record.groups = views.values().map(|view: &BatchView| view.groups).sum();
    });

    let diff = compare(
        &runner.workshop,
        run,
        (&definitions.views, &views),
        served.as_ref(),
        &sources,
    )
    .await;
    let hold = site.settings.batch.on_diff == OnDiff::Hold && is_alarming(&diff);
    run.update(|record| record.diff = Some(diff));
    run.save(&site.runs).await;

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
    site.runs.put_manifest(&computed).await?;
    Ok((computed, hold))
}

/// A state file that an incremental run would miss.
async fn base_lacks(site: &Site, base: Option<&Manifest>) -> Result<Option<String>, Error> {
    let Some(base) = base.filter(|_| site.settings.batch.mode == BatchMode::Incremental) else {
        return Ok(None);
    };
    for view in base.views.values() {
        match check_files(&site.store, view).await {
            Ok(()) => {}
            Err(Error::Gone(file)) => return Ok(Some(file)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The newest state of the sources that `views` read, by name.
async fn snapshots(site: &Site, views: &[View]) -> Result<BTreeMap<String, SourceInput>, Error> {
    let mut sources = BTreeMap::new();
    for view in views {
        let name = &view.source().name;
        if !sources.contains_key(name) {
            sources.insert(name.clone(), SourceInput::snapshot(site, view).await?);
        }
    }
    Ok(sources)
}

fn cuts(sources: &BTreeMap<String, SourceInput>) -> CutMap {
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

async fn with_base(site: &Site, state: ViewState, written: &BatchView) -> ViewState {
    let base = stored(&site.store, state.view(), written).await;
    state.with_base(base, written.rows)
}

/// Compares what was written with what is served at the same version.
async fn compare(
    workshop: &Workshop,
    run: &LiveRun,
    (views, written): (&[View], &BTreeMap<String, BatchView>),
    served: Option<&Publication>,
    sources: &BTreeMap<String, SourceInput>,
) -> Diff {
    let environment = workshop.site.environment();
    let began = environment.instant();
    let mut diff = Diff {
        publication: served.map(|publication| publication.number),
        views: BTreeMap::new(),
        expected: expected(served, sources),
    };
    for view in views {
        let (Some(written), Some(source)) = (written.get(view.name()), sources.get(&view.source().name)) else {
            continue;
        };
        let compared = compare_view(workshop, run, view, Computed::Written(written), served, source).await;
        diff.views.insert(view.name().to_owned(), compared);
    }
    run.timed("compare", environment.elapsed(began));
    diff
}

#[cfg(test)]
mod tests;
