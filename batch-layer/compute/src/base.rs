//! Two states of one view in key order: merged into one, or side by side.

use std::cmp::Ordering;
use std::sync::Arc;

use anabranch_view::{Aggregator, View};
use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::row::Rows;

use crate::merge::{KeyRows, OUTPUT_ROWS};
use crate::{Error, InputError};

/// State of a view, each group once, sorted by key (ascending, nulls first), batch by batch.
pub type States = Box<dyn Iterator<Item = Result<RecordBatch, Error>> + Send>;

/// A cursor over sorted state. Order is checked on the way, since it may come from a file.
struct Sorted {
    view: View,
    key_rows: Arc<KeyRows>,
    states: States,
    /// The batch under the cursor; `None` at the end.
    batch: Option<RecordBatch>,
    /// Of the batch; empty for a global aggregate, whose one group has no key.
    keys: Option<Rows>,
    row: usize,
    /// Counts batches.
    serial: usize,
    last: Vec<u8>,
}

impl Sorted {
    fn new(view: &View, key_rows: &Arc<KeyRows>, states: States) -> Result<Self, Error> {
        let mut sorted = Self {
            view: view.clone(),
            key_rows: Arc::clone(key_rows),
            states,
            batch: None,
            keys: None,
            row: 0,
            serial: 0,
            last: Vec::new(),
        };
        sorted.load()?;
        Ok(sorted)
    }

    /// Moves to the next batch that has rows.
    fn load(&mut self) -> Result<(), Error> {
        (self.batch, self.keys, self.row) = (None, None, 0);
        while let Some(batch) = self.states.next().transpose()? {
            if batch.num_rows() == 0 {
                continue;
            }
            let keys = match self.view.key_count() {
                0 => None,
                _ => Some(self.key_rows.of(&batch)?),
            };
            self.check_order(keys.as_ref(), batch.num_rows())?;
            (self.batch, self.keys) = (Some(batch), keys);
            self.serial += 1;
            break;
        }
        Ok(())
    }

    /// Every key must be greater than the one before, over the ends of batches too.
    fn check_order(&mut self, keys: Option<&Rows>, rows: usize) -> Result<(), Error> {
        let unsorted = || Error::Unsorted {
            view: self.view.name().to_owned(),
        };
        let Some(keys) = keys else {
            return if self.serial == 0 && rows == 1 {
                Ok(())
            } else {
                Err(unsorted())
            };
        };
        if self.serial > 0 && keys.row(0).data() <= self.last.as_slice() {
            return Err(unsorted());
        }
        if (1..rows).any(|row| keys.row(row - 1) >= keys.row(row)) {
            return Err(unsorted());
        }
        self.last.clear();
        self.last.extend_from_slice(keys.row(rows - 1).data());
        Ok(())
    }

    fn key(&self) -> Option<&[u8]> {
        self.batch.as_ref()?;
        Some(self.keys.as_ref().map_or(&[], |keys| keys.row(self.row).data()))
    }

    fn advance(&mut self) -> Result<(), Error> {
        self.row += 1;
        if self.batch.as_ref().is_none_or(|batch| self.row >= batch.num_rows()) {
            self.load()?;
        }
        Ok(())
    }

    /// What is left of the batch, if all of it comes before `other`; the cursor moves behind it.
    fn stretch_before(&mut self, other: &Self) -> Result<Option<RecordBatch>, Error> {
        let Some(batch) = &self.batch else { return Ok(None) };
        let is_before = match (&self.keys, other.key()) {
            (_, None) => true,
            (Some(keys), Some(key)) => keys.row(batch.num_rows() - 1).data() < key,
            // Of a global aggregate both have the one group.
            (None, Some(_)) => false,
        };
        if !is_before {
            return Ok(None);
        }
        let rest = batch.slice(self.row, batch.num_rows() - self.row);
        self.load()?;
        Ok(Some(rest))
    }
}

/// Orders two cursors by their keys; whichever has ended comes last. `None` when both have.
fn order(a: &Sorted, b: &Sorted) -> Option<Ordering> {
    match (a.key(), b.key()) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some(a), Some(b)) => Some(a.cmp(b)),
    }
}

/// Rows taken from cursors, to be gathered into one batch.
#[derive(Default)]
struct Picked {
    batches: Vec<RecordBatch>,
    /// For each source the serial number of its last batch here, and its place.
    known: [Option<(usize, usize)>; 2],
    rows: Vec<(usize, usize)>,
}

