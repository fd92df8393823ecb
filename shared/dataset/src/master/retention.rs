//! Retention: events that the log received too long ago expire, per partition a whole prefix of offsets.
//!
//! A prefix, and not the rows of some time, so that what expired is one offset per partition (`since` in the table's
//! [notes](super::Notes)) by which every layer tells what counts. A row that is older than the rows before it waits for them.
//! Time is `_timestamp`, when the log received the event, and not the event's own time: a late event is not gone as soon as it
//! comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_model::{Offset, OffsetRange, OffsetVector, PartitionId, columns, crash_point};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Field, Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use futures::TryStreamExt;
use serde_json::json;

use super::commit::{Decision, Outcome, now_ms};
use super::log::{self, Change, Commit, TableState};
use super::{DataFile, MasterDataset, Notes, Snapshot, TimeSpan};
use crate::error::Result;
use crate::read::read_columns;
use crate::row_filter::RowFilter;

/// What would expire, or did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expirable {
    /// By partition; only those of which something expires.
    pub partitions: BTreeMap<PartitionId, ExpiringPartition>,
    /// Files of which nothing is left: they are taken out of the table.
    pub files: u64,
    pub bytes: u64,
    /// Files that stay because other rows of theirs do not expire; readers leave out what does.
    pub straddling_files: u64,
}

/// What expires of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiringPartition {
    /// From what had expired before (or where the partition begins) to what expires now.
    pub range: OffsetRange,
    /// Rows, dead letters among them.
    pub rows: u64,
    /// When the log received the oldest and the newest of them.
    pub times: Option<TimeSpan>,
}

impl Expirable {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.files == 0
    }

    /// Rows that expire.
    pub fn rows(&self) -> u64 {
        self.partitions.values().map(|partition| partition.rows).sum()
    }

    /// The first offset of each partition that has not expired.
    pub fn since(&self) -> OffsetVector {
        self.partitions
            .iter()
            .map(|(p, expiring)| (*p, expiring.range.end))
            .collect()
    }
}

impl MasterDataset {
    /// What would expire if events were kept from `cutoff_us` on (microseconds since the epoch, by `_timestamp`). Rows
    /// without a time do not expire, nor do those after them, nor what lies at or beyond `published`, if that is given.
    /// Reads the places and times of rows only of files whose rows expire in part.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer, `Data` when a file cannot be read.
    pub async fn expirable(&self, cutoff_us: i64, published: Option<&OffsetVector>) -> Result<Expirable> {
        let snapshot = self.snapshot(None).await?;
        let mut ends: BTreeMap<PartitionId, Ends> = BTreeMap::new();
        for file in &snapshot.files {
            if file.ends_before(&snapshot.notes.since) {
                continue;
            }
            match judge(file, cutoff_us) {
                Some(known) => known
                    .into_iter()
                    .for_each(|(p, end)| ends.entry(p).or_default().add(end)),
                None => {
                    let mut rows = std::pin::pin!(read_columns(&self.inner.store, file, &columns()));
                    while let Some(batch) = rows.try_next().await? {
                        let kept = RowFilter::new(&only_since(&snapshot.notes), None, None).apply(&batch)?;
                        add_rows(&kept, cutoff_us, &mut ends);
                    }
                }
            }
        }
        let since: OffsetVector = ends
            .into_iter()
            .filter_map(|(partition, ends)| {
                let landed = snapshot.next.get(partition)?;
                let from = begin(&snapshot, partition);
                let mut to = ends.end()?.min(landed);
                if let Some(published) = published {
                    to = to.min(published.get(partition)?);
                }
                (from < to).then_some((partition, to))
            })
            .collect();
        self.describe(&snapshot, &since).await
    }

    /// Declares everything before `since` expired, and takes the files out of the table that end before. `since` never moves
    /// back, nor beyond what is landed. Returns the version, or `None` when nothing changed.
    ///
    /// # Errors
    /// `Unavailable` when it stays unclear whether the commit exists.
    pub async fn expire(&self, since: &OffsetVector) -> Result<Option<u64>> {
        let id = self.environment().ordered_id();
        let expire = |state: &TableState| {
            let landed: OffsetVector = since
                .iter()
                .filter_map(|(p, offset)| Some((p, offset.min(state.next.get(p)?))))
                .collect();
            let mut notes = Notes::clone(&state.notes);
            let advanced = notes.advance(&landed);
            let gone: Vec<&DataFile> = state.files().filter(|file| file.ends_before(&notes.since)).collect();
            if !advanced && gone.is_empty() {
                return Ok(Decision::Stop(()));
            }
            let now_ms = now_ms(self.environment());
            // An append-only table may not lose rows.
            let mut noted = state.noted(&notes)?;
            noted["metaData"]["configuration"][log::APPEND_ONLY] = json!("false");
            let mut actions = vec![noted];
            for file in gone {
                let relative = self.relative_path(&file.path)?;
                actions.push(log::remove_action(&relative, file, Change::Rows, now_ms));
            }
            let parameters = json!({"since": json!(notes.since).to_string()});
            let commit = Commit {
                id,
                operation: "DELETE",
                parameters,
                actions,
            };
            Ok(Decision::Commit(commit, ()))
        };
        crash_point!("retention.commit.before");
        Ok(match self.commit(id, expire).await? {
            Outcome::Committed { version, .. } => {
                crash_point!("retention.commit.after");
                Some(version)
            }
            Outcome::Stopped(()) => None,
        })
    }

