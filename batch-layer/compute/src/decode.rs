//! Parquet row groups as event batches of the declared schema.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_catalog::Source;
use anabranch_decode::{LandedReader, Misfit};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Encoding, EncodingMask};
use parquet::errors::ParquetError;

use crate::plan::wanted_roots;
use crate::{Error, FileBytes, InputFile, Plan, RowSelection};

/// Rows per decoded batch: large enough to amortise the cost of evaluating expressions, small enough to stay in cache.
const BATCH_ROWS: usize = 16_384;

/// A file whose footer is parsed and whose columns are matched to the plan's.
pub(crate) struct OpenFile {
    path: String,
    bytes: FileBytes,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    source: Arc<Source>,
    /// The columns that the file has.
    in_file: SchemaRef,
    /// The plan's schema, text that is a dictionary in the file as one; with a selection, the columns it looks at come behind.
    schema: SchemaRef,
    plan_columns: usize,
    selection: Option<Arc<dyn RowSelection>>,
    _guard: Option<Box<dyn Any + Send + Sync>>,
}

/// One row group of an open file; the file's memory is let go with its last row group.
pub(crate) struct RowGroup {
    file: Arc<OpenFile>,
    index: usize,
    pub(crate) rows: u64,
    /// Compressed bytes of the projected columns.
    pub(crate) bytes: u64,
}

impl OpenFile {
    pub(crate) fn open(input: InputFile, plan: &Plan) -> Result<Arc<Self>, Error> {
        let InputFile {
            path,
            bytes,
            metadata,
            selection,
            guard,
        } = input;
        let options = ArrowReaderOptions::new();
        let loaded = match metadata {
            Some(metadata) => ArrowReaderMetadata::try_new(metadata, options),
            None => ArrowReaderMetadata::load(&bytes, options),
        };
        let metadata = loaded.map_err(|source| Error::Parquet {
            path: path.clone(),
            source,
        })?;
        let schema = match &selection {
            None => plan.schema().clone(),
            Some(selection) => with_columns(plan.schema(), &**selection),
        };
        let in_file = metadata.schema().clone();
        let names = LandedReader::columns(plan.source(), &schema, &in_file);
        let mask = wanted_roots(metadata.parquet_schema(), &names);
        let (metadata, schema) = with_dictionaries(metadata, schema, plan).map_err(|source| Error::Parquet {
            path: path.clone(),
            source,
        })?;
        Ok(Arc::new(Self {
            path,
            bytes,
            metadata,
            mask,
            source: plan.source().clone(),
            in_file,
            schema,
            plan_columns: plan.columns().len(),
            selection,
            _guard: guard,
        }))
    }

    /// The row groups that have rows, in file order.
    pub(crate) fn row_groups(self: &Arc<Self>) -> impl Iterator<Item = RowGroup> + '_ {
        self.metadata
            .metadata()
            .row_groups()
            .iter()
            .enumerate()
            .filter(|(_, group)| group.num_rows() > 0)
            .map(|(index, group)| {
                let leaves = group
                    .columns()
                    .iter()
                    .enumerate()
                    .filter(|(leaf, _)| self.mask.leaf_included(*leaf));
                RowGroup {
                    file: self.clone(),
                    index,
                    rows: group.num_rows().unsigned_abs(),
                    bytes: leaves.map(|(_, chunk)| chunk.compressed_size().unsigned_abs()).sum(),
                }
            })
    }

    /// A batch in the plan's schema, without the rows that do not count.
    fn events(&self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let Some(selection) = &self.selection else {
            return Ok(batch);
        };
        selection.select(&batch)?.project(&Vec::from_iter(0..self.plan_columns))
    }

    fn parquet_error(&self, source: ParquetError) -> Error {
        Error::Parquet {
            path: self.path.clone(),
            source,
        }
    }
}

/// Has text read as dictionaries where views want that and the file has nothing else; the schema of batches then says so.
fn with_dictionaries(
    metadata: ArrowReaderMetadata,
    schema: SchemaRef,
    plan: &Plan,
) -> Result<(ArrowReaderMetadata, SchemaRef), ParquetError> {
    let wanted = plan
        .columns()
        .iter()
        .zip(plan.dictionary())
        .filter(|(_, wanted)| **wanted);
    let encoded: BTreeSet<&str> = wanted
        .map(|(name, _)| name.as_str())
        .filter(|name| is_dictionary(&metadata, name))
        .collect();
    if encoded.is_empty() {
        return Ok((metadata, schema));
    }
    let encode = |schema: &SchemaRef| {
        let fields = schema.fields().iter().map(|field| {
            if *field.data_type() == DataType::Utf8 && encoded.contains(field.name().as_str()) {
                let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
                Arc::new(field.as_ref().clone().with_data_type(dictionary))
            } else {
                field.clone()
            }
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    };
    let options = ArrowReaderOptions::new().with_schema(encode(metadata.schema()));
    let encoded = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options)?;
    Ok((encoded, encode(&schema)))
}

/// Whether a top-level column of text has nothing but dictionary pages in every row group.
fn is_dictionary(metadata: &ArrowReaderMetadata, name: &str) -> bool {
    let text = metadata
        .schema()
        .field_with_name(name)
        .is_ok_and(|field| *field.data_type() == DataType::Utf8);
    let mut leaves = metadata.parquet_schema().columns().iter();
    let Some(leaf) = leaves.position(|leaf| leaf.path().parts() == [name]) else {
        return false;
    };
    text && metadata.metadata().row_groups().iter().all(|group| {
        let chunk = group.column(leaf);
        let only =
            |mask: &EncodingMask| mask.is_only(Encoding::RLE_DICTIONARY) || mask.is_only(Encoding::PLAIN_DICTIONARY);
        chunk.dictionary_page_offset().is_some() && chunk.page_encoding_stats_mask().is_some_and(only)
    })
}

impl RowGroup {
    /// Decodes the row group batch by batch, in the plan's schema.
    pub(crate) fn read(&self) -> Result<RowGroupReader<'_>, Error> {
        let file = &*self.file;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file.bytes.clone(), file.metadata.clone())
            .with_row_groups(vec![self.index])
            .with_projection(file.mask.clone())
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|source| file.parquet_error(source))?;
        let landed = LandedReader::new(&file.source, &file.schema, &file.in_file);
        Ok(RowGroupReader { file, reader, landed })
    }
}

pub(crate) struct RowGroupReader<'a> {
    file: &'a OpenFile,
    reader: ParquetRecordBatchReader,
    landed: LandedReader,
}

impl Iterator for RowGroupReader<'_> {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.reader.next()? {
            Ok(batch) => batch,
            Err(source) => return Some(Err(self.file.parquet_error(source.into()))),
        };
        let misfit = |Misfit { column, source }| Error::Column {
            path: self.file.path.clone(),
            column,
            source,
        };
        let events = self.landed.read(&batch).map_err(misfit);
        Some(events.and_then(|batch| {
            let column = String::new();
            let selected = self.file.events(batch);
            selected.map_err(|source| misfit(Misfit { column, source }))
        }))
    }
}

/// The plan's columns, and behind them those that only the selection looks at.
fn with_columns(plan: &SchemaRef, selection: &dyn RowSelection) -> SchemaRef {
    let mut fields: Vec<_> = plan.fields().iter().cloned().collect();
    let known = |name: &str| plan.field_with_name(name).is_ok();
    fields.extend(selection.columns().iter().filter(|field| !known(field.name())).cloned());
    Arc::new(Schema::new(fields))
}
