use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, new_empty_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::scalar::ScalarValue;

/// Columns by name, all of them nullable.
pub fn columns(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A small table out of rows of values.
///
/// # Errors
/// When a row has too few values, or one of another type than its column.
pub fn sheet(schema: &SchemaRef, rows: &[Vec<ScalarValue>]) -> Result<RecordBatch> {
    let arrays = schema.fields().iter().enumerate().map(|(column, field)| {
        if rows.is_empty() {
            return Ok(new_empty_array(field.data_type()));
        }
        let cell = |row: &Vec<ScalarValue>| row.get(column).cloned().unwrap_or(ScalarValue::Null);
        ScalarValue::iter_to_array(rows.iter().map(cell))
    });
    let arrays = arrays.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}
