//! Which landed rows count: those of a range of offsets that are neither excluded nor expired.

use std::collections::BTreeMap;

use anabranch_model::{Offset, OffsetRange, OffsetVector, PartitionId, RangeSet, columns};
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type};

use crate::error::{Error, Result};
use crate::master::{DataFile, Notes};

/// Decides which rows of the master dataset count, by partition and offset. Of most files it knows without reading a row
/// that all of them do, or none. Dead letters are no events and always pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowFilter {
    /// What is dropped, per partition.
    dropped: BTreeMap<PartitionId, RangeSet>,
    /// Whether all rows of partitions that are not listed are dropped.
    others_dropped: bool,
}

impl RowFilter {
    /// Keeps what the notes do not exclude and what has not expired; of that only what is at or behind `from` and before
    /// `to`. A partition that is absent from either has not begun there: all of it lies behind `from`, and none of it before
    /// `to`.
    pub fn new(notes: &Notes, from: Option<&OffsetVector>, to: Option<&OffsetVector>) -> Self {
        let mut dropped = notes.excluded();
        let before = |offset: Offset| OffsetRange::new(Offset(i64::MIN), offset);
        for (partition, start) in notes.since.iter().chain(from.into_iter().flat_map(OffsetVector::iter)) {
            dropped.entry(partition).or_default().extend([before(start)]);
        }
        let Some(to) = to else {
            return Self {
                dropped,
                others_dropped: false,
            };
        };
        let kept_before = |(partition, end): (PartitionId, Offset)| {
            let mut ranges = dropped.remove(&partition).unwrap_or_default();
            ranges.extend([OffsetRange::new(end, Offset(i64::MAX))]);
            (partition, ranges)
        };
        Self {
            dropped: to.iter().map(kept_before).collect(),
            others_dropped: true,
        }
    }

    /// Drops these positions, and nothing else.
    pub fn dropping(dropped: impl IntoIterator<Item = (PartitionId, RangeSet)>) -> Self {
        Self {
            dropped: dropped.into_iter().collect(),
            others_dropped: false,
        }
    }

    /// Whether it drops nothing at all.
    pub fn keeps_all(&self) -> bool {
        self.dropped.is_empty() && !self.others_dropped
    }

    /// Columns that [`apply`](Self::apply) needs in a batch.
    pub fn columns() -> Fields {
        Fields::from(vec![
            Field::new(columns::PARTITION, DataType::Int32, true),
            Field::new(columns::OFFSET, DataType::Int64, true),
        ])
    }

    /// Whether the event at this offset counts.
    pub fn keeps(&self, partition: PartitionId, offset: Offset) -> bool {
        match self.dropped.get(&partition) {
            Some(dropped) => !dropped.contains(offset),
            None => !self.others_dropped,
        }
    }

    /// Whether every event of `range` counts.
    pub fn keeps_range(&self, partition: PartitionId, range: OffsetRange) -> bool {
        match self.dropped.get(&partition) {
            Some(dropped) => !dropped.intersects(range),
            None => !self.others_dropped || range.is_empty(),
        }
    }

    /// Whether no event of `range` counts.
    pub fn drops_range(&self, partition: PartitionId, range: OffsetRange) -> bool {
        match self.dropped.get(&partition) {
            Some(dropped) => dropped.covers(range),
            None => self.others_dropped || range.is_empty(),
        }
    }

    /// Whether every row of this file counts: it can be read without the columns of this filter.
    pub fn is_all(&self, file: &DataFile) -> bool {
        file.dead || self.keeps_all() || self.keeps_ranges(&file.ranges)
    }

    /// Whether no row of this file counts: it need not be read.
    pub fn is_none(&self, file: &DataFile) -> bool {
        !file.dead && self.drops_ranges(&file.ranges)
    }

    /// Where nothing is known of a file's ranges, nothing is known of its rows.
    fn keeps_ranges(&self, ranges: &BTreeMap<PartitionId, OffsetRange>) -> bool {
        !ranges.is_empty()
            && ranges
                .iter()
                .all(|(partition, range)| self.keeps_range(*partition, *range))
    }

    fn drops_ranges(&self, ranges: &BTreeMap<PartitionId, OffsetRange>) -> bool {
        !ranges.is_empty()
            && ranges
                .iter()
                .all(|(partition, range)| self.drops_range(*partition, *range))
    }

    /// The rows that count, in their order, with all columns of the batch. A batch of which nothing is dropped is not
    /// copied.
    ///
    /// # Errors
    /// `Data` when the batch lacks a column of [`columns`](Self::columns).
    pub fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        if self.keeps_all() || batch.num_rows() == 0 {
            return Ok(batch.clone());
        }
        let Some(mask) = self.mask(batch)? else {
            return Ok(batch.clone());
        };
        filter_record_batch(batch, &mask).map_err(|source| Error::Arrow {
            column: columns::OFFSET.to_owned(),
            source,
        })
    }

    /// True where a row counts; `None` when all rows do.
    fn mask(&self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        let missing = |name: &str| Error::Arrow {
            column: name.to_owned(),
            source: arrow::error::ArrowError::SchemaError("a row filter needs this column".to_owned()),
        };
        let column = |name: &'static str| batch.column_by_name(name).ok_or_else(|| missing(name));
        let partitions = column(columns::PARTITION)?
            .as_primitive_opt::<Int32Type>()
            .ok_or_else(|| missing(columns::PARTITION))?;
        let offsets = column(columns::OFFSET)?
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(|| missing(columns::OFFSET))?;
        if partitions.null_count() + offsets.null_count() > 0 {
            return Err(missing(columns::OFFSET));
        }
        let mut stretch = Stretch::default();
        let mut all = true;
        let kept: BooleanArray = partitions
            .values()
            .iter()
            .zip(offsets.values())
            .map(|(partition, offset)| {
                // Rows of one partition lie together and in order, so one look-up serves many.
                if !stretch.holds(*partition, *offset) {
                    stretch = self.stretch(PartitionId(*partition), Offset(*offset));
                }
                all &= stretch.kept;
                Some(stretch.kept)
            })
            .collect();
        Ok((!all).then_some(kept))
    }

    fn stretch(&self, partition: PartitionId, offset: Offset) -> Stretch {
        let (range, dropped) = match self.dropped.get(&partition) {
            Some(dropped) => dropped.stretch(offset),
            None => (
                OffsetRange::new(Offset(i64::MIN), Offset(i64::MAX)),
                self.others_dropped,
            ),
        };
        Stretch {
            partition: partition.0,
            start: range.start.0,
            end: range.end.0,
            kept: !dropped,
        }
    }
}

/// Offsets around a row for which the answer is the same.
#[derive(Default)]
struct Stretch {
    partition: i32,
    start: i64,
    end: i64,
    kept: bool,
}

impl Stretch {
    fn holds(&self, partition: i32, offset: i64) -> bool {
        partition == self.partition && self.start <= offset && offset < self.end
    }
}

#[cfg(test)]
mod tests;
