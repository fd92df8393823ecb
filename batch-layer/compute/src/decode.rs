//! Parquet row groups as event batches of the declared schema.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
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
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
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

    /// A decoded batch in the plan's schema, without the rows that do not count.
    fn events(&self, batch: &RecordBatch) -> Result<RecordBatch, (String, ArrowError)> {
        let batch = conform_batch(batch, &self.schema)?;
        let Some(selection) = &self.selection else {
            return Ok(batch);
        };
        let selected = selection.select(&batch);
        let projected = selected.and_then(|batch| batch.project(&Vec::from_iter(0..self.plan_columns)));
        projected.map_err(|error| (String::new(), error))
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
        Ok(RowGroupReader { file, reader })
    }
}

pub(crate) struct RowGroupReader<'a> {
    file: &'a OpenFile,
    reader: ParquetRecordBatchReader,
}

impl Iterator for RowGroupReader<'_> {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.reader.next()? {
            Ok(batch) => batch,
            Err(source) => return Some(Err(self.file.parquet_error(source.into()))),
        };
        Some(self.file.events(&batch).map_err(|(column, source)| Error::Column {
            path: self.file.path.clone(),
            column,
            source,
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

/// The batch in `schema`: columns by name, absent ones null (a file older than their declaration), others cast if need be.
fn conform_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, (String, ArrowError)> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column = match batch.column_by_name(field.name()) {
            Some(column) => conform(column, field.data_type()).map_err(|error| (field.name().clone(), error))?,
            None => new_null_array(field.data_type(), batch.num_rows()),
        };
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|error| (String::new(), error))
}

/// One column in the type wanted. Structs are matched field by field, so that a field declared later reads as null.
fn conform(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == wanted {
        return Ok(column.clone());
    }
    match (column.data_type(), wanted) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let from = column.as_struct();
            let children = fields
                .iter()
                .map(|field| match from.column_by_name(field.name()) {
                    Some(child) => conform(child, field.data_type()),
                    None => Ok(new_null_array(field.data_type(), from.len())),
                })
                .collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                children,
                from.nulls().cloned(),
                from.len(),
            )?))
        }
        (DataType::List(_), DataType::List(field)) => {
            let from = column.as_list::<i32>();
            let values = conform(from.values(), field.data_type())?;
            let list =
                arrow::array::ListArray::try_new(field.clone(), from.offsets().clone(), values, from.nulls().cloned())?;
            Ok(Arc::new(list))
        }
        // A value that does not fit is an error: a null here would be a silently wrong answer.
        (_, wanted) => cast_with_options(
            column,
            wanted,
            &CastOptions {
                safe: false,
                ..CastOptions::default()
            },
        ),
    }
}

#[cfg(test)]
mod tests;