impl Picked {
    /// Takes the row under the cursor of `source`, and moves on.
    fn take(&mut self, source: usize, cursor: &mut Sorted) -> Result<(), Error> {
        let place = match self.known[source] {
            Some((serial, place)) if serial == cursor.serial => place,
            _ => {
                let Some(batch) = &cursor.batch else { return Ok(()) };
                self.batches.push(batch.clone());
                let place = self.batches.len() - 1;
                self.known[source] = Some((cursor.serial, place));
                place
            }
        };
        self.rows.push((place, cursor.row));
        cursor.advance()
    }

    fn gather(&self, view: &View) -> Result<Option<RecordBatch>, Error> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        interleave_record_batch(&batches, &self.rows)
            .map(Some)
            .map_err(Error::arrow(view))
    }
}

/// Merges newer state into older state, in key order and with a few batches in memory. Groups that only one of them has
/// pass as they are; of the others the older state is merged first.
pub(crate) struct BaseMerge {
    view: View,
    older: Sorted,
    newer: Sorted,
    aggregator: Aggregator,
    failed: bool,
}

impl BaseMerge {
    pub(crate) fn new(view: &View, older: States, newer: States) -> Result<Self, Error> {
        let key_rows = Arc::new(KeyRows::new(view)?);
        Ok(Self {
            older: Sorted::new(view, &key_rows, older)?,
            newer: Sorted::new(view, &key_rows, newer)?,
            aggregator: view.aggregator().map_err(Error::view(view))?,
            view: view.clone(),
            failed: false,
        })
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, Error> {
        if let Some(rest) = self.older.stretch_before(&self.newer)? {
            return Ok(Some(rest));
        }
        if let Some(rest) = self.newer.stretch_before(&self.older)? {
            return Ok(Some(rest));
        }
        let (mut picked, mut met) = (Picked::default(), false);
        while picked.rows.len() < OUTPUT_ROWS
            && let Some(order) = order(&self.older, &self.newer)
        {
            if order != Ordering::Greater {
                picked.take(0, &mut self.older)?;
            }
            if order != Ordering::Less {
                picked.take(1, &mut self.newer)?;
            }
            met |= order == Ordering::Equal;
        }
        let Some(rows) = picked.gather(&self.view)? else {
            return Ok(None);
        };
        if !met {
            return Ok(Some(rows));
        }
        // Groups come out in the order in which they came in, which is that of their keys.
        self.aggregator.merge(&rows).map_err(Error::view(&self.view))?;
        self.aggregator.emit().map(Some).map_err(Error::view(&self.view))
    }
}

impl Iterator for BaseMerge {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_batch().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// A stretch of groups of two states.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    /// Groups that both have, row by row: left and right.
    pub both: Option<(RecordBatch, RecordBatch)>,
    pub only_left: Option<RecordBatch>,
    pub only_right: Option<RecordBatch>,
}

/// Two states of a view side by side, in key order, a few thousand groups at a time.
pub struct Pairing {
    view: View,
    left: Sorted,
    right: Sorted,
}

impl Pairing {
    /// # Errors
    /// When a state cannot be read.
    pub fn new(view: &View, left: States, right: States) -> Result<Self, Error> {
        let key_rows = Arc::new(KeyRows::new(view)?);
        Ok(Self {
            left: Sorted::new(view, &key_rows, left)?,
            right: Sorted::new(view, &key_rows, right)?,
            view: view.clone(),
        })
    }

    /// The next stretch; `None` at the end of both.
    ///
    /// # Errors
    /// When a state cannot be read on, or is not sorted.
    pub fn next_pairs(&mut self) -> Result<Option<Pairs>, Error> {
        let [mut left, mut right, mut only_left, mut only_right] = [(); 4].map(|()| Picked::default());
        let mut taken = 0;
        while taken < OUTPUT_ROWS
            && let Some(order) = order(&self.left, &self.right)
        {
            match order {
                Ordering::Less => only_left.take(0, &mut self.left)?,
                Ordering::Greater => only_right.take(1, &mut self.right)?,
                Ordering::Equal => {
                    left.take(0, &mut self.left)?;
                    right.take(1, &mut self.right)?;
                }
            }
            taken += 1;
        }
        if taken == 0 {
            return Ok(None);
        }
        Ok(Some(Pairs {
            both: left.gather(&self.view)?.zip(right.gather(&self.view)?),
            only_left: only_left.gather(&self.view)?,
            only_right: only_right.gather(&self.view)?,
        }))
    }
}

/// State that somebody else delivers, as this crate reads it.
pub fn delivered<I>(states: I) -> States
where
    I: Iterator<Item = Result<RecordBatch, InputError>> + Send + 'static,
{
    Box::new(states.map(|state| state.map_err(|InputError { kind, source }| Error::Input { kind, source })))
}

#[cfg(test)]
mod tests;
