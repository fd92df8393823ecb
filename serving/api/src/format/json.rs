use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Answer, sql_type};
use crate::{Error, openapi};
use anabranch_front::{Cell, json_cell, object, quoted};

/// Rows, and what they cover.
// What `document` writes: values would be made twice if this were serialised.
#[expect(dead_code, reason = "it describes; nobody makes one")]
#[derive(ToSchema)]
#[schema(as = Answer)]
pub(crate) struct Document {
    #[schema(inline)]
    columns: Vec<Column>,
    /// Values, in the order of the columns.
    rows: Vec<Vec<Value>>,
    row_count: u64,
    elapsed_ms: f64,
    /// View → what its part covers.
    coverage: BTreeMap<String, openapi::Coverage>,
}

#[derive(Serialize, ToSchema)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    sql_type: String,
}

/// `{"columns", "rows", "row_count", "elapsed_ms", "coverage"}`.
pub(crate) fn document(answer: &Answer, elapsed: Duration) -> Result<Vec<u8>, Error> {
    let fields = answer.schema.fields().iter();
    let columns = fields.map(|field| Column {
        name: field.name().clone(),
        sql_type: sql_type(field.data_type()),
    });
    let columns: Vec<_> = columns.collect();
    let internal = |error: serde_json::Error| Error::Internal(format!("an answer cannot be written: {error}"));
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"{\"columns\":");
    serde_json::to_writer(&mut out, &columns).map_err(internal)?;
    out.extend_from_slice(b",\"rows\":[");
    let mut row_count = 0;
    for batch in &answer.batches {
        let cells = cells(batch)?;
        for row in 0..batch.num_rows() {
            if row_count > 0 {
                out.push(b',');
            }
            row_count += 1;
            out.push(b'[');
            for (index, cell) in cells.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                cell(row, &mut out);
            }
            out.push(b']');
        }
    }
    out.extend_from_slice(format!("],\"row_count\":{row_count},\"elapsed_ms\":").as_bytes());
    let elapsed_ms = (elapsed.as_secs_f64() * 1e6).round() / 1e3;
    serde_json::to_writer(&mut out, &elapsed_ms).map_err(internal)?;
    out.extend_from_slice(b",\"coverage\":");
    serde_json::to_writer(&mut out, &answer.coverage).map_err(internal)?;
    out.push(b'}');
    Ok(out)
}

/// One object per row and line.
pub(super) fn lines(schema: &Schema, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Error> {
    let names = schema.fields().iter().map(|field| quoted(field.name()));
    let members: Vec<_> = names.zip(cells(batch)?).collect();
    for row in 0..batch.num_rows() {
        object(&members, row, out);
        out.push(b'\n');
    }
    Ok(())
}

pub(super) fn cells(batch: &RecordBatch) -> Result<Vec<Cell>, Error> {
    batch.columns().iter().map(|column| Ok(json_cell(column)?)).collect()
}
