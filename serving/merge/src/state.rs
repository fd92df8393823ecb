//! Merging a batch view with realtime state.
//!
//! A batch view is a sequence of [`Block`]s in key order, of which a [`BlockIndex`] knows where each begins and ends; who holds
//! the blocks, and where, is the caller's affair. [`Live`] is the realtime state of one answer, one row a group, in key
//! order. [`Merging`] goes through both side by side and finalises block by block, so an answer needs no more memory than
//! one block, and stops where its reader stops.

mod block;
mod index;
mod live;
mod merging;

use std::sync::Arc;

use anabranch_view::{KeyFilter, KeyRanges, View};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;

pub use block::Block;
pub use index::{BlockIndex, OutOfOrder};
pub use live::Live;
pub use merging::{Merging, Order};

use crate::Error;

/// Rows per block of a batch view in memory: what is finalised again when realtime state touches one group of it.
const BLOCK_ROWS: usize = 8192;

/// One batch view in memory: all of its blocks.
pub struct BatchState {
    index: BlockIndex,
    blocks: Vec<Arc<Block>>,
}

impl BatchState {
    /// Takes the state rows of a batch view, in file order. Rows out of order or split groups are put right here, once, so
    /// that a look-up can rely on order and uniqueness.
    ///
    /// # Errors
    /// When the batches are not of the view's state schema.
    pub fn new(view: &View, batches: Vec<RecordBatch>) -> Result<Self, Error> {
        for batch in &batches {
            check_schema(view, "batch", batch)?;
        }
        if let Some(state) = Self::cut(view, &batches)? {
            return Ok(state);
        }
        let sorted = sort_whole(view, &batches)?;
        let state = Self::cut(view, &[sorted])?;
        state.ok_or_else(|| of_arrow(view, ArrowError::ComputeError("sorted keys are not ascending".into())))
    }

    /// `None` when rows are out of order.
    fn cut(view: &View, batches: &[RecordBatch]) -> Result<Option<Self>, Error> {
        let (mut index, mut blocks) = (BlockIndex::new(view), Vec::new());
        for block in batches.iter().flat_map(|batch| cut_blocks(view, batch, BLOCK_ROWS)) {
            let block = block?;
            if index.push(&block).is_err() {
                return Ok(None);
            }
            blocks.push(Arc::new(block.caching()));
        }
        Ok(Some(Self { index, blocks }))
    }

    /// Groups held.
    pub fn rows(&self) -> usize {
        self.index.rows()
    }
}

/// Cuts a batch of state into blocks of at most `rows` rows.
pub fn cut_blocks<'b>(
    view: &'b View,
    batch: &'b RecordBatch,
    rows: usize,
) -> impl Iterator<Item = Result<Block, Error>> + 'b {
    let rows = rows.max(1);
    (0..batch.num_rows())
        .step_by(rows)
        .map(move |start| Block::new(view, batch.slice(start, rows.min(batch.num_rows() - start))))
}

/// Merges state whose rows are out of order or whose groups are split, and sorts it.
///
/// # Errors
/// When it is not the view's.
pub fn sort_whole(view: &View, batches: &[RecordBatch]) -> Result<RecordBatch, Error> {
    merge_all(view, batches.iter())
}

/// Which groups an answer is about. Without a filter: all.
#[derive(Clone, Default)]
pub struct Selection {
    filter: Option<Arc<KeyFilter>>,
}

impl Selection {
    /// Every group.
    pub fn all() -> Self {
        Self::default()
    }

    /// The groups that pass `filter`.
    pub fn filtered(filter: Arc<KeyFilter>) -> Self {
        Self { filter: Some(filter) }
    }

    /// Where the groups are, in key order; `None` when they may be anywhere.
    pub fn ranges(&self) -> Option<&KeyRanges> {
        self.filter.as_ref()?.ranges()
    }

    /// The selected groups of some state.
    ///
    /// # Errors
    /// When it is not state of the view.
    pub fn of(&self, view: &View, state: &RecordBatch) -> Result<RecordBatch, Error> {
        check_schema(view, "realtime", state)?;
        self.apply(view, state.clone())
    }

    fn apply(&self, view: &View, state: RecordBatch) -> Result<RecordBatch, Error> {
        match &self.filter {
            Some(filter) if state.num_rows() > 0 => filter.apply(&state).map_err(|source| of_view(view, source)),
            _ => Ok(state),
        }
    }
}

/// Merges a batch view with realtime state and finalises the selected groups. Order of rows is not defined.
///
/// # Errors
/// When state is not of the view's schema, or the view cannot finalise it.
pub fn answer(
    view: &View,
    batch: Option<&BatchState>,
    realtime: &[RecordBatch],
    selection: &Selection,
) -> Result<Vec<RecordBatch>, Error> {
    let mut merging = Merging::new(view, Live::new(view, realtime, selection)?, selection, Order::Any);
    let mut rows = Vec::new();
    if let Some(batch) = batch {
        for number in batch.index.select(selection) {
            rows.extend(merging.block(&batch.blocks[number])?);
        }
    }
    rows.extend(merging.rest()?);
    Ok(rows)
}

/// Merges any state of a view, groups repeated or not, and finalises it: the plain meaning of [`answer`].
///
/// # Errors
/// When state is not of the view's schema, or the view cannot finalise it.
pub fn merge_states(view: &View, batch: &[RecordBatch], realtime: &[RecordBatch]) -> Result<RecordBatch, Error> {
    for (what, states) in [("batch", batch), ("realtime", realtime)] {
        for state in states {
            check_schema(view, what, state)?;
        }
    }
    finalise(view, &merge_all(view, batch.iter().chain(realtime))?)
}

/// One row a group, in key order.
fn merge_all<'b>(view: &View, states: impl Iterator<Item = &'b RecordBatch>) -> Result<RecordBatch, Error> {
    let mut aggregator = view.aggregator().map_err(|source| of_view(view, source))?;
    for state in states {
        aggregator.merge(state).map_err(|source| of_view(view, source))?;
    }
    aggregator.emit_sorted().map_err(|source| of_view(view, source))
}

fn finalise(view: &View, state: &RecordBatch) -> Result<RecordBatch, Error> {
    view.finalise(state).map_err(|source| of_view(view, source))
}

/// State travels through Parquet and Flight, which keep types but not all metadata: types are what counts.
fn check_schema(view: &View, what: &'static str, state: &RecordBatch) -> Result<(), Error> {
    let expected = view.state_schema();
    let found = state.schema();
    let types = |schema: &SchemaRef| -> Vec<DataType> {
        schema.fields().iter().map(|field| field.data_type().clone()).collect()
    };
    let same = expected.fields().len() == found.fields().len()
        && expected
            .fields()
            .iter()
            .zip(found.fields())
            .all(|(mine, theirs)| mine.data_type().equals_datatype(theirs.data_type()));
    if same {
        return Ok(());
    }
    Err(Error::Schema {
        view: view.name().to_owned(),
        what,
        found: format!("{:?}", types(&found)),
        expected: format!("{:?}", types(&expected)),
    })
}

fn of_view(view: &View, source: anabranch_view::Error) -> Error {
    Error::View {
        view: view.name().to_owned(),
        source,
    }
}

fn of_arrow(view: &View, source: ArrowError) -> Error {
    Error::Arrow {
        view: view.name().to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
