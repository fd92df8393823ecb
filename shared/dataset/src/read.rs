//! Reading Parquet files column by column: fetching is asynchronous, decoding is not.
//!
//! ```text
//! DataReader::open ──► footer          .fetch(row groups) ──► RowGroups          .decode(rows) ──► record batches
//!        async, one request                async, only the wanted columns            CPU only: for Rayon or spawn_blocking
//! ```

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use futures::{FutureExt, TryFutureExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::async_reader::MetadataFetch;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::reader::{ChunkReader, Length};

use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::master::DataFile;
use crate::store::Store;

mod adapt;

pub use adapt::adapt;

/// How much of a file's end is fetched in the hope that it holds the whole footer.
const FOOTER_GUESS_BYTES: usize = 64 * 1024;
/// Files of up to this size are read whole at once: a second request would cost more than the bytes.
const WHOLE_FILE_BYTES: u64 = 64 * 1024;
/// Rows per batch of [`read_columns`].
const STREAM_BATCH_ROWS: usize = 32 * 1024;

/// An opened Parquet file, of which only some columns are wanted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DataReader {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
    /// The whole of a small file.
    whole: Option<Bytes>,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    /// What decoded batches look like.
    columns: SchemaRef,
}

impl DataReader {
    /// Reads the footer of the file at `path`, `bytes` long. Batches will have exactly the schema `columns`: those that the
    /// file lacks (declared after it was written) are null.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer, `Data` when this is no Parquet file.
    pub async fn open(store: &Store, path: &Path, bytes: u64, columns: &SchemaRef) -> Result<Self> {
        Self::open_with(store, path, bytes, |_| columns.clone()).await
    }

    /// As [`open`](Self::open), for all columns that the file has.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_whole(store: &Store, path: &Path, bytes: u64) -> Result<Self> {
        let all = |schema: &Schema| Arc::new(Schema::new(schema.fields().clone()));
        Self::open_with(store, path, bytes, all).await
    }

    /// As [`open`](Self::open), for columns that are chosen by what the file has.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(
        store: &Store,
        path: &Path,
        bytes: u64,
        columns: impl FnOnce(&Schema) -> SchemaRef,
    ) -> Result<Self> {
        let mut fetch = Fetch {
            objects: store.objects(),
            path,
        };
        let (whole, metadata) = if bytes <= WHOLE_FILE_BYTES {
            let whole = fetch.fetch(0..bytes).await.map_err(Error::parquet(path))?;
            let metadata = ParquetMetaDataReader::new().parse_and_finish(&whole);
            (Some(whole), metadata)
        } else {
            let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_GUESS_BYTES));
            (None, reader.load_and_finish(fetch, bytes).await)
        };
        let metadata = metadata.map_err(Error::parquet(path))?;
        let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new())
            .map_err(Error::parquet(path))?;
        let columns = columns(metadata.schema());
        let wanted = metadata
            .schema()
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| columns.field_with_name(field.name()).is_ok())
            .map(|(root, _)| root);
        let mask = ProjectionMask::roots(metadata.parquet_schema(), wanted);
        let (objects, path) = (store.objects().clone(), path.clone());
        Ok(Self {
            inner: Arc::new(Inner {
                objects,
                path,
                bytes,
                whole,
                metadata,
                mask,
                columns,
            }),
        })
    }

    /// Number of row groups.
    pub fn row_groups(&self) -> usize {
        self.inner.metadata.metadata().num_row_groups()
    }

    /// Rows of one row group.
    pub fn rows(&self, row_group: usize) -> u64 {
        self.inner.metadata.metadata().row_group(row_group).num_rows().max(0) as u64
    }

    /// Bytes that fetching one row group moves: compressed, wanted columns only.
    pub fn fetch_bytes(&self, row_group: usize) -> u64 {
        self.inner.ranges(row_group).map(|range| range.end - range.start).sum()
    }

    /// Bytes of one row group's wanted columns when decompressed, as Parquet encodes them.
    pub fn decoded_bytes(&self, row_group: usize) -> u64 {
        let group = self.inner.metadata.metadata().row_group(row_group);
        let leaves = (0..group.num_columns()).filter(|leaf| self.inner.mask.leaf_included(*leaf));
        leaves
            .map(|leaf| group.column(leaf).uncompressed_size().max(0) as u64)
            .sum()
    }

    /// What decoded batches look like.
    pub fn schema(&self) -> &SchemaRef {
        &self.inner.columns
    }

    /// Columns of the file itself, wanted or not.
    pub fn file_schema(&self) -> &Schema {
        self.inner.metadata.schema()
    }

    /// Fetches the wanted columns of some row groups into memory (a small file is there already, whole).
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn fetch(&self, row_groups: Range<usize>) -> Result<RowGroups> {
        let chunks = match &self.inner.whole {
            Some(whole) => vec![(0, whole.clone())],
            None => self.inner.fetch(row_groups.clone()).await?,
        };
        let chunks = Chunks {
            chunks,
            file_bytes: self.inner.bytes,
        };
        Ok(RowGroups {
            file: self.inner.clone(),
            row_groups,
            chunks,
        })
    }
}

