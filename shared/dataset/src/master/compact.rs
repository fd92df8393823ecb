//! Compaction: small files are merged into larger ones. The table holds the same rows before and after.
//!
//! ```text
//! files of one tier ──► rows of all, sorted by ──► one new file ──► read back and ──► one commit: removes + add,
//! (similar sizes)       partition and offset                        compared           `dataChange = false`
//! ```
//!
//! Files are merged tier by tier, the smallest first, and a tier waits until it has enough files. So a row is rewritten about
//! once per tier on its way to a full-size file, however small the files are that were landed.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use anabranch_model::{columns, crash_point};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use serde_json::json;
use uuid::Uuid;

use super::commit::{Decision, Outcome, now_ms};
use super::log::{self, Change, Commit, TableState};
use super::{DataFile, MasterDataset, UPLOAD_LIFETIME};
use crate::data_files::data_file_properties;
use crate::error::{Error, Result};
use crate::read::{DataReader, read_columns};
use crate::row_filter::RowFilter;

/// A tier holds files of up to this many times the size of its smallest.
const TIER_RATIO: u64 = 8;
/// The tier of the smallest files: everything below the target size divided by `TIER_RATIO` to this power.
const SMALLEST_TIER: u32 = 4;
/// Files that one compaction merges at most.
const MOST_FILES: usize = 1024;
/// Files read at the same time.
const READS: usize = 8;
/// Rows that are handed to the encoder at once.
const CHUNK_ROWS: usize = 32 * 1024;

/// How files are chosen and merged.
#[derive(Clone, Copy, Debug)]
pub struct Compaction {
    /// A tier of fewer files is left alone, unless they make a full-size file.
    pub min_files: usize,
    /// Size of a merged file. Files of more than half of it are not merged any more.
    pub target_file_bytes: u64,
    /// Rows in memory at the same time, as Parquet encodes them without compression.
    pub memory_bytes: u64,
    pub compression: parquet::basic::Compression,
}

/// Files to be merged into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionPlan {
    pub dead: bool,
    /// In path order, at least two.
    pub files: Vec<DataFile>,
}

/// A file, ready to be read.
type Opened = (DataFile, DataReader);

/// What a compaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The version that has the merged file.
    pub version: u64,
    pub inputs: Vec<DataFile>,
    pub output: DataFile,
}

/// Chooses what to merge next, out of a table's files in path order. Events and dead letters are never mixed.
pub fn plan_compaction(files: &[DataFile], compaction: &Compaction) -> Option<CompactionPlan> {
    [false, true].into_iter().find_map(|dead| {
        let mut tiers: BTreeMap<Reverse<u32>, Vec<&DataFile>> = BTreeMap::new();
        for file in files.iter().filter(|file| file.dead == dead && is_ours(&file.path)) {
            if let Some(tier) = tier(file.bytes, compaction.target_file_bytes) {
                tiers.entry(Reverse(tier)).or_default().push(file);
            }
        }
        tiers
            .values()
            .find_map(|tier| choose(tier, compaction))
            .map(|files| CompactionPlan { dead, files })
    })
}

/// The oldest files of a tier, up to the target size, if they are worth it.
fn choose(tier: &[&DataFile], compaction: &Compaction) -> Option<Vec<DataFile>> {
    let mut bytes = 0;
    let fits = |file: &&&DataFile| {
        bytes += file.bytes;
        bytes <= compaction.target_file_bytes
    };
    let chosen: Vec<DataFile> = tier
        .iter()
        .take(MOST_FILES)
        .take_while(fits)
        .copied()
        .cloned()
        .collect();
    let full = chosen.len() < tier.len();
    let enough = if full { 2 } else { compaction.min_files.max(2) };
    (chosen.len() >= enough).then_some(chosen)
}

/// The tier of a file, counted from full size down; `None` when it is large enough already.
fn tier(bytes: u64, target_bytes: u64) -> Option<u32> {
    let smaller = target_bytes / bytes.max(1);
    (smaller >= 2).then(|| smaller.ilog(TIER_RATIO).min(SMALLEST_TIER))
}

