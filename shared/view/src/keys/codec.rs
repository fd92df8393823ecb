//! Keys as bytes: comparing the bytes compares the keys, in the order of batch view files.

use std::hash::{DefaultHasher, Hasher};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use super::range::KeyRanges;

/// Rows between two samples of a [`KeyIndex`]: what is looked through once a search has come near.
const SAMPLE_ROWS: usize = 64;

/// Encodes the group keys of one view. The bytes of a key are those of its columns one after the other, each of which says
/// itself where it ends; equal keys have equal bytes, as floats in keys have one spelling.
#[derive(Debug)]
pub struct KeyCodec {
    whole: RowConverter,
    /// One per key column.
    columns: Vec<RowConverter>,
    types: Vec<DataType>,
}

impl KeyCodec {
    /// For the leading `key_count` columns of a state schema; `None` without keys.
    pub(crate) fn new(schema: &Schema, key_count: usize) -> Result<Option<Self>, ArrowError> {
        let fields = schema.fields().iter().take(key_count);
        let types: Vec<DataType> = fields.map(|field| field.data_type().clone()).collect();
        if types.is_empty() {
            return Ok(None);
        }
        let converter = |types: &[DataType]| RowConverter::new(types.iter().cloned().map(SortField::new).collect());
        Ok(Some(Self {
            whole: converter(&types)?,
            columns: types
                .iter()
                .map(|data_type| converter(std::slice::from_ref(data_type)))
                .collect::<Result<_, _>>()?,
            types,
        }))
    }

    /// The keys of state rows.
    ///
    /// # Errors
    /// When the batch is not state of the view.
    pub fn encode(&self, state: &RecordBatch) -> Result<Rows, ArrowError> {
        let Some(keys) = state.columns().get(..self.types.len()) else {
            return Err(ArrowError::SchemaError("state without its keys".into()));
        };
        self.whole.convert_columns(keys)
    }

    /// Number of key columns.
    pub(crate) fn len(&self) -> usize {
        self.types.len()
    }

    /// The bytes of one value of a key column; `None` when it is not of the column's type.
    pub(crate) fn value(&self, key: usize, value: &ArrayRef) -> Option<Vec<u8>> {
        if value.len() != 1 || value.data_type() != &self.types[key] {
            return None;
        }
        let rows = self.columns[key].convert_columns(std::slice::from_ref(value)).ok()?;
        Some(rows.row(0).data().to_vec())
    }

    /// A short number for a whole key: the same in every batch of the view, for as long as the process lives.
    pub(crate) fn hash(key: &[u8]) -> u32 {
        let mut hasher = DefaultHasher::new();
        hasher.write(key);
        (hasher.finish() >> 32) as u32
    }

    /// Whether a comparison with a value means the same for the bytes. Not so for floats, of which several are zero, nor
    /// for what holds other values.
    pub(crate) fn is_searchable(&self, key: usize) -> bool {
        let data_type = &self.types[key];
        !data_type.is_nested() && !data_type.is_floating()
    }
}

/// Finds rows of a sorted state batch by key: knows the key of every so many rows.
#[derive(Debug)]
pub struct KeyIndex {
    samples: Rows,
    rows: usize,
}

impl KeyIndex {
    /// Looks at all keys once; `None` when they do not ascend, as after [`View::sort_state`](crate::View::sort_state).
    ///
    /// # Errors
    /// When the batch is not state of the view.
    pub fn new(codec: &KeyCodec, state: &RecordBatch) -> Result<Option<Self>, ArrowError> {
        let keys = codec.encode(state)?;
        let rows = keys.num_rows();
        if (1..rows).any(|row| keys.row(row - 1) >= keys.row(row)) {
            return Ok(None);
        }
        let mut samples = codec.whole.empty_rows(rows.div_ceil(SAMPLE_ROWS), 0);
        for row in (0..rows).step_by(SAMPLE_ROWS) {
            samples.push(keys.row(row));
        }
        Ok(Some(Self { samples, rows }))
    }

    /// Heap bytes held.
    pub fn size_bytes(&self) -> usize {
        self.samples.size()
    }

