use std::ops::Range;

use anabranch_view::{View, partition_point};
use arrow::array::{Array, RecordBatch};
use arrow::row::Rows;

use super::{Selection, check_schema, merge_all, of_arrow};
use crate::Error;

/// The realtime state of one answer: its selected groups, each once, in key order.
pub struct Live {
    state: RecordBatch,
    /// `None` for a global aggregate.
    keys: Option<Rows>,
}

impl Live {
    /// Merges what workers sent.
    ///
    /// # Errors
    /// When it is not of the view's state schema.
    pub fn new(view: &View, realtime: &[RecordBatch], selection: &Selection) -> Result<Self, Error> {
        let mut selected = Vec::with_capacity(realtime.len());
        for state in realtime {
            check_schema(view, "realtime", state)?;
            // A worker may send more than was asked for; a group whose batch part is left out must not slip in.
            let state = selection.apply(view, state.clone())?;
            if state.num_rows() > 0 {
                selected.push(state);
            }
        }
        let state = if selected.is_empty() {
            RecordBatch::new_empty(view.state_schema())
        } else {
            merge_all(view, selected.iter())?
        };
        let keys = view.key_codec().map(|codec| codec.encode(&state)).transpose();
        Ok(Self {
            keys: keys.map_err(|source| of_arrow(view, source))?,
            state,
        })
    }

    /// Groups held.
    pub fn rows(&self) -> usize {
        self.state.num_rows()
    }

    /// Heap bytes held.
    pub fn size_bytes(&self) -> usize {
        self.state.get_array_memory_size() + self.keys.as_ref().map_or(0, Rows::size)
    }

    /// Whether any group has a null in this key column.
    pub fn has_null_keys(&self, key: usize) -> bool {
        self.state
            .columns()
            .get(key)
            .is_none_or(|column| column.null_count() > 0)
    }

    pub(super) fn state(&self, rows: Range<usize>) -> RecordBatch {
        self.state.slice(rows.start, rows.len())
    }

    pub(super) fn key(&self, row: usize) -> &[u8] {
        self.keys.as_ref().map_or(&[], |keys| keys.row(row).data())
    }

    /// The end of those rows of `within` whose keys are at most `key`.
    pub(super) fn through(&self, within: Range<usize>, key: &[u8]) -> usize {
        partition_point(within, |row| self.key(row) <= key)
    }

    /// The first of those rows of `within` whose keys are at least `key`.
    pub(super) fn from(&self, within: Range<usize>, key: &[u8]) -> usize {
        partition_point(within, |row| self.key(row) < key)
    }
}
