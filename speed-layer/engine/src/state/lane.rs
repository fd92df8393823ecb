//! One instance's runs for one view: pure bookkeeping on ranges.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anabranch_model::{Offset, OffsetRange};
use anabranch_view::{Aggregator, KeyCodec, KeyFilter, KeyHashes, KeyIndex, KeyOrder, KeyRanges, View};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use crate::Error;

/// Immutable partial state of one offset range.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) range: OffsetRange,
    /// `None` when no event of the range reached this instance's part of the view.
    pub(crate) state: Option<RecordBatch>,
    /// Of the state.
    state_bytes: usize,
    /// Made when groups are asked for by whole keys.
    hashes: OnceLock<KeyHashes>,
    /// Made when groups are asked for by ranges of keys.
    order: OnceLock<Order>,
    /// How often a small run was looked through for groups by key.
    looked_through: AtomicUsize,
}

/// How groups are found by ranges of keys.
#[derive(Debug)]
enum Order {
    /// Of rows in the order of their keys.
    Sorted(KeyIndex),
    /// Of few rows in any order.
    Any(KeyOrder),
    /// Many rows in no order are looked through.
    None,
}

impl Order {
    fn new(codec: &KeyCodec, state: &RecordBatch) -> Result<Self, Error> {
        if state.num_rows() < INDEXED_GROUPS {
            return Ok(Self::Any(KeyOrder::new(codec, state)?));
        }
        Ok(KeyIndex::new(codec, state)?.map_or(Self::None, Self::Sorted))
    }

    fn near(&self, ranges: &KeyRanges) -> Near {
        match self {
            Self::Sorted(index) => Near::Spans(index.spans(ranges)),
            Self::Any(order) => Near::Rows(order.rows(ranges)),
            Self::None => Near::Anywhere,
        }
    }

    fn size_bytes(&self) -> usize {
        match self {
            Self::Sorted(index) => index.size_bytes(),
            Self::Any(order) => order.size_bytes(),
            Self::None => 0,
        }
    }
}

/// Where the groups may be that a filter keeps.
enum Near {
    Anywhere,
    Spans(Vec<std::ops::Range<usize>>),
    Rows(Vec<u32>),
}

/// Runs of at least so many groups are written in the order of their keys, and looked up rather than looked through.
pub(crate) const INDEXED_GROUPS: usize = 4096;
/// A smaller run is looked through so often, and once more for each so many of its groups, before its keys are sorted: from
/// then on that has cost less than it saves, and of a run that is merged away before, nobody has sorted anything.
const LOOKED_THROUGH: usize = 2;
const GROUPS_OF_A_LOOK: usize = 128;

/// Empties an aggregator into the state of a run.
pub(crate) fn emit_run(aggregator: &mut Aggregator) -> Result<RecordBatch, anabranch_view::Error> {
    if aggregator.groups() >= INDEXED_GROUPS {
        aggregator.emit_sorted()
    } else {
        aggregator.emit()
    }
}

impl Run {
    pub(crate) fn new(range: OffsetRange, state: Option<RecordBatch>) -> Self {
        let state = state.filter(|state| state.num_rows() > 0);
        let state_bytes = state.as_ref().map_or(0, RecordBatch::get_array_memory_size);
        Self {
            range,
            state,
            state_bytes,
            hashes: OnceLock::new(),
            order: OnceLock::new(),
            looked_through: AtomicUsize::new(0),
        }
    }

    /// The groups that pass the filter: of a large run, only those near their keys are looked at.
    pub(crate) fn select(&self, view: &View, filter: Option<&KeyFilter>) -> Result<Vec<RecordBatch>, Error> {
        let Some(state) = &self.state else {
            return Ok(Vec::new());
        };
        let Some(filter) = filter else {
            return Ok(vec![state.clone()]);
        };
        let near = match filter.ranges() {
            Some(ranges) => self.near(view, state, ranges)?,
            None => Near::Anywhere,
        };
        let mut selected = Vec::new();
        let mut keep = |near: &RecordBatch| {
            let kept = filter.apply(near)?;
            if kept.num_rows() > 0 {
                selected.push(kept);
            }
            Ok::<_, Error>(())
        };
        match near {
            Near::Anywhere => keep(state)?,
            Near::Spans(spans) => {
                for span in spans {
                    keep(&state.slice(span.start, span.len()))?;
                }
            }
            Near::Rows(rows) if rows.is_empty() => {}
            Near::Rows(rows) => keep(&take_record_batch(state, &UInt32Array::from(rows))?)?,
        }
        Ok(selected)
    }

    /// Where the groups of the ranges are.
    fn near(&self, view: &View, state: &RecordBatch, ranges: &KeyRanges) -> Result<Near, Error> {
        let Some(codec) = view.key_codec() else {
            return Ok(Near::Anywhere);
        };
        let known = match ranges.hashes() {
            Some(_) => self.hashes.get().is_some(),
            None => self.order.get().is_some(),
        };
        if !known && state.num_rows() < INDEXED_GROUPS {
            let looked_through = self.looked_through.fetch_add(1, Ordering::Relaxed);
            if looked_through < LOOKED_THROUGH + state.num_rows() / GROUPS_OF_A_LOOK {
                return Ok(Near::Anywhere);
            }
        }
        if let Some(wanted) = ranges.hashes() {
            let hashes = match self.hashes.get() {
                Some(known) => known,
                None => {
                    let made = KeyHashes::new(codec, state)?;
                    self.hashes.get_or_init(|| made)
                }
            };
            return Ok(Near::Rows(hashes.rows(wanted)));
        }
        let order = match self.order.get() {
            Some(known) => known,
            None => {
                let made = Order::new(codec, state)?;
                self.order.get_or_init(|| made)
            }
        };
        Ok(order.near(ranges))
    }

