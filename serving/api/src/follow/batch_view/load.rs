//! Loading a batch view, row group by row group, into memory or beyond it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anabranch_dataset::{BatchView, StateFiles, Store};
use anabranch_merge::{Block, BlockIndex, OutOfOrder, cut_blocks, sort_whole};
use anabranch_runtime::Serving;
use anabranch_view::View;
use arrow::array::RecordBatch;
use futures::TryStreamExt;

use super::cache::BlockCache;
use super::stored::Storing;
use super::{BatchViewState, Blocks};
use crate::Error;
use crate::admission::slice_bytes;

/// Rows per block in memory.
const RESIDENT_ROWS: usize = 8192;
/// Rows per block in a local file: what is read for one group.
const STORED_ROWS: usize = 1024;
/// Bytes per block in a local file, about: sketches are large.
const STORED_BYTES: usize = 256 << 10;

/// What batch views may hold of memory and disk. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Holdings {
    /// Bytes for views that are held whole.
    resident: usize,
    folder: PathBuf,
    cache: Arc<BlockCache>,
}

impl Holdings {
    pub(crate) fn new(settings: &Serving) -> Self {
        let memory = usize::try_from(settings.state_memory.get()).unwrap_or(usize::MAX);
        // What does not fit is read through a cache, which needs a part of its own.
        let cache = memory / 4;
        Self {
            resident: memory - cache,
            folder: settings.state_dir.clone().unwrap_or_else(std::env::temp_dir),
            cache: Arc::new(BlockCache::new(cache)),
        }
    }

    /// What is left for one publication, of which `held` bytes are there already.
    pub(crate) fn budget(&self, held: usize) -> Arc<Budget> {
        Arc::new(Budget(AtomicUsize::new(self.resident.saturating_sub(held))))
    }
}

/// Bytes that the views of one publication may still take.
pub(crate) struct Budget(AtomicUsize);