    /// Says what goes if everything before `since` does.
    async fn describe(&self, snapshot: &Snapshot, since: &OffsetVector) -> Result<Expirable> {
        let mut partitions: BTreeMap<PartitionId, ExpiringPartition> = since
            .iter()
            .map(|(partition, to)| {
                let range = OffsetRange::new(begin(snapshot, partition), to);
                let (rows, times) = (0, None);
                (partition, ExpiringPartition { range, rows, times })
            })
            .collect();
        let mut all = snapshot.notes.since.clone();
        since.iter().for_each(|(partition, to)| all.set(partition, to));
        let mut expirable = Expirable::default();
        for file in &snapshot.files {
            let touched = partitions
                .iter()
                .any(|(partition, going)| file.may_hold(*partition, going.range));
            if file.ends_before(&all) {
                expirable.files += 1;
                expirable.bytes += file.bytes;
            } else if touched {
                expirable.straddling_files += 1;
            }
            if !touched {
                continue;
            }
            let mut rows = std::pin::pin!(read_columns(&self.inner.store, file, &columns()));
            while let Some(batch) = rows.try_next().await? {
                for (partition, offset, time_us) in placed(&batch) {
                    let Some(going) = partitions.get_mut(&partition) else {
                        continue;
                    };
                    if (going.range.start..going.range.end).contains(&offset) {
                        going.rows += 1;
                        let time = time_us.map(|us| TimeSpan::from((us, us)));
                        going.times = going.times.into_iter().chain(time).reduce(TimeSpan::union);
                    }
                }
            }
        }
        // Where only transaction markers lie, or records that compaction has taken out of the log, nothing expires.
        partitions.retain(|_, expiring| expiring.rows > 0);
        expirable.partitions = partitions;
        Ok(expirable)
    }
}

/// How far a partition may expire: up to the first row that is not old, or behind the last that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ends {
    /// The first row that stays.
    stays: Option<Offset>,
    /// Behind the last row.
    last: Option<Offset>,
}

impl Ends {
    fn add(&mut self, other: Self) {
        self.stays = self.stays.into_iter().chain(other.stays).min();
        self.last = self.last.max(other.last);
    }

    fn end(self) -> Option<Offset> {
        self.stays.or(self.last)
    }
}

/// What a file's ranges and times alone say; `None` when its rows have to be read.
fn judge(file: &DataFile, cutoff_us: i64) -> Option<Vec<(PartitionId, Ends)>> {
    if file.ranges.is_empty() {
        return None;
    }
    let of_partition = |(partition, range): (&PartitionId, &OffsetRange)| {
        let times = file.times.get(partition)?;
        let stays = if times.last_us < cutoff_us {
            None
        } else if times.first_us >= cutoff_us {
            Some(range.start)
        } else {
            return None;
        };
        let last = Some(range.end);
        Some((*partition, Ends { stays, last }))
    };
    file.ranges.iter().map(of_partition).collect()
}

fn add_rows(batch: &RecordBatch, cutoff_us: i64, ends: &mut BTreeMap<PartitionId, Ends>) {
    for (partition, offset, time_us) in placed(batch) {
        let old = time_us.is_some_and(|us| us < cutoff_us);
        ends.entry(partition).or_default().add(Ends {
            stays: (!old).then_some(offset),
            last: Some(Offset(offset.0.saturating_add(1))),
        });
    }
}

/// Rows by place and time. A row without a place is none of ours.
fn placed(batch: &RecordBatch) -> impl Iterator<Item = (PartitionId, Offset, Option<i64>)> + '_ {
    let partitions = batch.column(0).as_primitive::<Int32Type>();
    let offsets = batch.column(1).as_primitive::<Int64Type>();
    let times = batch.column(2).as_primitive::<TimestampMicrosecondType>();
    (0..batch.num_rows())
        .filter(|row| partitions.is_valid(*row) && offsets.is_valid(*row))
        .map(|row| {
            let time_us = times.is_valid(row).then(|| times.value(row));
            (PartitionId(partitions.value(row)), Offset(offsets.value(row)), time_us)
        })
}

/// What tells a row's place and time.
fn columns() -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = RowFilter::columns().iter().cloned().collect();
    fields.push(Arc::new(Field::new(
        columns::TIMESTAMP,
        columns::timestamp_type(),
        true,
    )));
    Arc::new(Schema::new(fields))
}

/// Where a partition begins that something may have expired of.
fn begin(snapshot: &Snapshot, partition: PartitionId) -> Offset {
    let since = snapshot.notes.since.get(partition);
    since.or(snapshot.starts.get(partition)).unwrap_or_default()
}

/// What has expired, without what is excluded: an excluded row still has its time.
fn only_since(notes: &Notes) -> Notes {
    Notes {
        since: notes.since.clone(),
        ..Notes::default()
    }
}

#[cfg(test)]
mod tests;
