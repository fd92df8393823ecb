use std::ops::Range;
use std::sync::Arc;

use anabranch_view::View;
use arrow::array::{BooleanArray, BooleanBufferBuilder, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};

use super::{Block, Live, Selection, finalise, merge_all, of_arrow, of_view};
use crate::Error;

/// In which order blocks are given to a [`Merging`], and rows come out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Blocks ascending, rows of a block in any order.
    #[default]
    Any,
    /// By key, nulls first.
    Ascending,
    /// By key from its end, nulls last.
    Descending,
}

/// Goes through the selected blocks of a batch view and the realtime state of one answer side by side.
pub struct Merging {
    view: View,
    live: Arc<Live>,
    /// Rows of `live` that have not come out yet.
    left: Range<usize>,
    selection: Selection,
    order: Order,
    /// Of a global aggregate: everything so far, which gives one row in the end.
    global: Vec<RecordBatch>,
}

impl Merging {
    /// Of all of `live`.
    pub fn new(view: &View, live: impl Into<Arc<Live>>, selection: &Selection, order: Order) -> Self {
        let live = live.into();
        let all = 0..live.rows();
        Self::of_part(view, live, all, selection, order)
    }

    /// Of some rows of `live`, as [`BlockIndex::divide`](super::BlockIndex::divide) gives them.
    pub fn of_part(view: &View, live: Arc<Live>, rows: Range<usize>, selection: &Selection, order: Order) -> Self {
        Self {
            view: view.clone(),
            live,
            left: rows,
            selection: selection.clone(),
            order,
            global: Vec::new(),
        }
    }

    /// The answer's rows up to the end of this block, which is the next one in order of those that are selected.
    ///
    /// # Errors
    /// When the view cannot finalise them.
    pub fn block(&mut self, block: &Block) -> Result<Vec<RecordBatch>, Error> {
        let (Some(first), Some(last)) = (block.first_key(), block.last_key()) else {
            if block.rows() > 0 {
                self.global.push(block.state().clone());
            }
            return Ok(Vec::new());
        };
        let met = if self.order == Order::Descending {
            let start = self.live.from(self.left.clone(), first);
            let met = start..self.left.end;
            self.left.end = start;
            met
        } else {
            let end = self.live.through(self.left.clone(), last);
            let met = self.left.start..end;
            self.left.start = end;
            met
        };
        let spans = block.spans(self.selection.ranges());
        if met.is_empty() {
            return self.of_batch(block, &spans);
        }
        let (touched, at) = touched(block, &self.live, met.clone());
        let rest = self
            .selection
            .apply(&self.view, without(&self.view, block, &spans, &touched)?)?;
        let mut meeting = vec![self.live.state(met)];
        if !at.is_empty() {
            let touched = take_record_batch(block.state(), &UInt32Array::from(at));
            meeting.push(touched.map_err(|source| of_arrow(&self.view, source))?);
        }
        let met = merge_all(&self.view, meeting.iter())?;
        if self.order == Order::Any || rest.num_rows() == 0 {
            let parts = [rest, met].into_iter().filter(|part| part.num_rows() > 0);
            return parts.map(|part| self.finalised(&part)).collect();
        }
        let both = concat_batches(&self.view.state_schema(), [&rest, &met]);
        let both = both.map_err(|source| of_arrow(&self.view, source))?;
        let sorted = self.view.sort_state(&both);
        Ok(vec![
            self.finalised(&sorted.map_err(|source| of_view(&self.view, source))?)?,
        ])
    }

    /// The answer's rows behind the last block.
    ///
    /// # Errors
    /// When the view cannot finalise them.
    pub fn rest(&mut self) -> Result<Vec<RecordBatch>, Error> {
        let left = std::mem::replace(&mut self.left, 0..0);
        if self.view.key_count() == 0 {
            let mut states = std::mem::take(&mut self.global);
            states.push(self.live.state(left));
            return Ok(vec![finalise(&self.view, &merge_all(&self.view, states.iter())?)?]);
        }
        if left.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![self.finalised(&self.live.state(left))?])
    }

    /// The answer where realtime state has nothing to say.
    fn of_batch(&self, block: &Block, spans: &[Range<usize>]) -> Result<Vec<RecordBatch>, Error> {
        let whole = spans.iter().map(Range::len).sum::<usize>() == block.rows();
        if whole && self.selection.filter.is_none() {
            return Ok(vec![self.ordered(block.finalise(&self.view)?)?]);
        }
        let selected = self
            .selection
            .apply(&self.view, without(&self.view, block, spans, &[])?)?;
        if selected.num_rows() == 0 {
            return Ok(Vec::new());
        }
        Ok(vec![self.finalised(&selected)?])
    }

    fn finalised(&self, state: &RecordBatch) -> Result<RecordBatch, Error> {
        self.ordered(finalise(&self.view, state)?)
    }

    fn ordered(&self, rows: RecordBatch) -> Result<RecordBatch, Error> {
        let count = u32::try_from(rows.num_rows()).unwrap_or(u32::MAX);
        if self.order != Order::Descending || count < 2 {
            return Ok(rows);
        }
        let backwards = UInt32Array::from_iter_values((0..count).rev());
        take_record_batch(&rows, &backwards).map_err(|source| of_arrow(&self.view, source))
    }
}

/// The rows of a block that have realtime state among `met`: as a mask over the block, and their numbers, ascending.
fn touched(block: &Block, live: &Live, met: Range<usize>) -> (Vec<bool>, Vec<u32>) {
    let (mut mask, mut numbers) = (vec![false; block.rows()], Vec::new());
    let mut from = 0;
    for row in met {
        match block.find(from, live.key(row)) {
            Ok(at) => {
                mask[at] = true;
                numbers.push(u32::try_from(at).unwrap_or(u32::MAX));
                from = at + 1;
            }
            Err(at) => from = at,
        }
    }
    (mask, numbers)
}

/// The rows of some runs that are not `left_out` (a mask over the block; empty leaves out none).
fn without(view: &View, block: &Block, spans: &[Range<usize>], left_out: &[bool]) -> Result<RecordBatch, Error> {
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
        return Ok(block.state().slice(0, 0));
    };
    let hull = block.state().slice(first.start, last.end - first.start);
    if spans.len() == 1 && left_out.is_empty() {
        return Ok(hull);
    }
    let mut mask = BooleanBufferBuilder::new(hull.num_rows());
    let mut at = first.start;
    for span in spans {
        mask.append_n(span.start - at, false);
        for row in span.clone() {
            mask.append(!left_out.get(row).copied().unwrap_or(false));
        }
        at = span.end;
    }
    let mask = BooleanArray::new(mask.finish(), None);
    filter_record_batch(&hull, &mask).map_err(|source| of_arrow(view, source))
}
