//! Dead letters: records that did not decode, as they were landed.

use std::sync::Arc;

use anabranch_model::{Offset, OffsetRange, OffsetVector, PartitionId, RawRecord, columns};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Field, Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};

use crate::error::{Error, Result};
use crate::letters::Letters;
use crate::master::{DataFile, Snapshot};
use crate::read::read_columns;
use crate::store::Store;

/// Header of a record that was produced from a dead letter: `<redrive>/<partition>/<offset>`.
pub const REDRIVE_HEADER: &str = "anabranch-redrive";

/// A record that did not decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub partition: PartitionId,
    pub offset: Offset,
    /// The log's own time of it, in microseconds since the epoch.
    pub timestamp_us: Option<i64>,
    pub reason: String,
    /// Key, bytes and headers as they came. Its timestamp is left to the log.
    pub record: RawRecord,
}

impl DeadLetter {
    /// The record to produce: as it came, and what it was made of in a header. One that was itself made of a dead letter
    /// names this one instead.
    pub fn again(self, redrive: u64) -> RawRecord {
        let origin = format!("{redrive}/{}/{}", self.partition, self.offset);
        let mut record = self.record;
        record.headers.retain(|(name, _)| name != REDRIVE_HEADER);
        record.headers.push((REDRIVE_HEADER.to_owned(), origin.into_bytes()));
        record
    }
}

/// Which dead letters are meant; each condition that is there must hold.
#[derive(Clone, Debug, Default)]
pub struct WhichLetters {
    pub partition: Option<PartitionId>,
    pub offsets: Option<OffsetRange>,
    /// What the reason contains.
    pub reason: Option<String>,
    pub only: Option<Letters>,
}

impl WhichLetters {
    fn takes(&self, partition: PartitionId, offset: Offset, reason: &str) -> bool {
        self.partition.is_none_or(|wanted| wanted == partition)
            && self
                .offsets
                .is_none_or(|wanted| (wanted.start..wanted.end).contains(&offset))
            && self.reason.as_deref().is_none_or(|part| reason.contains(part))
            && self.only.as_ref().is_none_or(|only| only.contains(partition, offset))
    }

    fn may_be_in(&self, file: &DataFile) -> bool {
        let offsets = self.offsets.unwrap_or(OffsetRange::new(Offset(0), Offset(i64::MAX)));
        let may_hold = |(partition, offsets)| file.may_hold(partition, offsets);
        file.dead
            && self.partition.is_none_or(|partition| may_hold((partition, offsets)))
            && self.only.as_ref().is_none_or(|only| only.spans().any(may_hold))
    }
}

/// Dead letters of a snapshot, some at a time, file by file. A few thousand are in memory at once.
pub fn dead_letters(
    store: &Store,
    snapshot: &Snapshot,
    which: WhichLetters,
) -> impl Stream<Item = Result<Vec<DeadLetter>>> + Send + 'static + use<> {
    let files: Vec<DataFile> = snapshot
        .files
        .iter()
        .filter(|file| which.may_be_in(file))
        .cloned()
        .collect();
    let (store, schema, which) = (store.clone(), letter_schema(), Arc::new(which));
    stream::iter(files).flat_map(move |file| {
        let which = Arc::clone(&which);
        let path = file.path.to_string();
        read_columns(&store, &file, &schema).map(move |batch| letters_of(&batch?, &which, &path))
    })
}