    /// Groups that have to be looked at, sorted or filtered to find those of the ranges: none where they can be looked up.
    pub(crate) fn groups_to_look_at(&self, ranges: &KeyRanges) -> usize {
        let looked_up = match ranges.hashes() {
            Some(_) => self.hashes.get().is_some(),
            None => matches!(self.order.get(), Some(Order::Sorted(_) | Order::Any(_))),
        };
        if looked_up { 0 } else { self.rows() }
    }

    /// Bytes held: of the state, and of what finds its groups by key.
    pub(crate) fn bytes(&self) -> usize {
        let hashes = self.hashes.get().map_or(0, KeyHashes::size_bytes);
        self.state_bytes + hashes + self.order.get().map_or(0, Order::size_bytes)
    }

    pub(crate) fn rows(&self) -> usize {
        self.state.as_ref().map_or(0, RecordBatch::num_rows)
    }
}

/// A gapless sequence of runs that begins at `begin`.
#[derive(Debug)]
pub(crate) struct Lane {
    begin: Offset,
    runs: Vec<Arc<Run>>,
}

/// Where a cut lies in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// At the start of run `first` (or at the end of the lane).
    From { first: usize },
    /// Before everything that is held.
    TooOld,
    /// Inside a run.
    Straddles,
    /// Behind everything that is held.
    Ahead,
}

impl Lane {
    pub(crate) fn new(begin: Offset) -> Self {
        Self {
            begin,
            runs: Vec::new(),
        }
    }

    pub(crate) fn begin(&self) -> Offset {
        self.begin
    }

    pub(crate) fn end(&self) -> Offset {
        self.runs.last().map_or(self.begin, |run| run.range.end)
    }

    pub(crate) fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// Appends a run.
    ///
    /// # Errors
    /// Returns the lane's end when the run does not begin there.
    pub(crate) fn push(&mut self, run: Run) -> Result<(), Offset> {
        if run.range.start != self.end() {
            return Err(self.end());
        }
        if !run.range.is_empty() {
            self.runs.push(Arc::new(run));
        }
        Ok(())
    }

    pub(crate) fn locate(&self, cut: Offset) -> Held {
        if cut < self.begin {
            return Held::TooOld;
        }
        if cut > self.end() {
            return Held::Ahead;
        }
        let first = self.runs.partition_point(|run| run.range.start < cut);
        let at = self.runs.get(first).map_or(self.end(), |run| run.range.start);
        if at == cut {
            Held::From { first }
        } else {
            Held::Straddles
        }
    }

    /// The largest boundary of this lane that is not behind `limit`.
    fn boundary_at_or_before(&self, limit: Offset) -> Offset {
        let whole = self.runs.partition_point(|run| run.range.end <= limit);
        whole
            .checked_sub(1)
            .map_or(self.begin, |last| self.runs[last].range.end)
    }

    /// The runs of `[cut, end)`; `None` when either is no boundary.
    pub(crate) fn between(&self, cut: Offset, end: Offset) -> Option<&[Arc<Run>]> {
        match (self.locate(cut), self.locate(end)) {
            (Held::From { first }, Held::From { first: behind }) if first <= behind => Some(&self.runs[first..behind]),
            _ => None,
        }
    }

    /// Replaces adjacent runs by their merge. Leaves the lane alone, and returns false, when they are no longer all there.
    pub(crate) fn replace(&mut self, old: &[Arc<Run>], merged: Run) -> bool {
        let Some(first) = old.first() else { return false };
        let Some(at) = self.runs.iter().position(|run| Arc::ptr_eq(run, first)) else {
            return false;
        };
        let there =
            self.runs.len() >= at + old.len() && self.runs[at..].iter().zip(old).all(|(a, b)| Arc::ptr_eq(a, b));
        if there {
            self.runs.splice(at..at + old.len(), [Arc::new(merged)]);
        }
        there
    }

    /// Drops the runs that end at or before `cut`; returns how many. A run that straddles the cut stays.
    pub(crate) fn drop_below(&mut self, cut: Offset) -> usize {
        let count = self.runs.partition_point(|run| run.range.end <= cut);
        if count > 0 {
            self.begin = self.runs[count - 1].range.end;
            self.runs.drain(..count);
        }
        count
    }

    /// Replaces everything before `through` by `base`, which covers `[from, through)`. The caller has checked that
    /// `through` is a boundary.
    pub(crate) fn rebase(&mut self, from: Offset, through: Offset, base: Vec<Arc<Run>>) {
        let behind = self.runs.partition_point(|run| run.range.end <= through);
        self.runs.splice(..behind, base);
        self.begin = from;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes()).sum()
    }
}

/// The end of the prefix that every lane can answer: the largest offset that is a boundary in all of them.
pub(crate) fn common_end<'a>(lanes: impl Iterator<Item = &'a Lane> + Clone) -> Option<Offset> {
    let mut end = lanes.clone().map(Lane::end).min()?;
    loop {
        let lower = lanes.clone().map(|lane| lane.boundary_at_or_before(end)).min()?;
        if lower == end {
            return Some(end);
        }
        // A lane that begins behind `end` cannot go lower; the caller's cut check finds that out.
        if lower > end {
            return Some(end);
        }
        end = lower;
    }
}

#[cfg(test)]
mod tests;