    /// Runs of rows, ascending and apart from each other, in which all rows of the ranges are, and few others.
    pub fn spans(&self, ranges: &KeyRanges) -> Vec<std::ops::Range<usize>> {
        let mut spans: Vec<std::ops::Range<usize>> = Vec::new();
        for range in ranges.iter() {
            let found = range.within(self.samples.num_rows(), |sample| self.samples.row(sample).data());
            // The first rows of the range may stand between the sample before and the first one inside.
            let start = found.start.saturating_sub(1) * SAMPLE_ROWS;
            let end = (found.end * SAMPLE_ROWS).min(self.rows);
            if start >= end {
                continue;
            }
            match spans.last_mut() {
                Some(last) if start <= last.end => last.end = last.end.max(end),
                _ => spans.push(start..end),
            }
        }
        spans
    }
}

/// Finds rows of a state batch by whole keys, in whatever order they stand: knows a hash of every key, in eight bytes a row.
#[derive(Debug)]
pub struct KeyHashes {
    /// Hash, then number of the row; ascending.
    entries: Vec<u64>,
}

impl KeyHashes {
    /// Looks at all keys once.
    ///
    /// # Errors
    /// When the batch is not state of the view.
    pub fn new(codec: &KeyCodec, state: &RecordBatch) -> Result<Self, ArrowError> {
        let keys = codec.encode(state)?;
        let count = row_count(&keys)?;
        let entry = |row: u32| u64::from(KeyCodec::hash(keys.row(row as usize).data())) << 32 | u64::from(row);
        let mut entries: Vec<u64> = (0..count).map(entry).collect();
        entries.sort_unstable();
        Ok(Self { entries })
    }

    /// Heap bytes held.
    pub fn size_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<u64>()
    }

    /// Numbers of the rows whose keys have one of these hashes, ascending, each once: all rows of the keys, and now and then
    /// one of another key.
    pub fn rows(&self, hashes: &[u32]) -> Vec<u32> {
        let mut rows = Vec::new();
        for hash in hashes {
            let first = self.entries.partition_point(|entry| ((entry >> 32) as u32) < *hash);
            let same = self.entries[first..]
                .iter()
                .take_while(|entry| (*entry >> 32) as u32 == *hash);
            rows.extend(same.map(|entry| *entry as u32));
        }
        rows.sort_unstable();
        rows.dedup();
        rows
    }
}

fn row_count(keys: &Rows) -> Result<u32, ArrowError> {
    u32::try_from(keys.num_rows())
        .map_err(|_| ArrowError::InvalidArgumentError("a batch of more than 2^32 rows".into()))
}

/// Finds rows by key in a state batch whose rows stand in any order: knows every key, and which row comes after which.
#[derive(Debug)]
pub struct KeyOrder {
    keys: Rows,
    /// Numbers of the rows, by ascending key.
    order: Vec<u32>,
}

impl KeyOrder {
    /// Sorts all keys once.
    ///
    /// # Errors
    /// When the batch is not state of the view.
    pub fn new(codec: &KeyCodec, state: &RecordBatch) -> Result<Self, ArrowError> {
        let keys = codec.encode(state)?;
        let count = row_count(&keys)?;
        let mut order: Vec<u32> = (0..count).collect();
        order.sort_unstable_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
        Ok(Self { keys, order })
    }

    /// Heap bytes held.
    pub fn size_bytes(&self) -> usize {
        self.keys.size() + self.order.capacity() * size_of::<u32>()
    }

    /// Numbers of the rows in the ranges, each once, by ascending key.
    pub fn rows(&self, ranges: &KeyRanges) -> Vec<u32> {
        let key = |at: usize| self.keys.row(self.order[at] as usize).data();
        let mut rows = Vec::new();
        // Ranges ascend and are apart from each other, so each begins where the one before has ended, or behind.
        let mut from = 0;
        for range in ranges.iter() {
            let found = range.within(self.order.len(), key);
            let start = found.start.max(from);
            if start < found.end {
                rows.extend_from_slice(&self.order[start..found.end]);
                from = found.end;
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests;
