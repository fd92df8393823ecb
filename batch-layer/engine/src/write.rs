//! One view's result as state files.

use anabranch_compute::{ViewState, batch_view_schema};
use anabranch_dataset::{BatchView, Runs, StateFile, StateFileWriter, Store};
use arrow::array::RecordBatch;
use object_store::path::Path;
use tokio::sync::mpsc;

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
    let (rows, groups) = (state.rows(), state.groups());
    let (sender, mut receiver) = mpsc::channel::<Result<RecordBatch, Error>>(CHANNEL_BATCHES);
    // Merging and finalising are CPU work, and may read spill files.
    let merging = tokio::task::spawn_blocking(move || match state.batches() {
        Ok(batches) => {
            for batch in batches {
                let failed = batch.is_err();
                if sender.blocking_send(batch.map_err(Error::from)).is_err() || failed {
                    break;
                }
            }
        }
        // A closed channel means that nobody wants to know.
        Err(error) => drop(sender.blocking_send(Err(error.into()))),
    });
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
        .await
        .map_err(|error| Error::Task(format!("merging view `{}`: {error}", view.name())))?;
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