/// Whether the file is named as this crate names files. What another tool wrote may be spelt otherwise in the log than here.
fn is_ours(path: &Path) -> bool {
    path.filename()
        .and_then(|name| name.strip_suffix(".parquet"))
        .is_some_and(|stem| stem.parse::<Uuid>().is_ok())
}

impl MasterDataset {
    /// Merges one group of small files, if there is one worth merging; see [`plan_compaction`]. Others may land, merge and
    /// read meanwhile: the commit is refused if one of the files is gone by then, and never names anything else.
    ///
    /// Files are merged only if they have the same columns: which ones a file has tells when it was written.
    ///
    /// The merged files stay in the store until [`vacuum`](Self::vacuum) removes them.
    ///
    /// # Errors
    /// `Data` when a file cannot be read, or the merged file does not hold exactly the rows of the others. Nothing is
    /// committed then.
    pub async fn compact(&self, compaction: &Compaction) -> Result<Option<Compacted>> {
        let snapshot = self.snapshot(None).await?;
        let Some(plan) = plan_compaction(&snapshot.files, compaction) else {
            return Ok(None);
        };
        let files = plan.files.clone();
        match self.merge(plan, compaction).await {
            Err(error) => {
                self.refresh().await?;
                // Files that another has merged meanwhile, and vacuum removed, cannot be read.
                let all_there = self.with_state(|state| files.iter().all(|file| state.holds(file)));
                if all_there { Err(error) } else { Ok(None) }
            }
            merged => merged,
        }
    }

    async fn merge(&self, plan: CompactionPlan, compaction: &Compaction) -> Result<Option<Compacted>> {
        let begun = self.environment().instant();
        let CompactionPlan { dead, files } = plan;
        let Some((schema, inputs)) = self.alike(files, compaction.memory_bytes).await? else {
            return Ok(None);
        };
        let (inputs, readers): (Vec<DataFile>, Vec<DataReader>) = inputs.into_iter().unzip();
        let batches = self.read_all(readers).await?;
        let expected_rows: u64 = inputs.iter().map(|file| file.rows).sum();
        let (path, table, properties) = (
            self.merged_file_path(dead, &inputs[0].path),
            self.table(),
            data_file_properties(compaction.compression),
        );
        let encode = move || {
            let order = in_order(&batches, &path)?;
            if order.len() as u64 != expected_rows {
                let reason = format!("its inputs hold {} rows, but the log says {expected_rows}", order.len());
                return Err(Error::corrupt(&path, reason));
            }
            if let Some(twice) = order.windows(2).find(|pair| !dead && pair[0].key() == pair[1].key()) {
                let (partition, offset) = twice[0].key();
                let reason = format!("offset {offset} of partition {partition} of `{table}` is landed twice");
                return Err(Error::corrupt(&path, reason));
            }
            let mut writer =
                ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(Error::parquet(&path))?;
            write_in_order(&batches, &order, &schema, &mut writer, &path)?;
            let bytes = Bytes::from(writer.into_inner().map_err(Error::parquet(&path))?);
            let file = DataFile::of_batches(path, bytes.len() as u64, dead, &batches);
            Ok((file, bytes, order))
        };
        let (output, bytes, order) = self.offload("merging files", encode).await?;
        crash_point!("compact.upload.before");
        self.inner.store.put(&output.path, bytes).await?;
        crash_point!("compact.upload.after");
        self.check_merged(&output, &order).await?;
        let id = self.environment().ordered_id();
        let fresh = || self.environment().elapsed(begun) <= UPLOAD_LIFETIME;
        match self.replace(id, &inputs, &output, fresh).await? {
            Some(version) => Ok(Some(Compacted {
                version,
                inputs,
                output,
            })),
            None => {
                tracing::debug!(table = %self.inner.source.name, path = %output.path, "files to be merged are gone; given up");
                // No attempt to commit it can succeed any more: the version it was for is another's.
                let _ = self.inner.store.objects().delete(&output.path).await;
                Ok(None)
            }
        }
    }

