//! What a run reads: snapshots of the sources, the rows to fold, and the state to build on.

use std::sync::Arc;

use anabranch_compute::{InputError, Plan, States, ViewState, delivered};
use anabranch_dataset::{BatchView, DataFile, Notes, RowFilter, Snapshot, StateFiles, Store};
use anabranch_model::{Cut, OffsetVector};
use anabranch_view::View;
use futures::StreamExt;

use super::Workshop;
use super::fetch::Fetch;
use crate::Error;
use crate::runs::record::LiveRun;
use crate::site::Site;

/// Read-ahead is a share of the memory budget, within these bounds.
const READ_AHEAD_BYTES: std::ops::RangeInclusive<u64> = (32 << 20)..=(256 << 20);
/// Batches of state that are read ahead.
const STATE_BATCHES: usize = 4;

/// One source at the version that a run reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceInput {
    pub(crate) cut: Cut,
    pub(crate) starts: OffsetVector,
    /// Without dead letters, in path order.
    files: Arc<Vec<DataFile>>,
    pub(crate) notes: Arc<Notes>,
}

/// Rows of one source to fold.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    files: Vec<DataFile>,
    /// Rows of the files; not all of them need count.
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    filter: Arc<RowFilter>,
}

impl SourceInput {
    /// The newest state of a view's source; nothing, and the empty cut, when nothing was ever landed.
    pub(crate) async fn snapshot(site: &Site, view: &View) -> Result<Self, Error> {
        let Some(dataset) = site.dataset(view.source()).await? else {
            return Ok(Self::default());
        };
        let Snapshot {
            version,
            next,
            starts,
            mut files,
            notes,
            ..
        } = dataset.snapshot(None).await?;
        files.retain(|file| !file.dead);
        Ok(Self {
            cut: Cut {
                version: Some(version),
                next,
            },
            starts,
            files: Arc::new(files),
            notes,
        })
    }

    /// The rows that count: all of them, or those at or behind `from`; of these, all or those before `to`. A partition that
    /// `from` lacks counts from its beginning, one that `to` lacks does not count.
    pub(crate) fn rows(&self, from: Option<&OffsetVector>, to: Option<&OffsetVector>) -> Rows {
        let filter = RowFilter::new(&self.notes, from, to);
        let files: Vec<DataFile> = self
            .files
            .iter()
            .filter(|file| !filter.is_none(file))
            .cloned()
            .collect();
        Rows {
            rows: files.iter().map(|file| file.rows).sum(),
            bytes: files.iter().map(|file| file.bytes).sum(),
            files,
            filter: Arc::new(filter),
        }
    }
}

/// Folds rows into views of one source.
pub(crate) async fn fold(
    workshop: &Workshop,
    run: &LiveRun,
    views: Vec<View>,
    rows: Rows,
) -> Result<Vec<ViewState>, Error> {
    let Workshop {
        site, kernel, shutdown, ..
    } = workshop;
    let environment = site.environment();
    let began = environment.instant();
    let plan = Plan::new(views, rows.rows)?;
    let budget_bytes = site.settings.batch.memory_budget.get();
    let files = Fetch {
        objects: site.store.objects().clone(),
        files: rows.files,
        columns: {
            let plan = plan.clone();
            Arc::new(move |footer| plan.columns_in(footer))
        },
        filter: rows.filter,
        read_ahead_bytes: (budget_bytes / 8).clamp(*READ_AHEAD_BYTES.start(), *READ_AHEAD_BYTES.end()),
        folded_bytes: run.folded_bytes.clone(),
        shutdown: shutdown.clone(),
        environment: environment.clone(),
    }
    .start();
    let (kernel, control) = (kernel.clone(), run.control.clone());
    let states = environment
        .offload_reading(files, move |files| kernel.fold(&plan, files, &control))
        .await
        .map_err(|error| Error::Task(format!("folding: {error}")))??;
    run.timed("fold", environment.elapsed(began));
    Ok(states)
}

/// The state that a run wrote, in key order.
pub(crate) async fn stored(store: &Store, view: &View, written: &BatchView) -> States {
    let states = StateFiles::stream(store, written, &view.state_schema()).map(|state| {
        state.map_err(|error| InputError {
            kind: error.kind(),
            source: error.into(),
        })
    });
    delivered(store.environment().drain(STATE_BATCHES, states).await)
}