/// Records that a redrive has produced, of those landed at or beyond `from`: the dead letters that they were made of.
///
/// # Errors
/// When a file cannot be read.
pub async fn redriven_since(store: &Store, snapshot: &Snapshot, from: &OffsetVector, redrive: u64) -> Result<Letters> {
    let schema = Arc::new(Schema::new(vec![Field::new(
        columns::HEADERS,
        columns::headers_type(),
        true,
    )]));
    let mut found = Vec::new();
    for file in snapshot.files.iter().filter(|file| file.reaches_beyond(from)) {
        let mut batches = Box::pin(read_columns(store, file, &schema));
        while let Some(batch) = batches.try_next().await? {
            for row in 0..batch.num_rows() {
                let origin = headers_at(&batch, row).into_iter().find_map(|(name, value)| {
                    let origin = (name == REDRIVE_HEADER).then(|| parse_origin(&value))??;
                    (origin.0 == redrive).then_some(origin)
                });
                found.extend(origin.map(|(_, partition, offset)| (partition, offset)));
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn parse_origin(value: &[u8]) -> Option<(u64, PartitionId, Offset)> {
    let mut parts = std::str::from_utf8(value).ok()?.split('/');
    let redrive = parts.next()?.parse().ok()?;
    let partition = PartitionId(parts.next()?.parse().ok()?);
    Some((redrive, partition, Offset(parts.next()?.parse().ok()?)))
}

fn letter_schema() -> SchemaRef {
    Arc::new(Schema::new(columns::record_fields().to_vec()))
}

fn letters_of(batch: &RecordBatch, which: &WhichLetters, path: &str) -> Result<Vec<DeadLetter>> {
    let corrupt = |column: &str| Error::corrupt(&path, format!("column {column} is missing or of another type"));
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| corrupt(name));
    let partitions = column(columns::PARTITION)?
        .as_primitive_opt::<Int32Type>()
        .ok_or_else(|| corrupt(columns::PARTITION))?;
    let offsets = column(columns::OFFSET)?
        .as_primitive_opt::<Int64Type>()
        .ok_or_else(|| corrupt(columns::OFFSET))?;
    let timestamps = column(columns::TIMESTAMP)?.as_primitive_opt::<TimestampMicrosecondType>();
    let bytes = |name: &'static str| -> Result<_> { column(name)?.as_binary_opt::<i32>().ok_or_else(|| corrupt(name)) };
    let (keys, raws) = (bytes(columns::KEY)?, bytes(columns::RAW)?);
    let reasons = column(columns::REASON)?
        .as_string_opt::<i32>()
        .ok_or_else(|| corrupt(columns::REASON))?;
    let mut letters = Vec::new();
    for row in 0..batch.num_rows() {
        let place = (PartitionId(partitions.value(row)), Offset(offsets.value(row)));
        let reason = if reasons.is_valid(row) { reasons.value(row) } else { "" };
        if !which.takes(place.0, place.1, reason) {
            continue;
        }
        letters.push(DeadLetter {
            partition: place.0,
            offset: place.1,
            timestamp_us: timestamps.filter(|at| at.is_valid(row)).map(|at| at.value(row)),
            reason: reason.to_owned(),
            record: RawRecord {
                key: keys.is_valid(row).then(|| keys.value(row).to_vec()),
                payload: raws.is_valid(row).then(|| raws.value(row).to_vec()),
                headers: headers_at(batch, row),
                timestamp_ms: None,
            },
        });
    }
    Ok(letters)
}

/// The headers of one row; a value that is null reads as empty.
fn headers_at(batch: &RecordBatch, row: usize) -> Vec<(String, Vec<u8>)> {
    let column = batch
        .column_by_name(columns::HEADERS)
        .and_then(|column| column.as_map_opt());
    let Some(headers) = column.filter(|headers| headers.is_valid(row)) else {
        return Vec::new();
    };
    let entries = headers.value(row);
    let (Some(names), Some(values)) = (
        entries.column(0).as_string_opt::<i32>(),
        entries.column(1).as_binary_opt::<i32>(),
    ) else {
        return Vec::new();
    };
    let value = |at: usize| {
        if values.is_valid(at) {
            values.value(at).to_vec()
        } else {
            Vec::new()
        }
    };
    (0..entries.len())
        .map(|at| (names.value(at).to_owned(), value(at)))
        .collect()
}

#[cfg(test)]
mod tests;
