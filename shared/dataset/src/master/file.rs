//! What the table knows of each of its files without opening it: how much, of which partitions, which offsets, from when.

use std::collections::BTreeMap;

use anabranch_model::{Offset, OffsetRange, OffsetVector, PartitionId, columns};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use object_store::path::Path;
use serde::{Deserialize, Serialize};

/// One Parquet file of the master dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Relative to the store.
    pub path: Path,
    pub bytes: u64,
    pub rows: u64,
    /// Whether its rows are dead letters.
    pub dead: bool,
    /// Per partition the smallest range of consumer positions that holds its rows. Empty when it is not known (files of
    /// tables that were begun before this was recorded, or written by other tools): any partition, any offset.
    pub ranges: BTreeMap<PartitionId, OffsetRange>,
    /// When the log received the rows of each partition (`_timestamp`). A partition is absent when that is not known of
    /// all its rows.
    pub times: BTreeMap<PartitionId, TimeSpan>,
}

/// From the first to the last of some moments, in microseconds since the epoch. Both are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, i64)", into = "(i64, i64)")]
pub struct TimeSpan {
    pub first_us: i64,
    pub last_us: i64,
}

impl TimeSpan {
    /// The shortest span that contains both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            first_us: self.first_us.min(other.first_us),
            last_us: self.last_us.max(other.last_us),
        }
    }
}

impl From<(i64, i64)> for TimeSpan {
    fn from((first_us, last_us): (i64, i64)) -> Self {
        Self { first_us, last_us }
    }
}

impl From<TimeSpan> for (i64, i64) {
    fn from(span: TimeSpan) -> Self {
        (span.first_us, span.last_us)
    }
}

impl DataFile {
    /// Describes a file that holds exactly the rows of these batches. Its ranges stay unknown when a batch does not say
    /// where its rows are from.
    pub fn of_batches(path: Path, bytes: u64, dead: bool, batches: &[RecordBatch]) -> Self {
        let mut extent = Extent::default();
        let known = batches.iter().all(|batch| extent.add(batch).is_some());
        let Extent { ranges, times } = if known { extent } else { Extent::default() };
        Self {
            path,
            bytes,
            rows: batches.iter().map(|batch| batch.num_rows() as u64).sum(),
            dead,
            ranges,
            times: times.into_iter().filter_map(|(p, span)| Some((p, span?))).collect(),
        }
    }

    /// Whether the file may hold rows of this part of a partition.
    pub fn may_hold(&self, partition: PartitionId, range: OffsetRange) -> bool {
        if self.ranges.is_empty() {
            return true;
        }
        self.ranges
            .get(&partition)
            .is_some_and(|held| held.start < range.end && range.start < held.end)
    }

    /// Whether the file may hold rows at or beyond `from`. A partition that `from` does not name begins there.
    pub fn reaches_beyond(&self, from: &OffsetVector) -> bool {
        self.ranges.is_empty()
            || self
                .ranges
                .iter()
                .any(|(partition, held)| from.get(*partition).is_none_or(|from| from < held.end))
    }

    /// Whether all its rows lie before `end`. Never so when its ranges are not known.
    pub fn ends_before(&self, end: &OffsetVector) -> bool {
        !self.ranges.is_empty() && !self.reaches_beyond(end)
    }
}

/// Ranges and times of rows, gathered batch by batch.
#[derive(Debug, Default)]
struct Extent {
    ranges: BTreeMap<PartitionId, OffsetRange>,
    /// `None`: a row of the partition has no time.
    times: BTreeMap<PartitionId, Option<TimeSpan>>,
}

impl Extent {
    /// Adds a batch; `None` when it does not say where its rows are from.
    fn add(&mut self, batch: &RecordBatch) -> Option<()> {
        let partitions = batch
            .column_by_name(columns::PARTITION)?
            .as_primitive_opt::<Int32Type>()?;
        let offsets = batch.column_by_name(columns::OFFSET)?.as_primitive_opt::<Int64Type>()?;
        if partitions.null_count() + offsets.null_count() > 0 {
            return None;
        }
        let times = batch
            .column_by_name(columns::TIMESTAMP)
            .and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        let (partitions, offsets) = (partitions.values(), offsets.values());
        let mut start = 0;
        // Rows of a partition mostly follow each other.
        for rows in partitions.chunk_by(|a, b| a == b) {
            let run = start..start + rows.len();
            start = run.end;
            let partition = PartitionId(rows[0]);
            for offset in &offsets[run.clone()] {
                let one = OffsetRange::new(Offset(*offset), Offset(offset.saturating_add(1)));
                self.ranges
                    .entry(partition)
                    .and_modify(|range| *range = hull(*range, one))
                    .or_insert(one);
            }
            let span = times.and_then(|times| {
                run.map(|row| {
                    times
                        .is_valid(row)
                        .then(|| TimeSpan::from((times.value(row), times.value(row))))
                })
                .reduce(|a, b| Some(a?.union(b?)))?
            });
            self.times
                .entry(partition)
                .and_modify(|known| *known = known.zip(span).map(|(known, span)| known.union(span)))
                .or_insert(span);
        }
        Some(())
    }
}

/// The smallest range that contains both.
fn hull(a: OffsetRange, b: OffsetRange) -> OffsetRange {
    OffsetRange {
        start: a.start.min(b.start),
        end: a.end.max(b.end),
    }
}

#[cfg(test)]
mod tests;
