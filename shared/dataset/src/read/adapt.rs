//! Fits a batch into a schema that may have more columns than were written.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::error::ArrowError;

use crate::error::{Error, Result};

/// The columns of `schema`, by name, out of `batch`: what the batch lacks (at any depth of a struct) is null, what it has
/// beyond that is left out, and types that differ only in how they are spelt (field names of lists and maps, string
/// offsets) are converted. Columns that fit already are not copied.
///
/// # Errors
/// `Data` when a column's type cannot become the wanted one.
pub fn adapt(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let rows = batch.num_rows();
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let fail = |source| Error::Arrow {
                column: field.name().clone(),
                source,
            };
            match batch.column_by_name(field.name()) {
                Some(column) => adapt_array(column, field.data_type()).map_err(fail),
                None => Ok(new_null_array(field.data_type(), rows)),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|source| Error::Arrow {
        column: "(all)".into(),
        source,
    })
}

fn adapt_array(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    match (array.data_type(), wanted) {
        (found, wanted) if found == wanted => Ok(array.clone()),
        (DataType::Struct(_), DataType::Struct(fields)) => adapt_struct(array.as_struct(), fields.as_ref()),
        (DataType::List(_), DataType::List(item)) => {
            let list: &ListArray = array.as_list();
            let values = adapt_array(list.values(), item.data_type())?;
            let list = ListArray::try_new(item.clone(), list.offsets().clone(), values, list.nulls().cloned())?;
            Ok(Arc::new(list))
        }
        (_, wanted) => cast_with_options(
            array,
            wanted,
            &CastOptions {
                safe: false,
                ..CastOptions::default()
            },
        ),
    }
}

fn adapt_struct(array: &StructArray, fields: &[FieldRef]) -> Result<ArrayRef, ArrowError> {
    let columns = fields
        .iter()
        .map(|field| match array.column_by_name(field.name()) {
            Some(column) => adapt_array(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), array.len())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let nulls = array.nulls().cloned();
    Ok(Arc::new(StructArray::try_new_with_length(
        fields.to_vec().into(),
        columns,
        nulls,
        array.len(),
    )?))
}
