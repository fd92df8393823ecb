use std::collections::HashMap;
use std::sync::Arc;

use anabranch_view::View;
use arrow::array::RecordBatch;
use serde_json::{Value, json};

use super::state::Shape;
use crate::Error;
use crate::format::{json_cell, sql_type};
use crate::rows::RowsRequest;

/// How rows of a view become keys and cells.
pub(crate) struct Table {
    /// With all columns, for keys may be among those that are not shown.
    pub(crate) request: RowsRequest,
    pub(crate) shape: Arc<Shape>,
    shown: Vec<usize>,
    /// The columns that name a row; all columns when they do not.
    key: Vec<usize>,
    /// Whether the key names one row only.
    is_unique: bool,
}

impl Table {
    pub(crate) fn new(view: &View, mut request: RowsRequest) -> Self {
        let schema = view.output_schema();
        let all = || (0..schema.fields().len()).collect::<Vec<_>>();
        let shown = request.take_columns().unwrap_or_else(all);
        // Of a key that is shown twice, one is enough.
        let mut shown_keys: Vec<(usize, usize)> = Vec::new();
        for (name, key) in view.output_keys() {
            if let Ok(column) = schema.index_of(name)
                && !shown_keys.iter().any(|(_, known)| known == key)
            {
                shown_keys.push((column, *key));
            }
        }
        let is_unique = shown_keys.len() == view.key_count();
        let key = match is_unique {
            true => shown_keys.into_iter().map(|(column, _)| column).collect(),
            false => all(),
        };
        let names = key.iter().map(|column| schema.field(*column).name());
        let key_names = if is_unique {
            json!(names.collect::<Vec<_>>())
        } else {
            Value::Null
        };
        let columns = shown.iter().map(|column| {
            let field = schema.field(*column);
            let is_key = view.output_keys().iter().any(|(name, _)| name == field.name());
            json!({"name": field.name(), "type": sql_type(field.data_type()), "key": is_key})
        });
        let shape = Shape {
            view: view.name().to_owned(),
            columns: columns.collect(),
            key: key_names,
        };
        Self {
            request,
            shape: Arc::new(shape),
            shown,
            key,
            is_unique,
        }
    }
}

/// A row in JSON: its key, and its cells.
type JsonRow = (Vec<u8>, Vec<u8>);

/// Key and cells of each row. Keys differ.
///
/// # Errors
/// For types that have no spelling.
pub(crate) fn tabulate(table: &Table, batches: &[RecordBatch]) -> Result<Vec<JsonRow>, Error> {
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
    for batch in batches {
        let cells = |columns: &[usize]| -> Result<Vec<_>, Error> {
            columns
                .iter()
                .map(|column| Ok(json_cell(batch.column(*column))?))
                .collect()
        };
        let (key, shown) = (cells(&table.key)?, cells(&table.shown)?);
        for row in 0..batch.num_rows() {
            let write = |cells: &[crate::format::Cell]| {
                let mut out = vec![b'['];
                for (index, cell) in cells.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    cell(row, &mut out);
                }
                out.push(b']');
                out
            };
            let mut name = write(&key);
            if !table.is_unique {
                // Rows that look alike are told apart by how many there were before.
                let before = seen.entry(name.clone()).or_default();
                let twin = format!("[{},{before}]", String::from_utf8_lossy(&name));
                *before += 1;
                name = twin.into_bytes();
            }
            rows.push((name, write(&shown)));
        }
    }
    Ok(rows)
}
