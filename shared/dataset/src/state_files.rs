//! A batch view's state as Parquet: group keys and partial state, sorted by key.

use anabranch_model::crash_point;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use tokio::io::AsyncWriteExt;

use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::publications::{BatchView, StateFile};
use crate::read::DataReader;
use crate::store::Store;

/// Rows per row group: small enough that reading a few groups of a big view decodes little.
const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Encoded bytes per row group: sketches are large, and a reader that streams holds one row group.
const ROW_GROUP_BYTES: usize = 64 * 1024 * 1024;
/// Rows per decoded batch.
const BATCH_ROWS: usize = 32 * 1024;
/// Encoded bytes that are gathered before they are handed to the upload.
const UPLOAD_BYTES: usize = 1024 * 1024;

/// Writes and reads a batch view's state files (Parquet, zstd, sorted by key).
#[derive(Debug)]
pub struct StateFiles;

impl StateFiles {
    /// Writes one file. The batches are sorted by key, within and across. The same batches give the same bytes.
    ///
    /// # Errors
    /// `Invalid` when there is no batch; otherwise as [`StateFileWriter`].
    pub async fn write(store: &Store, path: &Path, batches: Vec<RecordBatch>) -> Result<StateFile> {
        let schema = match batches.first() {
            Some(batch) => batch.schema(),
            None => {
                return Err(Error::Invalid(format!(
                    "state file `{path}` would have no schema: no batch was given"
                )));
            }
        };
        let mut writer = StateFileWriter::new(store, path, &schema)?;
        for batch in batches {
            writer.write(batch).await?;
        }
        writer.finish().await
    }

    /// Reads the state of a view, in key order, as `columns` (its state schema, or part of it).
    ///
    /// # Errors
    /// `Data` when a file is missing, is not what the manifest says, or lacks a column.
    pub async fn read(store: &Store, view: &BatchView, columns: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        for file in &view.files {
            batches.extend(Self::read_file(store, file, columns).await?);
        }
        Ok(batches)
    }

    /// Reads the state of a view batch by batch, in key order; one row group is in memory at a time.
    ///
    /// Errors are those of [`Self::read`].
    pub fn stream(
        store: &Store,
        view: &BatchView,
        columns: &SchemaRef,
    ) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static + use<> {
        let (store, columns) = (store.clone(), columns.clone());
        stream::iter(view.files.clone())
            .then(move |file| {
                let (store, columns) = (store.clone(), columns.clone());
                async move { Self::stream_file(store, file, columns).await }
            })
            .try_flatten()
    }

    async fn stream_file(
        store: Store,
        file: StateFile,
        columns: SchemaRef,
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + 'static> {
        let (path, reader) = Self::open(&store, &file, &columns).await?;
        let rows: u64 = (0..reader.row_groups()).map(|group| reader.rows(group)).sum();
        check_rows(&path, &file, rows)?;
        let groups = stream::iter(0..reader.row_groups()).then(move |group| {
            let (reader, environment) = (reader.clone(), store.environment().clone());
            async move {
                let fetched = reader.fetch(group..group + 1).await?;
                let decode = move || fetched.decode(BATCH_ROWS)?.collect::<Result<Vec<_>>>();
                let batches = environment.offload(decode).await.map_err(|source| Error::Task {
                    task: "decoding a state file",
                    source,
                })??;
                Ok(stream::iter(batches.into_iter().map(Ok)))
            }
        });
        Ok(groups.try_flatten())
    }

    async fn open(store: &Store, file: &StateFile, columns: &SchemaRef) -> Result<(Path, DataReader)> {
        let path = Path::parse(&file.path).map_err(|e| Error::corrupt(&file.path, e))?;
        let reader = DataReader::open(store, &path, file.bytes, columns).await?;
        let lacks = |name: &str| reader.file_schema().field_with_name(name).is_err();
        if let Some(missing) = columns.fields().iter().find(|field| lacks(field.name())) {
            return Err(Error::corrupt(
                &path,
                format!("state column `{}` is not in it", missing.name()),
            ));
        }
        Ok((path, reader))
    }

    /// Reads one of a view's files.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_file(store: &Store, file: &StateFile, columns: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let (path, reader) = Self::open(store, file, columns).await?;
        let fetched = reader.fetch(0..reader.row_groups()).await?;
        let decode = move || fetched.decode(BATCH_ROWS)?.collect::<Result<Vec<_>>>();
        let batches: Vec<RecordBatch> = store
            .environment()
            .offload(decode)
            .await
            .map_err(|source| Error::Task {
                task: "decoding a state file",
                source,
            })??;
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
        check_rows(&path, file, rows)?;
        Ok(batches)
    }
}

fn check_rows(path: &Path, file: &StateFile, rows: u64) -> Result<()> {
    if rows == file.rows {
        return Ok(());
    }
    let reason = format!("it has {rows} rows and not {}", file.rows);
    Err(Error::corrupt(path, reason))
}

/// Writes one state file batch by batch, so that a big view need not be in memory at once. Nothing is visible in the store
/// before [`Self::finish`]; a writer that is dropped leaves nothing behind but, on S3, an unfinished upload.
pub struct StateFileWriter {
    /// Away only while a batch is being encoded.
    encoder: Option<ArrowWriter<Vec<u8>>>,
    upload: BufWriter,
    path: Path,
    schema: SchemaRef,
    bytes: u64,
    rows: u64,
    environment: Environment,
}

