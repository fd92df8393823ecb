//! K-way merge of sorted runs by group key.

use std::vec;

use anabranch_view::View;
use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::row::{Row, RowConverter, Rows, SortField};

use crate::Error;
use crate::spill::{SpillFile, SpillReader};

/// Rows per batch of the merged result.
pub(crate) const OUTPUT_ROWS: usize = 8192;

/// State sorted by key (ascending, nulls first), in memory or in a spill file.
pub(crate) struct Run {
    source: RunSource,
    groups: u64,
}

enum RunSource {
    Memory(RecordBatch),
    Spilled(SpillFile),
}

impl Run {
    pub(crate) fn memory(state: RecordBatch) -> Self {
        Self {
            groups: state.num_rows() as u64,
            source: RunSource::Memory(state),
        }
    }

    pub(crate) fn spilled(file: SpillFile, groups: u64) -> Self {
        Self {
            source: RunSource::Spilled(file),
            groups,
        }
    }

    pub(crate) fn groups(&self) -> u64 {
        self.groups
    }

    fn batches(self) -> Result<RunBatches, Error> {
        Ok(match self.source {
            RunSource::Memory(state) => {
                let starts: Vec<usize> = (0..state.num_rows()).step_by(OUTPUT_ROWS).collect();
                RunBatches::Memory(state, starts.into_iter())
            }
            RunSource::Spilled(file) => RunBatches::Spilled {
                reader: Box::new(file.reader()?),
                _file: file,
            },
        })
    }
}

/// A run, batch by batch.
pub(crate) enum RunBatches {
    Memory(RecordBatch, vec::IntoIter<usize>),
    Spilled {
        reader: Box<SpillReader>,
        /// Removed when its reader is done with it.
        _file: SpillFile,
    },
}

impl Iterator for RunBatches {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Memory(state, starts) => {
                let start = starts.next()?;
                Some(Ok(state.slice(start, OUTPUT_ROWS.min(state.num_rows() - start))))
            }
            Self::Spilled { reader, .. } => reader.next(),
        }
    }
}

/// Merges runs whose groups are disjoint into batches of [`OUTPUT_ROWS`] rows, in key order.
pub(crate) enum SortedMerge {
    Empty,
    /// One run needs no comparing.
    Single(RunBatches),
    Many(Box<KeyMerge>),
}

impl SortedMerge {
    pub(crate) fn new(view: &View, runs: Vec<Run>) -> Result<Self, Error> {
        let mut runs: Vec<Run> = runs.into_iter().filter(|run| run.groups() > 0).collect();
        Ok(match runs.len() {
            0 => Self::Empty,
            1 => Self::Single(runs.remove(0).batches()?),
            _ => Self::Many(Box::new(KeyMerge::new(view, runs)?)),
        })
    }
}

impl Iterator for SortedMerge {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Empty => None,
            Self::Single(run) => run.next(),
            Self::Many(merge) => merge.next_batch().transpose(),
        }
    }
}

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

/// The merge proper: a heap of run indices, ordered by the key under each run's cursor.
pub(crate) struct KeyMerge {
    view: View,
    key_rows: KeyRows,
    cursors: Vec<Cursor>,
    /// Min-heap of indices into `cursors`; exhausted runs are gone from it.
    heap: Vec<usize>,
}

struct Cursor {
    batches: RunBatches,
    batch: RecordBatch,
    keys: Rows,
    row: usize,
}

impl Cursor {
    fn key(&self) -> Row<'_> {
        self.keys.row(self.row)
    }
}

impl KeyMerge {
    fn new(view: &View, runs: Vec<Run>) -> Result<Self, Error> {
        let mut merge = Self {
            view: view.clone(),
            key_rows: KeyRows::new(view)?,
            cursors: Vec::with_capacity(runs.len()),
            heap: Vec::new(),
        };
        for run in runs {
            let mut batches = run.batches()?;
            if let Some(batch) = batches.next().transpose()? {
                let keys = merge.key_rows.of(&batch)?;
                merge.cursors.push(Cursor {
                    batches,
                    batch,
                    keys,
                    row: 0,
                });
            }
        }
        merge.heap = (0..merge.cursors.len()).collect();
        for root in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(root);
        }
        Ok(merge)
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, Error> {
        // Batches the output draws on: the one under each cursor when it is first used, and its successors.
        let mut used: Vec<RecordBatch> = Vec::with_capacity(self.cursors.len());
        let mut used_by: Vec<Option<usize>> = vec![None; self.cursors.len()];
        let mut rows: Vec<(usize, usize)> = Vec::with_capacity(OUTPUT_ROWS);
        while rows.len() < OUTPUT_ROWS
            && let Some(&least) = self.heap.first()
        {
            let cursor = &mut self.cursors[least];
            let batch = *used_by[least].get_or_insert_with(|| {
                used.push(cursor.batch.clone());
                used.len() - 1
            });
            rows.push((batch, cursor.row));
            cursor.row += 1;
            if cursor.row == cursor.batch.num_rows() {
                used_by[least] = None;
                self.advance(least)?;
            }
            self.sift_down(0);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let used: Vec<&RecordBatch> = used.iter().collect();
        interleave_record_batch(&used, &rows)
            .map(Some)
            .map_err(Error::arrow(&self.view))
    }

    /// Moves the run at the heap's root to its next batch, or takes it out.
    fn advance(&mut self, run: usize) -> Result<(), Error> {
        match self.cursors[run].batches.next().transpose()? {
            Some(batch) => {
                let keys = self.key_rows.of(&batch)?;
                let cursor = &mut self.cursors[run];
                (cursor.batch, cursor.keys, cursor.row) = (batch, keys, 0);
            }
            None => {
                self.heap.swap_remove(0);
            }
        }
        Ok(())
    }

    fn sift_down(&mut self, mut root: usize) {
        loop {
            let less = |a: usize, b: usize| self.cursors[self.heap[a]].key() < self.cursors[self.heap[b]].key();
            let mut least = root;
            for child in [2 * root + 1, 2 * root + 2] {
                if child < self.heap.len() && less(child, least) {
                    least = child;
                }
            }
            if least == root {
                return;
            }
            self.heap.swap(root, least);
            root = least;
        }
    }
}