    /// Of these files the largest group with the same columns, as far as it fits into memory; `None` unless that is two.
    async fn alike(&self, files: Vec<DataFile>, memory_bytes: u64) -> Result<Option<(SchemaRef, Vec<Opened>)>> {
        let open = |file: DataFile| async move {
            let reader = DataReader::open_whole(&self.inner.store, &file.path, file.bytes).await?;
            Ok::<_, Error>((file, reader))
        };
        let opened: Vec<Opened> = stream::iter(files).map(open).buffered(READS).try_collect().await?;
        // Columns → files that have these, and how many bytes they decode to.
        let mut groups: Vec<(SchemaRef, Vec<Opened>, u64)> = Vec::new();
        for (file, reader) in opened {
            let schema = reader.schema().clone();
            let bytes: u64 = (0..reader.row_groups()).map(|group| reader.decoded_bytes(group)).sum();
            let group = match groups.iter_mut().find(|(of, ..)| *of == schema) {
                Some(group) => group,
                None => {
                    groups.push((schema, Vec::new(), 0));
                    groups.last_mut().expect("one was just pushed")
                }
            };
            if group.2 + bytes <= memory_bytes {
                group.2 += bytes;
                group.1.push((file, reader));
            }
        }
        // The first of the largest: what is oldest is merged first.
        let largest = groups.into_iter().rev().max_by_key(|(_, files, _)| files.len());
        Ok(largest
            .filter(|(_, files, _)| files.len() >= 2)
            .map(|(schema, files, _)| (schema, files)))
    }

    async fn read_all(&self, readers: Vec<DataReader>) -> Result<Vec<RecordBatch>> {
        let read = |reader: DataReader| async move {
            let fetched = reader.fetch(0..reader.row_groups()).await?;
            self.offload("decoding Parquet", move || {
                fetched.decode(CHUNK_ROWS)?.collect::<Result<Vec<_>>>()
            })
            .await
        };
        let batches: Vec<Vec<RecordBatch>> = stream::iter(readers).map(read).buffered(READS).try_collect().await?;
        Ok(batches
            .into_iter()
            .flatten()
            .filter(|batch| batch.num_rows() > 0)
            .collect())
    }

    /// Reads the merged file back from the store: it must hold exactly these rows, in this order.
    async fn check_merged(&self, output: &DataFile, order: &[Place]) -> Result<()> {
        let columns = SchemaRef::from(Schema::new(RowFilter::columns()));
        let mut rest = order;
        let mut found = std::pin::pin!(read_columns(&self.inner.store, output, &columns));
        let differs = || Error::corrupt(&output.path, "the merged file does not hold the rows of its inputs");
        while let Some(batch) = found.try_next().await? {
            let (partitions, offsets) = places(&batch).ok_or_else(differs)?;
            let (these, after) = rest.split_at_checked(batch.num_rows()).ok_or_else(differs)?;
            rest = after;
            let same = these
                .iter()
                .zip(partitions.iter().zip(offsets))
                .all(|(place, (partition, offset))| place.key() == (*partition, *offset));
            if !same {
                return Err(differs());
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(differs()) }
    }

    /// Commits that `output` holds the rows of `inputs`; `None` when one of those is not in the table any more.
    async fn replace(
        &self,
        id: Uuid,
        inputs: &[DataFile],
        output: &DataFile,
        fresh: impl Fn() -> bool,
    ) -> Result<Option<u64>> {
        let removed: Vec<(String, &DataFile)> = inputs
            .iter()
            .map(|file| Ok((self.relative_path(&file.path)?, file)))
            .collect::<Result<_>>()?;
        let added = self.relative_path(&output.path)?;
        let replace = |state: &TableState| {
            if !inputs.iter().all(|file| state.holds(file)) {
                return Ok(Decision::Stop(()));
            }
            if !fresh() {
                let path = output.path.to_string();
                let age = UPLOAD_LIFETIME;
                return Err(Error::StaleUpload { path, age });
            }
            let now_ms = now_ms(self.environment());
            let removes = removed
                .iter()
                .map(|(relative, file)| log::remove_action(relative, file, Change::Layout, now_ms));
            let actions = removes
                .chain([log::add_action(&added, output, Change::Layout, now_ms)])
                .collect();
            let parameters = json!({"files": inputs.len().to_string()});
            let commit = Commit {
                id,
                operation: "OPTIMIZE",
                parameters,
                actions,
            };
            Ok(Decision::Commit(commit, ()))
        };
        crash_point!("compact.commit.before");
        Ok(match self.commit(id, replace).await? {
            Outcome::Committed { version, .. } => {
                crash_point!("compact.commit.after");
                Some(version)
            }
            Outcome::Stopped(()) => None,
        })
    }

    /// A new path that sorts where the first of the merged files did, so that path order stays the order of landing.
    fn merged_file_path(&self, dead: bool, first: &Path) -> Path {
        let random = self.environment().random_id();
        let id = first
            .filename()
            .and_then(|name| name.strip_suffix(".parquet")?.parse::<Uuid>().ok())
            .map_or(random, |first| {
                let tail = u128::MAX >> 48;
                Uuid::from_u128(first.as_u128() & !tail | random.as_u128() & tail)
            });
        self.inner
            .root
            .clone()
            .join(format!("_dead={dead}"))
            .join(format!("{id}.parquet"))
    }

    async fn offload<T: Send + 'static>(
        &self,
        task: &'static str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = self.environment().offload(work).await;
        done.map_err(|source| Error::Task { task, source })?
    }
}

