//! State in the order of batch view files: that of [`View::sort_state`], computed faster for the many rows a fold ends with.

use anabranch_view::View;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::row::{Row, RowConverter, Rows, SortField};

use crate::Error;

/// Bytes of a key that are compared as one number.
const WORD_BYTES: usize = 16;

/// Group keys as bytes that compare like the keys: ascending, nulls first.
pub(crate) struct KeyRows {
    view: View,
    converter: RowConverter,
}

impl KeyRows {
    pub(crate) fn new(view: &View) -> Result<Self, Error> {
        let schema = view.state_schema();
        let fields = schema.fields()[..view.key_count()].iter();
        let fields = fields.map(|field| SortField::new(field.data_type().clone())).collect();
        Ok(Self {
            view: view.clone(),
            converter: RowConverter::new(fields).map_err(Error::arrow(view))?,
        })
    }

    pub(crate) fn of(&self, state: &RecordBatch) -> Result<Rows, Error> {
        let keys = &state.columns()[..self.view.key_count()];
        self.converter.convert_columns(keys).map_err(Error::arrow(&self.view))
    }
}

/// Sorts state, in which each group stands once, by key.
pub(crate) fn sort_state(view: &View, state: &RecordBatch) -> Result<RecordBatch, Error> {
    if view.key_count() == 0 || state.num_rows() < 2 {
        return Ok(state.clone());
    }
    let rows = KeyRows::new(view)?.of(state)?;
    // Keys of one view begin alike ("/shop/…", the same day); what all share decides nothing.
    let shared = shared_prefix(&rows);
    let mut order: Vec<(u128, u32)> = (0u32..)
        .zip(&rows)
        .map(|(i, row)| (word(row.data(), shared), i))
        .collect();
    let rest = |i: u32| {
        rows.row(i as usize)
            .data()
            .get(shared + WORD_BYTES..)
            .unwrap_or_default()
    };
    // Equal words are rare, and no two keys are equal, so the order is unique without a stable sort.
    order.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0)
            .then_with(|| rest(a.1).cmp(rest(b.1)))
            .then_with(|| length(&rows, a.1).cmp(&length(&rows, b.1)))
    });
    let order = UInt32Array::from_iter_values(order.into_iter().map(|(_, i)| i));
    take_record_batch(state, &order).map_err(Error::arrow(view))
}

/// Length of the prefix that all rows share.
fn shared_prefix(rows: &Rows) -> usize {
    let mut rows = rows.iter();
    let Some(first) = rows.next() else { return 0 };
    let common = |shared: usize, row: Row<'_>| {
        first.data()[..shared]
            .iter()
            .zip(row.data())
            .take_while(|(a, b)| a == b)
            .count()
    };
    rows.fold(first.data().len(), common)
}

/// The bytes from `start` on as a number that compares like them; what is missing at the end counts as zeros.
fn word(bytes: &[u8], start: usize) -> u128 {
    let bytes = bytes.get(start..).unwrap_or_default();
    let mut word = [0; WORD_BYTES];
    let taken = bytes.len().min(WORD_BYTES);
    word[..taken].copy_from_slice(&bytes[..taken]);
    u128::from_be_bytes(word)
}

/// A key that another continues with zeros comes first.
fn length(rows: &Rows, i: u32) -> usize {
    rows.row(i as usize).data().len()
}

#[cfg(test)]
mod tests;
