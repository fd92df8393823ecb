//! What clients hold between two calls: the query itself.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::ipc;

/// Largest query with its parameters, in bytes.
pub(crate) const MAX_HANDLE_BYTES: usize = 4 << 20;

/// A query, and values for its parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Handle {
    pub(crate) sql: String,
    /// One row, as an Arrow stream; empty when there are no parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<u8>,
}

impl Handle {
    pub(crate) fn new(sql: String) -> Self {
        Self {
            sql,
            values: Vec::new(),
        }
    }

    /// # Errors
    /// `InvalidArgument` for what is no handle of this server.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Status> {
        serde_json::from_slice(bytes).map_err(|_| Status::invalid_argument("this is no handle of a query"))
    }

    pub(crate) fn write(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("text and bytes are always written")
            .into()
    }

    /// With the parameters of one execution.
    ///
    /// # Errors
    /// `InvalidArgument` for anything but one row that is not too large.
    pub(crate) fn with_values(&self, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Self, Status> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows > 1 {
            return Err(Status::invalid_argument(format!(
                "{rows} rows of parameters were sent; a query is run once, with one row"
            )));
        }
        if rows == 0 || schema.fields().is_empty() {
            return Ok(Self::new(self.sql.clone()));
        }
        let written = || -> Result<Vec<u8>, ArrowError> {
            let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            writer.into_inner()
        };
        let values = written().map_err(|error| Status::invalid_argument(error.to_string()))?;
        if values.len() > MAX_HANDLE_BYTES / 4 {
            return Err(Status::invalid_argument("the parameters are too large"));
        }
        Ok(Self {
            sql: self.sql.clone(),
            values,
        })
    }

    /// The values of `$1`, `$2` and so on.
    ///
    /// # Errors
    /// `InvalidArgument` when they cannot be read.
    pub(crate) fn values(&self) -> Result<Vec<ScalarValue>, Status> {
        if self.values.is_empty() {
            return Ok(Vec::new());
        }
        for batch in ipc::read(&self.values)? {
            if batch.num_rows() == 1 {
                let values = batch
                    .columns()
                    .iter()
                    .map(|column| ScalarValue::try_from_array(column, 0));
                return values
                    .collect::<Result<_, _>>()
                    .map_err(|error| ipc::bad(&error.to_string()));
            }
        }
        Err(ipc::bad("there is no row"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn a_handle_holds_the_query_and_its_values() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("1", DataType::Int64, true),
            Field::new("2", DataType::Utf8, true),
        ]));
        let row = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(Int64Array::from(vec![7])),
                Arc::new(StringArray::from(vec!["x"])),
            ],
        )
        .unwrap();
        let plain = Handle::new("SELECT $1, $2".into());
        let handle = plain.with_values(&schema, std::slice::from_ref(&row)).unwrap();
        let back = Handle::read(&handle.write()).unwrap();
        assert_eq!(back, handle);
        assert_eq!(
            back.values().unwrap(),
            [ScalarValue::Int64(Some(7)), ScalarValue::Utf8(Some("x".into()))]
        );
        assert!(
            plain.with_values(&schema, &[row.clone(), row]).is_err(),
            "two rows are refused"
        );
        assert_eq!(plain.with_values(&schema, &[]).unwrap(), plain);
        assert!(Handle::read(b"{}").is_err() && Handle::read(b"\xff").is_err());
    }
}
