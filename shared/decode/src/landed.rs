//! Landed rows in the columns that are declared now; what was declared after they were landed comes out of their raw bytes.

use std::sync::Arc;

use anabranch_catalog::{Column, Source};
use anabranch_model::columns;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, ListArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array,
};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{CastOptions, cast_with_options, interleave, is_not_null};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::column::ColumnReader;
use crate::decoder::Row;

/// Reads batches of landed files in the columns that are declared now. Both layers read by it, so that they agree.
///
/// A file has the columns that its events were decoded for. A column that was declared later is decoded out of `_raw`, and
/// so is a struct that has more fields by now. The event was accepted before the column was declared and stays accepted: a
/// value that does not fit the column is null, as is one whose raw bytes were not kept (`keep_raw = 'false'`).
///
/// One per file and thread.
#[derive(Debug)]
pub struct LandedReader {
    schema: SchemaRef,
    filled: Vec<Filled>,
    /// Reads all filled columns of an event at once.
    together: Row,
}

/// A column that the file lacks, or has with fewer fields.
#[derive(Debug)]
struct Filled {
    /// Its place in the schema.
    at: usize,
    /// Whether the file has some of it.
    partly: bool,
    /// Reads this column alone, where another one's value does not fit.
    alone: Row,
}

/// A landed column cannot be read as its declaration wants it.
#[derive(Debug, thiserror::Error)]
#[error("column `{column}`: {source}")]
pub struct Misfit {
    pub column: String,
    #[source]
    pub source: ArrowError,
}

impl LandedReader {
    /// Reads files of the columns `file` as batches of `schema`, whose fields are `source`'s as far as they are declared.
    pub fn new(source: &Source, schema: &SchemaRef, file: &Schema) -> Self {
        let lacking: Vec<(usize, bool, &Column)> = lacking(source, schema, file).collect();
        let reader = |column: &Column| {
            let reader = ColumnReader::new(&column.data_type, column.timestamp_format);
            (column.json_key.clone(), reader)
        };
        Self {
            schema: SchemaRef::clone(schema),
            together: Row::lenient(lacking.iter().map(|(.., column)| reader(column))),
            filled: lacking
                .iter()
                .map(|(at, partly, column)| Filled {
                    at: *at,
                    partly: *partly,
                    alone: Row::lenient([reader(column)]),
                })
                .collect(),
        }
    }

    /// The top-level columns of a file that are read: those of `schema`, and the raw bytes if any of them is to come from
    /// there. The file need not have all of them.
    pub fn columns(source: &Source, schema: &Schema, file: &Schema) -> Vec<String> {
        let mut names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        if lacking(source, schema, file).next().is_some() && schema.field_with_name(columns::RAW).is_err() {
            names.push(columns::RAW.to_owned());
        }
        names
    }

    /// A batch with [`columns`](Self::columns), as one of the schema: columns by name, in their declared types.
    ///
    /// # Errors
    /// When a column has a type that cannot become the declared one.
    pub fn read(&mut self, batch: &RecordBatch) -> Result<RecordBatch, Misfit> {
        let mut read = Vec::with_capacity(self.schema.fields().len());
        for field in self.schema.fields() {
            read.push(match batch.column_by_name(field.name()) {
                Some(column) => conform(column, field.data_type()).map_err(|source| misfit(field.name(), source))?,
                None => new_null_array(field.data_type(), batch.num_rows()),
            });
        }
        if let Some(raw) = self.raw(batch)? {
            let decoded = self.decode(&raw);
            for (filled, decoded) in self.filled.iter().zip(decoded) {
                let column = &mut read[filled.at];
                *column = if filled.partly {
                    // What was landed stays where the whole no longer fits.
                    is_not_null(&decoded)
                        .and_then(|fits| zip(&fits, &decoded, column))
                        .map_err(|source| misfit(self.schema.field(filled.at).name(), source))?
                } else {
                    decoded
                };
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), read, &options)
            .map_err(|source| misfit("", source))
    }

    /// The raw bytes of a batch, if they are needed and there.
    fn raw(&self, batch: &RecordBatch) -> Result<Option<BinaryArray>, Misfit> {
        let Some(raw) = batch.column_by_name(columns::RAW).filter(|_| !self.filled.is_empty()) else {
            return Ok(None);
        };
        let raw = conform(raw, &DataType::Binary).map_err(|source| misfit(columns::RAW, source))?;
        Ok((raw.null_count() < raw.len()).then(|| raw.as_binary::<i32>().clone()))
    }

    /// The filled columns of each payload.
    fn decode(&mut self, raw: &BinaryArray) -> Vec<ArrayRef> {
        let ends = raw.value_offsets();
        let at = |row: usize| usize::try_from(ends[row]).expect("offsets of an array are not negative");
        let bytes = &raw.value_data()[..at(raw.len())];
        let utf8 = simdutf8::basic::from_utf8(&bytes[at(0)..]).is_ok();
        self.together.reserve(raw.len(), bytes.len() - at(0));
        let mut failed = Vec::new();
        for row in 0..raw.len() {
            if raw.is_null(row) {
                self.together.push_nulls();
            } else if !self.together.read_or_null(bytes, at(row), at(row + 1), utf8) {
                failed.push(row);
            }
        }
        let mut decoded = self.together.finish();
        if failed.is_empty() || decoded.len() == 1 {
            return decoded;
        }
        for (column, filled) in decoded.iter_mut().zip(&mut self.filled) {
            for row in &failed {
                filled.alone.read_or_null(bytes, at(*row), at(row + 1), utf8);
            }
            let again = filled.alone.finish().remove(0);
            let mut next = 0;
            let from = |row: usize| match failed.get(next) {
                Some(failed) if *failed == row => {
                    next += 1;
                    (1, next - 1)
                }
                _ => (0, row),
            };
            let rows: Vec<(usize, usize)> = (0..raw.len()).map(from).collect();
            *column = interleave(&[column.as_ref(), again.as_ref()], &rows).expect("both are of the declared type");
        }
        decoded
    }
}

fn misfit(column: &str, source: ArrowError) -> Misfit {
    let column = column.to_owned();
    Misfit { column, source }
}

/// The declared columns of `schema` that a file lacks, wholly or (`true`) in part, and their places in `schema`.
fn lacking<'s>(
    source: &'s Source,
    schema: &'s Schema,
    file: &'s Schema,
) -> impl Iterator<Item = (usize, bool, &'s Column)> {
    schema.fields().iter().enumerate().filter_map(move |(at, field)| {
        let column = source.column(field.name())?;
        match file.field_with_name(field.name()) {
            Err(_) => Some((at, false, column)),
            Ok(landed) => lacks(&column.data_type, landed.data_type()).then_some((at, true, column)),
        }
    })
}

/// Whether structs in `declared` have fields that those in `landed` have not.
fn lacks(declared: &DataType, landed: &DataType) -> bool {
    match (declared, landed) {
        (DataType::Struct(declared), DataType::Struct(landed)) => declared.iter().any(|field| {
            let found = landed.iter().find(|other| other.name() == field.name());
            found.is_none_or(|found| lacks(field.data_type(), found.data_type()))
        }),
        (DataType::List(declared), DataType::List(landed)) => lacks(declared.data_type(), landed.data_type()),
        _ => false,
    }
}

/// One column in the type wanted. Structs are matched field by field, so that a field declared later reads as null.
fn conform(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == wanted {
        return Ok(ArrayRef::clone(column));
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
            let list = ListArray::try_new(Arc::clone(field), from.offsets().clone(), values, from.nulls().cloned())?;
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
