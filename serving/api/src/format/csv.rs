use arrow::array::{Array, RecordBatch};
use arrow::datatypes::Schema;

use super::json::cells;
use crate::Error;

/// The header row of RFC 4180.
pub(super) fn header(schema: &Schema, out: &mut Vec<u8>) {
    for (index, field) in schema.fields().iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_field(field.name(), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 4180: nulls are empty fields, the empty string is `""`, nested values are JSON.
pub(super) fn rows(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut scratch = Vec::new();
    let cells = cells(batch)?;
    let nulls: Vec<_> = batch.columns().iter().map(|column| column.logical_nulls()).collect();
    for row in 0..batch.num_rows() {
        for (index, cell) in cells.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            if nulls[index].as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            scratch.clear();
            cell(row, &mut scratch);
            write_json_as_field(&scratch, out)?;
        }
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}

/// JSON strings lose their quotes and escapes, everything else stays as it is.
fn write_json_as_field(json: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let broken = |error: String| Error::Internal(format!("a cell is no JSON: {error}"));
    if json.first() != Some(&b'"') {
        let text = std::str::from_utf8(json).map_err(|error| broken(error.to_string()))?;
        write_field(text, out);
        return Ok(());
    }
    let text: String = serde_json::from_slice(json).map_err(|error| broken(error.to_string()))?;
    write_field(&text, out);
    Ok(())
}

fn write_field(text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() && !text.contains([',', '"', '\r', '\n']) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
