//! The batch view of one publication, as far as serving holds it: whole in memory, or in a local file of which parts are in
//! memory.
//!
//! Which of the two is decided while it is loaded, by what fits into `[serving] state_memory`. The local file has no name, so
//! it goes when nobody reads it any more, and when the process ends, however it ends.

mod cache;
mod load;
mod stored;

use std::sync::Arc;

use anabranch_merge::{Block, BlockIndex, Live, Selection};
use anabranch_view::View;

pub(crate) use load::{Holdings, load};

use crate::Error;
use stored::Stored;

/// One batch view: blocks in key order, and where each begins and ends.
pub(crate) struct BatchViewState {
    index: BlockIndex,
    blocks: Blocks,
    bytes: usize,
}

enum Blocks {
    Resident(Vec<Arc<Block>>),
    Stored(Stored),
}

impl BatchViewState {
    /// Of a view without groups.
    pub(crate) fn empty(view: &View) -> Self {
        Self {
            index: BlockIndex::new(view),
            blocks: Blocks::Resident(Vec::new()),
            bytes: 0,
        }
    }

    /// Groups held.
    pub(crate) fn rows(&self) -> usize {
        self.index.rows()
    }

    /// Groups in one block.
    pub(crate) fn rows_of(&self, block: usize) -> usize {
        self.index.rows_of(block)
    }

    /// Bytes in memory, beside what the cache of blocks counts.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes in a local file.
    pub(crate) fn stored_bytes(&self) -> u64 {
        match &self.blocks {
            Blocks::Resident(_) => 0,
            Blocks::Stored(stored) => stored.bytes(),
        }
    }

    /// Whether all of it is in memory.
    pub(crate) fn is_resident(&self) -> bool {
        matches!(self.blocks, Blocks::Resident(_))
    }

    /// Numbers of the blocks that hold selected groups; ascending.
    pub(crate) fn select(&self, selection: &Selection) -> Vec<usize> {
        self.index.select(selection)
    }

    /// As [`BlockIndex::divide`].
    pub(crate) fn divide(&self, live: &Live, ends: &[usize]) -> Vec<std::ops::Range<usize>> {
        self.index.divide(live, ends)
    }

    /// As [`BlockIndex::has_null_keys`].
    pub(crate) fn has_null_keys(&self, key: usize) -> bool {
        self.index.has_null_keys(key)
    }

    /// One block.
    ///
    /// # Errors
    /// When the local file cannot be read, or does not hold what was written.
    pub(crate) async fn block(&self, view: &View, number: usize) -> Result<Arc<Block>, Error> {
        match &self.blocks {
            Blocks::Resident(blocks) => Ok(Arc::clone(&blocks[number])),
            Blocks::Stored(stored) => stored.block(view, number).await,
        }
    }
}
