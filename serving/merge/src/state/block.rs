use std::ops::Range;
use std::sync::OnceLock;

use anabranch_view::{KeyRanges, View, partition_point};
use arrow::array::RecordBatch;
use arrow::row::Rows;

use super::{check_schema, finalise, of_arrow};
use crate::Error;

/// Some rows of a batch view, in key order.
pub struct Block {
    state: RecordBatch,
    /// `None` for a global aggregate.
    keys: Option<Rows>,
    /// Its finalised rows, where they are kept.
    finalised: Option<OnceLock<RecordBatch>>,
}

impl Block {
    /// # Errors
    /// When the rows are not of the view's state schema.
    pub fn new(view: &View, state: RecordBatch) -> Result<Self, Error> {
        check_schema(view, "batch", &state)?;
        let keys = view.key_codec().map(|codec| codec.encode(&state)).transpose();
        Ok(Self {
            keys: keys.map_err(|source| of_arrow(view, source))?,
            state,
            finalised: None,
        })
    }

    /// The same, but it keeps its finalised rows once they were asked for.
    pub fn caching(mut self) -> Self {
        self.finalised = Some(OnceLock::new());
        self
    }

    /// Groups held.
    pub fn rows(&self) -> usize {
        self.state.num_rows()
    }

    /// The partial state.
    pub fn state(&self) -> &RecordBatch {
        &self.state
    }

    /// Bytes held: of state, as far as it belongs to this block, and of encoded keys. Finalised rows come on top.
    pub fn size_bytes(&self) -> usize {
        slice_bytes(&self.state) + self.keys.as_ref().map_or(0, Rows::size)
    }

    /// Whether its finalised rows are kept already.
    pub fn is_finalised(&self) -> bool {
        self.finalised.as_ref().is_some_and(|cache| cache.get().is_some())
    }

    pub(super) fn key(&self, row: usize) -> Option<&[u8]> {
        let keys = self.keys.as_ref()?;
        (row < keys.num_rows()).then(|| keys.row(row).data())
    }

    pub(super) fn first_key(&self) -> Option<&[u8]> {
        self.key(0)
    }

    pub(super) fn last_key(&self) -> Option<&[u8]> {
        self.key(self.rows().checked_sub(1)?)
    }

    /// Whether each key is larger than the one before.
    pub(super) fn is_ascending(&self) -> bool {
        let Some(keys) = &self.keys else { return true };
        (1..keys.num_rows()).all(|row| keys.row(row - 1).data() < keys.row(row).data())
    }

    /// The rows in `ranges`: runs, ascending and apart from each other.
    pub(super) fn spans(&self, ranges: Option<&KeyRanges>) -> Vec<Range<usize>> {
        let (Some(keys), Some(ranges)) = (&self.keys, ranges) else {
            return std::iter::once(0..self.rows())
                .filter(|whole| !whole.is_empty())
                .collect();
        };
        let key = |row: usize| keys.row(row).data();
        let spans = ranges.iter().map(|range| range.within(keys.num_rows(), key));
        spans.filter(|span| !span.is_empty()).collect()
    }

    /// The row with this key, at or behind `from`; or where it would be.
    pub(super) fn find(&self, from: usize, key: &[u8]) -> Result<usize, usize> {
        let at = partition_point(from..self.rows(), |row| self.key(row).is_some_and(|known| known < key));
        if self.key(at) == Some(key) { Ok(at) } else { Err(at) }
    }

    /// All rows, finalised.
    pub(super) fn finalise(&self, view: &View) -> Result<RecordBatch, Error> {
        let Some(cache) = &self.finalised else {
            return finalise(view, &self.state);
        };
        if let Some(known) = cache.get() {
            return Ok(known.clone());
        }
        let rows = finalise(view, &self.state)?;
        Ok(cache.get_or_init(|| rows).clone())
    }
}

/// Bytes of the rows of a batch, which may be a slice of larger buffers.
fn slice_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or(0))
        .sum()
}
