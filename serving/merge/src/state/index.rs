use std::cmp::Ordering;
use std::ops::Range;

use anabranch_view::{View, partition_point};
use arrow::array::Array;

use super::block::Block;
use super::{Live, Selection};

/// Where each block of a batch view begins and ends.
pub struct BlockIndex {
    outlines: Vec<Outline>,
    rows: usize,
    /// For each key column, whether it holds a null.
    null_keys: Vec<bool>,
}

struct Outline {
    first: Box<[u8]>,
    last: Box<[u8]>,
    rows: usize,
}

/// A block that does not follow those before it: its groups, or those of two blocks, are not in ascending order.
#[derive(Debug)]
pub struct OutOfOrder;

impl BlockIndex {
    /// Without blocks.
    pub fn new(view: &View) -> Self {
        Self {
            outlines: Vec::new(),
            rows: 0,
            null_keys: vec![false; view.key_count()],
        }
    }

    /// Adds the next block.
    ///
    /// # Errors
    /// When it does not follow.
    pub fn push(&mut self, block: &Block) -> Result<(), OutOfOrder> {
        let first = block.first_key().unwrap_or_default();
        let follows = match self.outlines.last() {
            Some(before) => (*before.last).cmp(first) == Ordering::Less,
            None => true,
        };
        if !follows || !block.is_ascending() {
            return Err(OutOfOrder);
        }
        self.outlines.push(Outline {
            first: first.into(),
            last: block.last_key().unwrap_or_default().into(),
            rows: block.rows(),
        });
        self.rows += block.rows();
        for (has_null, column) in self.null_keys.iter_mut().zip(block.state().columns()) {
            *has_null |= column.null_count() > 0;
        }
        Ok(())
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.outlines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.outlines.is_empty()
    }

    /// Groups in all blocks.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Groups in one block.
    pub fn rows_of(&self, block: usize) -> usize {
        self.outlines[block].rows
    }

    /// Whether any group has a null in this key column.
    pub fn has_null_keys(&self, key: usize) -> bool {
        self.null_keys.get(key).copied().unwrap_or(true)
    }

    /// Heap bytes held.
    pub fn size_bytes(&self) -> usize {
        let outlines = self.outlines.iter();
        outlines
            .map(|outline| size_of::<Outline>() + outline.first.len() + outline.last.len())
            .sum()
    }

    /// Numbers of the blocks that hold selected groups, and perhaps of some that hold none; ascending.
    pub fn select(&self, selection: &Selection) -> Vec<usize> {
        let Some(ranges) = selection.ranges() else {
            return (0..self.len()).collect();
        };
        let mut selected: Vec<usize> = Vec::new();
        for range in ranges.iter() {
            let start = partition_point(0..self.len(), |block| range.begins_after(&self.outlines[block].last));
            let end = partition_point(start..self.len(), |block| {
                !range.ends_before(&self.outlines[block].first)
            });
            // Ranges ascend, so only the block that two of them meet in comes twice.
            let known = selected.last().map_or(0, |last| last + 1);
            selected.extend(start.max(known)..end);
        }
        selected
    }

    /// Divides live rows among runs of blocks: those of each run are the ones up to the end of its last block, the last run
    /// has the rest. `ends` are the numbers of the last blocks, ascending.
    pub fn divide(&self, live: &Live, ends: &[usize]) -> Vec<Range<usize>> {
        let mut start = 0;
        let mut divided = Vec::with_capacity(ends.len());
        for (index, end) in ends.iter().enumerate() {
            let end = if index + 1 == ends.len() {
                live.rows()
            } else {
                live.through(start..live.rows(), &self.outlines[*end].last)
            };
            divided.push(start..end);
            start = end;
        }
        divided
    }
}