impl StateFileWriter {
    /// Starts the file at `path` for batches of this schema.
    ///
    /// # Errors
    /// `Data` when Parquet has no such types.
    pub fn new(store: &Store, path: &Path, schema: &SchemaRef) -> Result<Self> {
        let encoder =
            ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties(schema))).map_err(Error::parquet(path))?;
        let upload = BufWriter::new(store.objects().clone(), path.clone());
        let (path, schema) = (path.clone(), schema.clone());
        Ok(Self {
            encoder: Some(encoder),
            upload,
            path,
            schema,
            bytes: 0,
            rows: 0,
            environment: store.environment().clone(),
        })
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends rows; their keys follow those written before. Encodes on tokio's blocking pool.
    ///
    /// # Errors
    /// `Data` when the batch does not have the writer's schema, `Unavailable` when the store does not answer. The writer
    /// is of no use afterwards.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let rows = batch.num_rows() as u64;
        // Parquet's writer would take the columns it gets and close a file that nobody can read.
        let columns = |schema: &SchemaRef| {
            schema
                .fields()
                .iter()
                .map(|field| (field.name().clone(), field.data_type().clone()))
                .collect::<Vec<_>>()
        };
        if columns(&self.schema) != columns(&batch.schema()) {
            self.encoder = None;
            return Err(Error::corrupt(
                &self.path,
                "a batch does not have the columns of the file",
            ));
        }
        self.encode(move |encoder| encoder.write(&batch)).await?;
        self.rows += rows;
        self.drain(UPLOAD_BYTES).await
    }

    /// Writes the footer and makes the file visible.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn finish(mut self) -> Result<StateFile> {
        self.encode(|encoder| encoder.finish().map(drop)).await?;
        self.drain(0).await?;
        crash_point!("state_file.before");
        self.upload.shutdown().await.map_err(|e| self.upload_error(e))?;
        crash_point!("state_file.after");
        Ok(StateFile {
            path: self.path.to_string(),
            bytes: self.bytes,
            rows: self.rows,
        })
    }

    async fn encode(
        &mut self,
        work: impl FnOnce(&mut ArrowWriter<Vec<u8>>) -> parquet::errors::Result<()> + Send + 'static,
    ) -> Result<()> {
        let mut encoder = self
            .encoder
            .take()
            .ok_or_else(|| Error::Invalid(format!("state file `{}` was written to after an error", self.path)))?;
        let encode = move || {
            let result = work(&mut encoder);
            (encoder, result)
        };
        let (encoder, result) = self.environment.offload(encode).await.map_err(|source| Error::Task {
            task: "encoding a state file",
            source,
        })?;
        result.map_err(Error::parquet(&self.path))?;
        self.encoder = Some(encoder);
        Ok(())
    }

    /// Hands encoded bytes to the upload once there are enough of them.
    async fn drain(&mut self, at_least: usize) -> Result<()> {
        let Some(encoder) = &mut self.encoder else {
            return Ok(());
        };
        if encoder.inner_mut().len() < at_least {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(encoder.inner_mut()));
        self.bytes += bytes.len() as u64;
        self.upload.put(bytes).await.map_err(Error::store("write", &self.path))
    }

    fn upload_error(&self, error: std::io::Error) -> Error {
        let source = object_store::Error::Generic {
            store: "upload",
            source: Box::new(error),
        };
        Error::store("write", &self.path)(source)
    }
}

/// How state is encoded. No times and no random bytes: the same rows give the same file.
fn properties(schema: &SchemaRef) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_created_by(concat!("anabranch ", env!("CARGO_PKG_VERSION")).to_owned());
    for leaf in leaves(schema) {
        // Keys repeat, as they are sorted; every state is another, and nobody asks for the largest sketch.
        if !leaf.is_key {
            properties = properties.set_column_dictionary_enabled(leaf.path.clone(), false);
        }
        let statistics = if leaf.is_opaque {
            EnabledStatistics::None
        } else {
            EnabledStatistics::Chunk
        };
        properties = properties.set_column_statistics_enabled(leaf.path, statistics);
    }
    properties.build()
}

struct Leaf {
    path: ColumnPath,
    is_key: bool,
    /// Of a value that has no order worth knowing: a sketch, or an item of a list.
    is_opaque: bool,
}

/// The Parquet columns of a state file.
fn leaves(schema: &SchemaRef) -> Vec<Leaf> {
    let parquet = ArrowSchemaConverter::new().convert(schema);
    // A schema that Parquet cannot hold is refused by its writer, with the reason.
    let columns = parquet.iter().flat_map(|parquet| parquet.columns());
    columns
        .map(|column| {
            let path = column.path();
            let root = path.parts().first().map_or("", String::as_str);
            let is_key = root
                .strip_prefix("key")
                .is_some_and(|number| number.parse::<usize>().is_ok());
            Leaf {
                path: path.clone(),
                is_key,
                is_opaque: !is_key && (path.parts().len() > 1 || is_binary(schema, root)),
            }
        })
        .collect()
}

fn is_binary(schema: &SchemaRef, name: &str) -> bool {
    schema
        .field_with_name(name)
        .is_ok_and(|field| *field.data_type() == DataType::Binary)
}

#[cfg(test)]
mod tests;