impl Inner {
    /// The wanted columns of some row groups, by where they start.
    async fn fetch(&self, row_groups: Range<usize>) -> Result<Vec<(u64, Bytes)>> {
        let mut ranges: Vec<Range<u64>> = row_groups.flat_map(|group| self.ranges(group)).collect();
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        ranges.sort_unstable_by_key(|range| range.start);
        let bytes = self
            .objects
            .get_ranges(&self.path, &ranges)
            .await
            .map_err(Error::store("read", &self.path))?;
        Ok(ranges.into_iter().map(|range| range.start).zip(bytes).collect())
    }

    /// Where the wanted columns of a row group lie.
    fn ranges(&self, row_group: usize) -> impl Iterator<Item = Range<u64>> + '_ {
        let group = self.metadata.metadata().row_group(row_group);
        (0..group.num_columns())
            .filter(|leaf| self.mask.leaf_included(*leaf))
            .map(|leaf| {
                let (start, length) = group.column(leaf).byte_range();
                start..start + length
            })
    }
}

/// The fetched, still encoded columns of some row groups of one file.
#[derive(Clone, Debug)]
pub struct RowGroups {
    file: Arc<Inner>,
    row_groups: Range<usize>,
    chunks: Chunks,
}

impl RowGroups {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.chunks.chunks.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Decodes batches of at most `batch_rows` rows, in file order. Does no I/O.
    ///
    /// # Errors
    /// `Data` when the bytes are no valid Parquet, or do not fit the wanted columns.
    pub fn decode(self, batch_rows: usize) -> Result<Batches> {
        let Self {
            file,
            row_groups,
            chunks,
        } = self;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, file.metadata.clone())
            .with_projection(file.mask.clone())
            .with_row_groups(row_groups.collect())
            .with_batch_size(batch_rows)
            .build()
            .map_err(Error::parquet(&file.path))?;
        Ok(Batches { reader, file })
    }
}

/// Decoded batches of one file.
pub struct Batches {
    reader: ParquetRecordBatchReader,
    file: Arc<Inner>,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        Some(match batch {
            Ok(batch) => adapt(&batch, &self.file.columns),
            Err(error) => Err(Error::parquet(&self.file.path)(error.into())),
        })
    }
}

/// Streams the wanted columns of one data file, in file order, decoding on tokio's blocking pool. Two row groups at a time are
/// in memory. Batches have exactly the schema `columns`.
pub fn read_columns(
    store: &Store,
    file: &DataFile,
    columns: &SchemaRef,
) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static + use<> {
    let (store, path, bytes, columns) = (store.clone(), file.path.clone(), file.bytes, columns.clone());
    let environment = store.environment().clone();
    let open = async move { DataReader::open(&store, &path, bytes, &columns).await };
    open.map_ok(move |reader| {
        let groups = stream::iter(0..reader.row_groups());
        groups
            .map(move |group| read_row_group(environment.clone(), reader.clone(), group))
            .buffered(2)
            .try_flatten()
    })
    .try_flatten_stream()
}

async fn read_row_group(
    environment: Environment,
    reader: DataReader,
    group: usize,
) -> Result<impl Stream<Item = Result<RecordBatch>> + Send> {
    let fetched = reader.fetch(group..group + 1).await?;
    let decode = move || fetched.decode(STREAM_BATCH_ROWS)?.collect::<Result<Vec<_>>>();
    let batches = environment.offload(decode).await.map_err(|source| Error::Task {
        task: "decoding Parquet",
        source,
    })??;
    Ok(stream::iter(batches.into_iter().map(Ok)))
}

struct Fetch<'s> {
    objects: &'s Arc<dyn ObjectStore>,
    path: &'s Path,
}

impl MetadataFetch for Fetch<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        let bytes = self.objects.get_range(self.path, range);
        // Kept whole, so that the caller can tell an absent store from a broken file.
        bytes
            .map_err(|source| ParquetError::External(Box::new(Error::store("read", self.path)(source))))
            .boxed()
    }
}

/// The parts of a file that were fetched, by where they start, ascending.
#[derive(Clone, Debug)]
struct Chunks {
    chunks: Vec<(u64, Bytes)>,
    file_bytes: u64,
}

impl Chunks {
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let after = self.chunks.partition_point(|(at, _)| *at <= start);
        let found = after.checked_sub(1).map(|index| &self.chunks[index]);
        found
            .and_then(|(at, bytes)| {
                let skip = usize::try_from(start - at).ok()?;
                (skip <= bytes.len()).then(|| bytes.slice(skip..))
            })
            .ok_or_else(|| ParquetError::General(format!("byte {start} was not fetched")))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.file_bytes
    }
}

impl ChunkReader for Chunks {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let rest = self.from(start)?;
        if rest.len() < length {
            return Err(ParquetError::EOF(format!(
                "{length} bytes at {start} run past what was fetched"
            )));
        }
        Ok(rest.slice(..length))
    }
}

#[cfg(test)]
mod tests;
