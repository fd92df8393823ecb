use std::any::Any;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use anabranch_model::ErrorKind;
use arrow::array::RecordBatch;
use arrow::datatypes::Fields;
use arrow::error::ArrowError;
use bytes::{Buf, Bytes};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};

use crate::plan::wanted_roots;

/// One Parquet file of the master dataset, as the fetcher hands it over.
pub struct InputFile {
    /// Path in the master dataset; files must come in ascending path order.
    pub path: String,
    pub bytes: FileBytes,
    /// The file's footer when the fetcher has read it already. Needed when `bytes` is sparse.
    pub metadata: Option<Arc<ParquetMetaData>>,
    /// Which of its rows count; `None` when all do.
    pub selection: Option<Arc<dyn RowSelection>>,
    /// Dropped as soon as the kernel has folded the whole file; a fetcher hangs its read-ahead permit here.
    pub guard: Option<Box<dyn Any + Send + Sync>>,
}

impl InputFile {
    /// A file that is wholly in memory.
    pub fn whole(path: impl Into<String>, bytes: Bytes) -> Self {
        Self {
            path: path.into(),
            bytes: FileBytes::Whole(bytes),
            metadata: None,
            selection: None,
            guard: None,
        }
    }
}

/// Decides which rows of a file count. What it drops is as if the file did not hold it.
pub trait RowSelection: Send + Sync {
    /// Columns it looks at, with the types it wants them in.
    fn columns(&self) -> Fields;

    /// The rows of `batch` that count, with all its columns.
    ///
    /// # Errors
    /// When the batch does not fit the columns.
    fn select(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError>;
}

/// Why the next file could not be delivered.
#[derive(Debug)]
pub struct InputError {
    pub kind: ErrorKind,
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The bytes of a file, or those parts of it that are going to be read.
#[derive(Clone, Debug)]
pub enum FileBytes {
    Whole(Bytes),
    /// Some ranges of a file of `len` bytes.
    Sparse {
        len: u64,
        /// (start, bytes), ascending, not overlapping.
        parts: Arc<[(u64, Bytes)]>,
    },
}

impl FileBytes {
    /// Ranges of a file of `len` bytes: `(start, bytes)` in any order, not overlapping.
    pub fn sparse(len: u64, mut parts: Vec<(u64, Bytes)>) -> Self {
        parts.sort_by_key(|(start, _)| *start);
        Self::Sparse {
            len,
            parts: parts.into(),
        }
    }

    /// Bytes held in memory.
    pub fn held_bytes(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Sparse { parts, .. } => parts.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
        }
    }

    /// What is held from `start` on, up to the end of the part that contains it.
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let (part_start, bytes) = match self {
            Self::Whole(bytes) => (0, bytes),
            Self::Sparse { parts, .. } => {
                let after = parts.partition_point(|(part_start, _)| *part_start <= start);
                let (part_start, bytes) = after
                    .checked_sub(1)
                    .and_then(|i| parts.get(i))
                    .ok_or_else(|| absent(start))?;
                (*part_start, bytes)
            }
        };
        let within = usize::try_from(start - part_start).map_err(|_| absent(start))?;
        if within > bytes.len() {
            return Err(absent(start));
        }
        Ok(bytes.slice(within..))
    }
}

fn absent(start: u64) -> ParquetError {
    ParquetError::EOF(format!("no bytes were fetched at offset {start}"))
}

impl Length for FileBytes {
    fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Sparse { len, .. } => *len,
        }
    }
}

impl ChunkReader for FileBytes {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            let cause = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(ParquetError::EOF(format!(
                "{length} bytes wanted at {start}, {} are there: {cause}",
                bytes.len()
            )));
        }
        Ok(bytes.slice(..length))
    }
}

/// The byte ranges of a file that hold the column chunks of `columns` (top-level names), ascending, neighbours joined.
/// A fetcher that reads only these builds its [`FileBytes::sparse`] from them.
///
/// # Errors
/// When the footer's offsets are impossible.
pub fn projected_ranges(metadata: &ParquetMetaData, columns: &[String]) -> Result<Vec<Range<u64>>, ParquetError> {
    let mask = wanted_roots(metadata.file_metadata().schema_descr(), columns);
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for group in metadata.row_groups() {
        for (leaf, chunk) in group.columns().iter().enumerate() {
            if mask.leaf_included(leaf) {
                let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
                let bounds = u64::try_from(start)
                    .ok()
                    .zip(u64::try_from(chunk.compressed_size()).ok());
                let (start, len) = bounds
                    .ok_or_else(|| ParquetError::General("negative offset or size of a column chunk".to_owned()))?;
                ranges.push(start..start + len);
            }
        }
    }
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    Ok(joined)
}

#[cfg(test)]
mod tests;
