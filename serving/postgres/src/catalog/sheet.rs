use std::sync::Arc;

use anabranch_front as front;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::scalar::ScalarValue;

/// A small table that is written by hand: each row says what is not NULL.
pub(super) struct Sheet {
    columns: SchemaRef,
    rows: Vec<Vec<(&'static str, ScalarValue)>>,
}

impl Sheet {
    /// `columns` are names with spaces between them; a type follows the name where it is no text: `name:int`, `name:long`,
    /// `name:bool`.
    pub(super) fn new(columns: &str) -> Self {
        let column = |column: &'_ str| match column.split_once(':') {
            Some((name, "int")) => (name.to_owned(), DataType::Int32),
            Some((name, "long")) => (name.to_owned(), DataType::Int64),
            Some((name, "bool")) => (name.to_owned(), DataType::Boolean),
            _ => (column.to_owned(), DataType::Utf8),
        };
        let columns: Vec<(String, DataType)> = columns.split_ascii_whitespace().map(column).collect();
        let columns: Vec<(&str, DataType)> = columns
            .iter()
            .map(|(name, kind)| (name.as_str(), kind.clone()))
            .collect();
        Self {
            columns: front::columns(&columns),
            rows: Vec::new(),
        }
    }

    pub(super) fn row(mut self, values: impl Into<Vec<(&'static str, ScalarValue)>>) -> Self {
        self.rows.push(values.into());
        self
    }

    pub(super) fn rows(self, rows: impl IntoIterator<Item = Vec<(&'static str, ScalarValue)>>) -> Self {
        rows.into_iter().fold(self, Self::row)
    }

    /// # Errors
    /// When a row has a value for no column, or one of another type.
    pub(super) fn table(self) -> Result<Arc<dyn TableProvider>> {
        let nulls = self
            .columns
            .fields()
            .iter()
            .map(|field| ScalarValue::try_from(field.data_type()));
        let nulls = nulls.collect::<Result<Vec<_>>>()?;
        let row = |values: Vec<(&'static str, ScalarValue)>| {
            let mut row = nulls.clone();
            for (name, value) in values {
                let at = self.columns.index_of(name).map_err(DataFusionError::from)?;
                row[at] = value;
            }
            Ok(row)
        };
        let rows = self.rows.into_iter().map(row).collect::<Result<Vec<_>>>()?;
        let batch = front::sheet(&self.columns, &rows)?;
        Ok(Arc::new(MemTable::try_new(self.columns, vec![vec![batch]])?))
    }
}

pub(super) fn text(value: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(value.into()))
}

pub(super) const NO_TEXT: ScalarValue = ScalarValue::Utf8(None);

pub(super) fn int(value: i32) -> ScalarValue {
    ScalarValue::Int32(Some(value))
}

pub(super) fn bool(value: bool) -> ScalarValue {
    ScalarValue::Boolean(Some(value))
}
