//! Folds landed rows into realtime state: after a claim, after a restart, when a cut straddles what was merged, and when
//! exclusions have changed.
//!
//! What is folded follows from offsets alone: the files whose ranges reach into what is wanted, and of their rows those that
//! lie in it. Old versions of the table are not needed, and files may have been merged since the cut was taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch_dataset::{DataFile, DataReader, Leases, Notes, Publications, RowFilter};
use anabranch_model::{Offset, OffsetRange, PartitionId};
use arrow::datatypes::{Schema, SchemaRef};
use futures::future::try_join_all;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt, try_join};

use crate::Error;
use crate::ownership::retry;
use crate::program::Program;
use crate::publications::{cut_of, running_cuts};
use crate::source::{LastRebuild, SourceLayer};
use crate::state::{Base, Install, PartitionState, Run};

mod fold;

use fold::{Folded, Folder};

/// How soon to look again whether a view bolt has caught up with a rebuilt base.
const INSTALL_WAIT: Duration = Duration::from_millis(5);
/// Files that are opened ahead of those that are folded.
const OPEN_AHEAD: usize = 4;
/// How soon to look again whether the rows before a new view's beginning are landed.
const LANDING_WAIT: Duration = Duration::from_millis(50);

/// What is to be folded for one partition: for each view the ranges of its runs, which meet.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) partition: PartitionId,
    /// By id of the view.
    pub(crate) views: BTreeMap<usize, Vec<OffsetRange>>,
}

impl Plan {
    /// From the first to the last position of any range; `None` when there is nothing to fold.
    fn span(&self) -> Option<OffsetRange> {
        let ranges = || self.views.values().flatten();
        let start = ranges().map(|range| range.start).min()?;
        let end = ranges().map(|range| range.end).max()?;
        Some(OffsetRange { start, end })
    }
}

/// Rebuilds every waiting view of `states`, until all are installed or their states have ended.
pub(crate) async fn run(layer: &Arc<SourceLayer>, states: Vec<Arc<PartitionState>>) {
    // A state that is named twice would be folded twice.
    let mut waiting: Vec<Arc<PartitionState>> = Vec::with_capacity(states.len());
    for state in states {
        if !waiting.iter().any(|other| Arc::ptr_eq(other, &state)) {
            waiting.push(state);
        }
    }
    loop {
        waiting.retain(|state| state.is_live() && !state.rebuilding().is_empty());
        if waiting.is_empty() || layer.shutdown.is_cancelled() {
            return;
        }
        match retry(layer, "rebuilding realtime state", || attempt(layer, &waiting)).await {
            Ok(()) => {}
            Err(Error::Stopping) => return,
            Err(error) => return layer.fail(error),
        }
    }
}

async fn attempt(layer: &Arc<SourceLayer>, states: &[Arc<PartitionState>]) -> Result<(), Error> {
    let since = layer.environment().instant();
    let program = layer.program();
    // The publication is read before the snapshot, so that its cut cannot lie behind it.
    let publication = Publications::new(&layer.store).latest().await?;
    let running = running_cuts(&Leases::new(&layer.store).list("batch").await?);
    let snapshot = layer.dataset.snapshot(None).await?;
    let mut plans = Vec::new();
    for state in states {
        let partition = state.partition;
        let through = snapshot.next.get(partition).unwrap_or(state.from);
        state.hold_boundary(through);
        let mut split_at: BTreeSet<Offset> = running
            .iter()
            .filter_map(|cuts| cuts.get(layer.name())?.next.get(partition))
            .collect();
        split_at.extend(state.cuts());
        let mut views = BTreeMap::new();
        for (view, landed_to) in state.rebuilding() {
            let Some(definition) = program.view(view).filter(|_| landed_to <= through) else {
                continue;
            };
            let cut = cut_of(publication.as_ref(), definition, layer.name());
            let mut from = cut.and_then(|cut| cut.next.get(partition)).unwrap_or(state.start);
            // What goes on answering meanwhile loses nothing by it.
            if let Some(answers_from) = state.answers_from(view) {
                split_at.insert(from);
                from = from.min(answers_from);
            }
            if let Some(reach) = state.reach_of(view) {
                split_at.insert(reach);
                from = from.min(reach);
            }
            views.insert(view, ranges(from.min(through), through, &split_at));
        }
        plans.push(Plan { partition, views });
    }
    if plans.iter().all(|plan| plan.views.is_empty()) {
        layer.environment().sleep(LANDING_WAIT).await;
        return Ok(());
    }
    layer.facts.rebuilds.fetch_add(1, Ordering::Relaxed);
    let mut files = files_for(&plans, snapshot.files);
    let filter = Arc::new(RowFilter::new(&snapshot.notes, None, None));
    files.retain(|file| !filter.is_none(file));
    let (count, rows) = (files.len(), files.iter().map(|file| file.rows).sum::<u64>());
    let mut folded = fold_files(layer, &program, plans.clone(), files, filter).await?;
    for (state, plan) in states.iter().zip(&plans) {
        for (view, ranges) in &plan.views {
            let runs: Vec<Run> = ranges
                .iter()
                .map(|range| Run::new(*range, folded.take(plan.partition, *view, *range)))
                .collect();
            install(layer, state, *view, ranges, base(&snapshot.notes, plan.partition, runs)).await;
        }
    }
    let elapsed = layer.environment().elapsed(since);
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    *layer.facts.last_rebuild.lock() = Some(LastRebuild {
        files: count,
        rows,
        elapsed_ms,
    });
    tracing::info!(
        table = layer.name(),
        partitions = ?states.iter().map(|state| state.partition.0).collect::<Vec<_>>(),
        files = count,
        rows,
        elapsed_ms,
        "realtime state rebuilt from landed rows"
    );
    Ok(())
}

