//! How declared columns and the table's schema go together.
//!
//! The table's schema only grows: a column that was ever landed stays in it, so that other readers see all of history.
//! A file holds the columns that were declared when it was written; readers fill in the rest with nulls.

use std::sync::Arc;

use anabranch_catalog::Source;
use anabranch_model::columns;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use delta_kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use delta_kernel::schema::StructType;

use crate::error::{Error, Result};

/// The table schema that a source needs: its event schema, all nullable, and the partition column.
pub(super) fn wanted(source: &Source) -> SchemaRef {
    let events = source.event_schema();
    let mut fields: Vec<Field> = events
        .fields()
        .iter()
        .map(|field| plain(field).with_nullable(true))
        .collect();
    fields.push(Field::new(columns::DEAD, DataType::Boolean, true));
    Arc::new(Schema::new(fields))
}

/// The table schema with what `wanted` adds to it; `None` when it adds nothing.
///
/// # Errors
/// `ColumnType` when a column changed its type. Fields may be added to a struct; nothing else may change.
pub(super) fn grown(table: &str, current: &Schema, wanted: &Schema) -> Result<Option<SchemaRef>> {
    let mut fields: Vec<Arc<Field>> = current.fields().iter().cloned().collect();
    for field in wanted.fields() {
        match fields.iter_mut().find(|known| known.name() == field.name()) {
            None => fields.push(field.clone()),
            Some(known) => {
                let merged = merge(known.data_type(), field.data_type()).ok_or_else(|| Error::ColumnType {
                    table: table.to_owned(),
                    column: field.name().clone(),
                    declared: field.data_type().to_string(),
                    landed: known.data_type().to_string(),
                })?;
                *known = Arc::new(known.as_ref().clone().with_data_type(merged));
            }
        }
    }
    let grown = Arc::new(Schema::new(fields));
    Ok((*grown != *current).then_some(grown))
}

/// The `schemaString` of a table.
pub(super) fn encode(table: &str, schema: &Schema) -> Result<String> {
    let unfit = |reason: String| Error::Invalid(format!("table `{table}` cannot be kept as a Delta table: {reason}"));
    let schema: StructType = schema.try_into_kernel().map_err(|e| unfit(e.to_string()))?;
    serde_json::to_string(&schema).map_err(|e| unfit(e.to_string()))
}

/// The Arrow schema of a table's `schemaString`.
pub(super) fn decode(table: &str, schema: &str) -> Result<Schema> {
    let corrupt = |reason: String| Error::Corrupt {
        path: format!("sources/{table}/_delta_log"),
        reason,
    };
    let schema: StructType = serde_json::from_str(schema).map_err(|e| corrupt(e.to_string()))?;
    let schema: Schema = (&schema).try_into_arrow().map_err(|e| corrupt(e.to_string()))?;
    Ok(Schema::new(
        schema.fields().iter().map(|field| plain(field)).collect::<Vec<_>>(),
    ))
}

/// What both types' values fit into, if they differ by struct fields at most.
fn merge(current: &DataType, wanted: &DataType) -> Option<DataType> {
    match (current, wanted) {
        (DataType::Struct(known), DataType::Struct(wanted)) => {
            let mut fields: Vec<Arc<Field>> = known.iter().cloned().collect();
            for field in wanted {
                match fields.iter_mut().find(|known| known.name() == field.name()) {
                    None => fields.push(Arc::new(plain(field).with_nullable(true))),
                    Some(known) => {
                        let merged = merge(known.data_type(), field.data_type())?;
                        *known = Arc::new(known.as_ref().clone().with_data_type(merged));
                    }
                }
            }
            Some(DataType::Struct(fields.into()))
        }
        (DataType::List(known), DataType::List(wanted)) => {
            let merged = merge(known.data_type(), wanted.data_type())?;
            Some(DataType::List(Arc::new(known.as_ref().clone().with_data_type(merged))))
        }
        // The entries' field names differ between Arrow and Delta and mean nothing.
        (DataType::Map(known, _), DataType::Map(wanted, _)) => {
            let types = |entries: &Field| match entries.data_type() {
                DataType::Struct(fields) => fields.iter().map(|field| field.data_type().clone()).collect::<Vec<_>>(),
                other => vec![other.clone()],
            };
            (types(known) == types(wanted)).then(|| current.clone())
        }
        (current, wanted) => (current == wanted).then(|| current.clone()),
    }
}

/// A field without metadata, at any depth: JSON keys and the like are the catalog's business.
fn plain(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| plain(field)).collect::<Vec<_>>().into())
        }
        DataType::List(item) => DataType::List(Arc::new(plain(item))),
        DataType::Map(entries, sorted) => DataType::Map(Arc::new(plain(entries)), *sorted),
        other => other.clone(),
    };
    Field::new(field.name(), data_type, field.is_nullable())
}

#[cfg(test)]
mod tests;
