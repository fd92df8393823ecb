//! The rows of a live query as a list whose every row knows since when it is what it is. Pure.
//!
//! Each look at the view gives the list a new position. What a reader lacks that stands at an earlier one is then told by the
//! list itself: rows that came to be what they are since, and keys that went since. So no reader needs a memory of its own,
//! however far it is behind.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Keys that went are remembered for readers that are behind: so many, and those who are further behind begin anew.
const MOST_GONE: usize = 20_000;

/// One row: both parts are JSON arrays.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: Arc<[u8]>,
    pub(crate) cells: Box<[u8]>,
    /// Position from which on it has these cells and stands where it stands among its unchanged neighbours.
    since: u64,
}

/// The list at one position.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    position: u64,
    list: Vec<Arc<Row>>,
    /// Position at which a key went, in ascending order. It may have come back since.
    gone: VecDeque<(u64, Arc<[u8]>)>,
    /// Readers at earlier positions cannot be told any more what went.
    horizon: u64,
}

/// What a reader of an earlier position lacks: drop the keys of both parts, then put each changed row, in order, to its place.
#[derive(Debug, Default)]
pub(crate) struct Changes<'r> {
    /// Place in the whole list, ascending.
    pub(crate) changed: Vec<(usize, &'r Row)>,
    pub(crate) gone: Vec<&'r [u8]>,
}

impl Rows {
    /// The first list. Keys must differ.
    pub(crate) fn new(position: u64, rows: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        let row = |(key, cells)| Arc::new(Row::new(key, cells, position));
        Self {
            position,
            list: rows.into_iter().map(row).collect(),
            gone: VecDeque::new(),
            horizon: position,
        }
    }

    /// The list as it became. Rows that stayed what they were are shared with the former list.
    pub(crate) fn next(&self, rows: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        let position = self.position + 1;
        let mut former: HashMap<&[u8], (usize, &Arc<Row>)> = self
            .list
            .iter()
            .enumerate()
            .map(|(place, row)| (&*row.key, (place, row)))
            .collect();
        // Rows that are called unchanged must stand in their former order, because that is how readers keep them.
        let mut least_place = 0;
        let mut list = Vec::with_capacity(rows.len());
        for (key, cells) in rows {
            list.push(match former.remove(key.as_slice()) {
                Some((place, row)) if *row.cells == *cells && place >= least_place => {
                    least_place = place + 1;
                    Arc::clone(row)
                }
                _ => Arc::new(Row::new(key, cells, position)),
            });
        }
        let (mut gone, mut horizon) = (self.gone.clone(), self.horizon);
        gone.extend(former.into_values().map(|(_, row)| (position, Arc::clone(&row.key))));
        while gone.len() > MOST_GONE {
            if let Some((position, _)) = gone.pop_front() {
                horizon = position;
            }
        }
        Self {
            position,
            list,
            gone,
            horizon,
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn list(&self) -> &[Arc<Row>] {
        &self.list
    }

    /// What came after `position`; `None` when that is not known, or not any more.
    pub(crate) fn since(&self, position: u64) -> Option<Changes<'_>> {
        if position < self.horizon || position > self.position {
            return None;
        }
        let places = self.list.iter().map(AsRef::as_ref).enumerate();
        let changed: Vec<(usize, &Row)> = places.filter(|(_, row)| row.since > position).collect();
        // A key that went and came back is a changed row, and one that went twice goes once.
        let mut told: HashSet<&[u8]> = changed.iter().map(|(_, row)| &*row.key).collect();
        let first = self.gone.partition_point(|(at, _)| *at <= position);
        let gone = self
            .gone
            .range(first..)
            .map(|(_, key)| &**key)
            .filter(|key| told.insert(key))
            .collect();
        Some(Changes { changed, gone })
    }
}

impl Row {
    fn new(key: Vec<u8>, cells: Vec<u8>, since: u64) -> Self {
        Self {
            key: key.into(),
            cells: cells.into(),
            since,
        }
    }
}

#[cfg(test)]
mod tests;