fn base(notes: &Notes, partition: PartitionId, runs: Vec<Run>) -> Base {
    Base {
        runs,
        excluded: notes.excluded_of(partition),
        since: notes.since.get(partition),
    }
}

/// `[from, through)`, divided where a running batch run may cut.
pub(crate) fn ranges(from: Offset, through: Offset, split_at: &BTreeSet<Offset>) -> Vec<OffsetRange> {
    let mut ranges = Vec::new();
    let mut start = from;
    for at in split_at
        .iter()
        .filter(|at| from < **at && **at < through)
        .chain([&through])
    {
        if start < *at {
            ranges.push(OffsetRange::new(start, *at));
        }
        start = *at;
    }
    ranges
}

/// The files of events that may hold rows of the plans, in path order.
fn files_for(plans: &[Plan], files: Vec<DataFile>) -> Vec<DataFile> {
    let spans: Vec<(PartitionId, OffsetRange)> = plans
        .iter()
        .filter_map(|plan| Some((plan.partition, plan.span()?)))
        .collect();
    let wanted = |file: &DataFile| !file.dead && spans.iter().any(|(partition, span)| file.may_hold(*partition, *span));
    files.into_iter().filter(wanted).collect()
}

/// Reads the wanted columns of the files and folds them, one row group at a time and as many at once as there are cores.
/// Each worker fetches its next row group while it folds one.
async fn fold_files(
    layer: &Arc<SourceLayer>,
    program: &Arc<Program>,
    plans: Vec<Plan>,
    files: Vec<DataFile>,
    filter: Arc<RowFilter>,
) -> Result<Folded, Error> {
    let plans = Arc::new(plans);
    let columns = Folder::new(Arc::clone(program), Arc::clone(&plans)).columns();
    let pieces = tokio::sync::Mutex::new(pieces(layer, files, columns, Arc::clone(&filter)));
    let next = async || {
        if layer.shutdown.is_cancelled() {
            return Err(Error::Stopping);
        }
        let Some(piece) = pieces.lock().await.try_next().await? else {
            return Ok(None);
        };
        let rows = piece.reader.fetch(piece.group..piece.group + 1).await?;
        let in_file = SchemaRef::clone(piece.reader.schema());
        Ok(Some((rows, in_file, piece.filtered.then(|| Arc::clone(&filter)))))
    };
    let worker = async || {
        let mut folder = Folder::new(Arc::clone(program), Arc::clone(&plans));
        let mut fetched = next().await?;
        while let Some((rows, in_file, filter)) = fetched {
            let fold = blocking(layer, move || folder.fold(rows, &in_file, filter.as_deref()));
            (folder, fetched) = try_join!(fold, next())?;
        }
        blocking(layer, move || folder.emit()).await
    };
    let parts = try_join_all((0..layer.folders).map(|_| worker())).await?;
    let program = Arc::clone(program);
    blocking(layer, move || Folded::merge(&program, parts)).await
}

/// One row group to be folded.
struct Piece {
    reader: DataReader,
    group: usize,
    /// Whether some of its rows may not count.
    filtered: bool,
}

/// The row groups of all files; a few files are opened ahead.
fn pieces(
    layer: &SourceLayer,
    files: Vec<DataFile>,
    columns: impl Fn(&Schema) -> SchemaRef + Clone + Send + 'static,
    filter: Arc<RowFilter>,
) -> BoxStream<'static, Result<Piece, Error>> {
    let store = layer.store.clone();
    let open = move |file: DataFile| {
        let (store, columns, filtered) = (store.clone(), columns.clone(), !filter.is_all(&file));
        async move {
            let reader = DataReader::open_with(&store, &file.path, file.bytes, columns).await?;
            let groups = (0..reader.row_groups()).map(move |group| {
                Ok(Piece {
                    reader: reader.clone(),
                    group,
                    filtered,
                })
            });
            Ok::<_, Error>(stream::iter(groups))
        }
    };
    stream::iter(files).map(open).buffered(OPEN_AHEAD).try_flatten().boxed()
}

async fn blocking<T: Send + 'static>(
    layer: &SourceLayer,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    layer
        .environment()
        .offload(work)
        .await
        .map_err(|error| Error::Task(format!("rebuilding: {error}")))?
}

async fn install(layer: &SourceLayer, state: &PartitionState, view: usize, ranges: &[OffsetRange], base: Base) {
    let Some((from, through)) = ranges
        .first()
        .zip(ranges.last())
        .map(|(first, last)| (first.start, last.end))
    else {
        // Nothing lies between the cut and what is recorded: an empty base at the place where reading began.
        let at = state.held_boundary();
        install_at(layer, state, view, (at, at), base).await;
        return;
    };
    install_at(layer, state, view, (from, through), base).await;
}

async fn install_at(layer: &SourceLayer, state: &PartitionState, view: usize, bounds: (Offset, Offset), base: Base) {
    let mut base = Some(base);
    while state.is_live() {
        match state.install(view, bounds, &mut base) {
            Install::Done | Install::Outdated => return,
            Install::NotYet => layer.environment().sleep(INSTALL_WAIT).await,
        }
    }
}

#[cfg(test)]
mod tests;
