use std::sync::Arc;

use anabranch_front as front;
use arrow::datatypes::DataType;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::error::Result;
use datafusion::scalar::ScalarValue;

/// A small table: columns by name, rows of values.
pub(super) fn sheet(columns: &[(&str, DataType)], rows: Vec<Vec<ScalarValue>>) -> Result<Arc<dyn TableProvider>> {
    let schema = front::columns(columns);
    let batch = front::sheet(&schema, &rows)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

pub(super) fn text(value: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(value.into()))
}

pub(super) const NO_TEXT: ScalarValue = ScalarValue::Utf8(None);

pub(super) fn int(value: i32) -> ScalarValue {
    ScalarValue::Int32(Some(value))
}