impl Budget {
    fn take(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Loads the batch view of a view. Rows out of order or split groups are put right here, once, so that a look-up can rely on
/// order and uniqueness.
///
/// # Errors
/// When a state file is missing or is not what the manifest says, and when local state cannot be written.
pub(crate) async fn load(
    store: &Store,
    view: &View,
    batch: &BatchView,
    holdings: &Holdings,
    budget: &Arc<Budget>,
) -> Result<BatchViewState, Error> {
    let environment = store.environment();
    let mut building = Building::new(view, holdings, budget);
    let mut states = std::pin::pin!(StateFiles::stream(store, batch, &view.state_schema()));
    while let Some(state) = states.try_next().await? {
        let added = environment
            .offload(move || building.push(&state))
            .await
            .map_err(failed)??;
        let Some(added) = added else {
            return load_unsorted(store, view, batch, holdings, budget).await;
        };
        building = added;
    }
    let at = environment.clone();
    environment
        .offload(move || building.finish(&at))
        .await
        .map_err(failed)?
}

/// As [`load`], for files that no run of ours has written: all rows are in memory for a moment.
async fn load_unsorted(
    store: &Store,
    view: &View,
    batch: &BatchView,
    holdings: &Holdings,
    budget: &Arc<Budget>,
) -> Result<BatchViewState, Error> {
    let environment = store.environment();
    let states = StateFiles::read(store, batch, &view.state_schema()).await?;
    let (view, building, at) = (view.clone(), Building::new(view, holdings, budget), environment.clone());
    let sort = move || {
        let sorted = sort_whole(&view, &states)?;
        drop(states);
        let sorted = building.push(&sorted)?;
        let sorted = sorted.ok_or_else(|| Error::Internal("sorted keys are not ascending".into()))?;
        sorted.finish(&at)
    };
    environment.offload(sort).await.map_err(failed)?
}

fn failed(join: tokio::task::JoinError) -> Error {
    Error::Internal(format!("loading a batch view failed: {join}"))
}

struct Building {
    view: View,
    holdings: Holdings,
    budget: Arc<Budget>,
    index: BlockIndex,
    /// Taken out of the budget.
    bytes: usize,
    kind: Kind,
}

enum Kind {
    Resident(Vec<Arc<Block>>),
    Stored(Storing),
}

impl Building {
    fn new(view: &View, holdings: &Holdings, budget: &Arc<Budget>) -> Self {
        Self {
            view: view.clone(),
            holdings: holdings.clone(),
            budget: Arc::clone(budget),
            index: BlockIndex::new(view),
            bytes: 0,
            kind: Kind::Resident(Vec::new()),
        }
    }

    /// Adds rows; `None` when they do not follow those before.
    fn push(mut self, state: &RecordBatch) -> Result<Option<Self>, Error> {
        if let Kind::Resident(_) = self.kind {
            match self.push_resident(state)? {
                Pushed::Yes => return Ok(Some(self)),
                Pushed::OutOfOrder => return Ok(None),
                Pushed::TooLarge => self.spill()?,
            }
        }
        match self.push_stored(state)? {
            Ok(()) => Ok(Some(self)),
            Err(OutOfOrder) => Ok(None),
        }
    }

    fn push_resident(&mut self, state: &RecordBatch) -> Result<Pushed, Error> {
        let blocks: Vec<Block> = cut_blocks(&self.view, state, RESIDENT_ROWS).collect::<Result<_, _>>()?;
        // Finalised rows are kept beside the state, and are about as large.
        let bytes: usize = blocks.iter().map(|block| block.size_bytes() * 2).sum();
        if !self.budget.take(bytes) {
            return Ok(Pushed::TooLarge);
        }
        self.bytes += bytes;
        let Kind::Resident(held) = &mut self.kind else {
            return Ok(Pushed::TooLarge);
        };
        for block in blocks {
            if self.index.push(&block).is_err() {
                return Ok(Pushed::OutOfOrder);
            }
            held.push(Arc::new(block.caching()));
        }
        Ok(Pushed::Yes)
    }

    /// Writes what is there to a local file.
    fn spill(&mut self) -> Result<(), Error> {
        let storing = Kind::Stored(Storing::begin(&self.holdings.folder)?);
        let Kind::Resident(held) = std::mem::replace(&mut self.kind, storing) else {
            return Ok(());
        };
        self.index = BlockIndex::new(&self.view);
        for block in &held {
            // They were in order before.
            let _: Result<(), OutOfOrder> = self.push_stored(block.state())?;
        }
        drop(held);
        self.budget.give_back(std::mem::take(&mut self.bytes));
        Ok(())
    }

    fn push_stored(&mut self, state: &RecordBatch) -> Result<Result<(), OutOfOrder>, Error> {
        let Kind::Stored(storing) = &mut self.kind else {
            return Ok(Ok(()));
        };
        let per_row = (slice_bytes(state) / state.num_rows().max(1)).max(1);
        for block in cut_blocks(&self.view, state, (STORED_BYTES / per_row).clamp(16, STORED_ROWS)) {
            let block = block?;
            if let Err(out_of_order) = self.index.push(&block) {
                return Ok(Err(out_of_order));
            }
            storing.push(&block)?;
        }
        Ok(Ok(()))
    }

    fn finish(mut self, environment: &anabranch_dataset::Environment) -> Result<BatchViewState, Error> {
        let kind = std::mem::replace(&mut self.kind, Kind::Resident(Vec::new()));
        let index = std::mem::replace(&mut self.index, BlockIndex::new(&self.view));
        let (blocks, bytes) = match kind {
            Kind::Resident(blocks) => (Blocks::Resident(blocks), std::mem::take(&mut self.bytes)),
            Kind::Stored(storing) => {
                let stored = storing.finish(&self.holdings.cache, environment)?;
                let bytes = stored.index_bytes();
                (Blocks::Stored(stored), bytes)
            }
        };
        Ok(BatchViewState {
            bytes: bytes + index.size_bytes(),
            index,
            blocks,
        })
    }
}

impl Drop for Building {
    /// What was given up gives its part of the budget back.
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

enum Pushed {
    Yes,
    OutOfOrder,
    TooLarge,
}

#[cfg(test)]
mod tests;
