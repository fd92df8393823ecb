//! One view's result as state files.

use anabranch_compute::{ViewState, batch_view_schema};
use anabranch_dataset::{BatchView, Runs, StateFile, StateFileWriter, Store};
use arrow::array::RecordBatch;
use object_store::path::Path;

use crate::Error;

/// Groups per state file: large enough to compress well, small enough to be skipped or fetched on its own.
pub(crate) const PART_GROUPS: u64 = 1 << 20;
/// Batches between the merging thread and the writer.
const CHANNEL_BATCHES: usize = 4;

/// Where the state files of a run's view lie.
pub(crate) fn part_path(run_id: &str, view: &str, part: usize) -> Path {
    Runs::folder(run_id).join(view).join(format!("part-{part:05}.parquet"))
}

/// Drains a view's sorted state into `runs/<run id>/<view>/part-….parquet`, a new part after every `part_groups` groups.
pub(crate) async fn write_view(
    store: &Store,
    run_id: &str,
    state: ViewState,
    part_groups: u64,
) -> Result<BatchView, Error> {
    let view = state.view().clone();
    let rows = state.rows();
    let mut groups = 0;
    // Merging and finalising are CPU work, and may read spill files.
    let merge = move |deliver: &mut dyn FnMut(Result<RecordBatch, Error>) -> bool| match state.batches() {
        Ok(batches) => {
            for batch in batches {
                let failed = batch.is_err();
                if !deliver(batch.map_err(Error::from)) || failed {
                    break;
                }
            }
        }
        // Whether anybody listens does not matter any more.
        Err(error) => {
            deliver(Err(error.into()));
        }
    };
    let (mut receiver, merging) = store.environment().offload_writing(CHANNEL_BATCHES, merge);
    let schema = batch_view_schema(&view);
    let mut files: Vec<StateFile> = Vec::new();
    let mut writer: Option<StateFileWriter> = None;
    let mut written_groups = 0;
    while let Some(batch) = receiver.recv().await {
        let batch = batch?;
        if writer.is_none() {
            let path = part_path(run_id, view.name(), files.len());
            writer = Some(StateFileWriter::new(store, &path, &schema)?);
        }
        if let Some(writer) = &mut writer {
            written_groups += batch.num_rows() as u64;
            groups += batch.num_rows() as u64;
            writer.write(batch).await?;
        }
        if written_groups >= part_groups
            && let Some(writer) = writer.take()
        {
            files.push(writer.finish().await?);
            written_groups = 0;
        }
    }
    merging
        .ended()
        .await
        .ok_or_else(|| Error::Task(format!("merging view `{}`: it panicked", view.name())))?;
    if let Some(writer) = writer {
        files.push(writer.finish().await?);
    }
    Ok(BatchView {
        hash: view.hash().clone(),
        source: view.source().name.clone(),
        files,
        groups,
        rows,
    })
}

#[cfg(test)]
mod tests;