/// Where a row is, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    partition: i32,
    offset: i64,
    batch: u32,
    row: u32,
}

impl Place {
    fn key(&self) -> (i32, i64) {
        (self.partition, self.offset)
    }
}

/// All rows by partition and offset.
fn in_order(batches: &[RecordBatch], path: &Path) -> Result<Vec<Place>> {
    let mut order = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for (index, batch) in (0..).zip(batches) {
        let (partitions, offsets) = places(batch)
            .ok_or_else(|| Error::corrupt(path, "a file to be merged has rows without partition or offset"))?;
        let rows = (0..).zip(partitions.iter().zip(offsets));
        order.extend(rows.map(|(row, (partition, offset))| Place {
            partition: *partition,
            offset: *offset,
            batch: index,
            row,
        }));
    }
    order.sort_unstable();
    Ok(order)
}

/// Partitions and offsets of a batch; `None` when it lacks one.
fn places(batch: &RecordBatch) -> Option<(&[i32], &[i64])> {
    let partitions = batch
        .column_by_name(columns::PARTITION)?
        .as_primitive_opt::<Int32Type>()?;
    let offsets = batch.column_by_name(columns::OFFSET)?.as_primitive_opt::<Int64Type>()?;
    (partitions.null_count() + offsets.null_count() == 0).then(|| (&partitions.values()[..], &offsets.values()[..]))
}

fn write_in_order(
    batches: &[RecordBatch],
    order: &[Place],
    schema: &SchemaRef,
    writer: &mut ArrowWriter<Vec<u8>>,
    path: &Path,
) -> Result<()> {
    let mut pending: Vec<RecordBatch> = Vec::new();
    let mut pending_rows = 0;
    let mut flush = |pending: &mut Vec<RecordBatch>| {
        let chunk = concat_batches(schema, pending.iter()).map_err(|source| Error::Arrow {
            column: "(all)".into(),
            source,
        })?;
        pending.clear();
        writer.write(&chunk).map_err(Error::parquet(path))
    };
    // Files are sorted already, so rows mostly follow each other in the same batch.
    for run in order.chunk_by(|a, b| a.batch == b.batch && a.row + 1 == b.row) {
        let batch = &batches[run[0].batch as usize];
        pending.push(batch.slice(run[0].row as usize, run.len()));
        pending_rows += run.len();
        if pending_rows >= CHUNK_ROWS {
            flush(&mut pending)?;
            pending_rows = 0;
        }
    }
    if pending.is_empty() {
        Ok(())
    } else {
        flush(&mut pending)
    }
}

#[cfg(test)]
mod tests;
