//! What the decoder accepts, refuses and says, over its public face; and against serde_json.

mod oracle;
mod records;
mod values;

use std::sync::Arc;

use anabranch_catalog::{Catalog, Source};
use anabranch_model::{Offset, OffsetRange, PartitionId, RawBatch, RawBatchBuilder};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use serde_json::{Value, json};

use crate::{Decoded, Decoder};

/// A source `t` of these columns.
pub(crate) fn source(columns: &str, with: &str) -> Arc<Source> {
    let sql = format!("CREATE TABLE t ({columns}) {with}");
    let catalog = Catalog::parse(&sql).unwrap_or_else(|problems| panic!("{problems:#?}"));
    Arc::clone(&catalog.sources["t"])
}

/// Payloads as one micro-batch of partition 3 that begins at offset 100.
pub(crate) fn raw<'p>(payloads: impl IntoIterator<Item = Option<&'p [u8]>>) -> RawBatch {
    let mut builder = RawBatchBuilder::new();
    for payload in payloads {
        let offset = 100 + i64::try_from(builder.len()).expect("small");
        builder.push(offset, Some(offset * 1000), Some(b"key"), payload, []);
    }
    let end = 100 + i64::try_from(builder.len()).expect("small");
    builder.finish(PartitionId(3), OffsetRange::new(Offset(100), Offset(end)))
}

pub(crate) fn raw_text(payloads: &[impl AsRef<[u8]>]) -> RawBatch {
    raw(payloads.iter().map(|payload| Some(payload.as_ref())))
}

fn decode(source: &Source, payloads: &[impl AsRef<[u8]>]) -> Decoded {
    Decoder::new(source).decode(&raw_text(payloads))
}

/// The declared columns of each event, as JSON objects by SQL name.
fn events(source: &Source, decoded: &Decoded) -> Vec<Value> {
    rows(source, &decoded.events)
}

pub(crate) fn rows(source: &Source, batch: &RecordBatch) -> Vec<Value> {
    (0..batch.num_rows())
        .map(|row| {
            let cells = source
                .columns
                .iter()
                .enumerate()
                .map(|(index, column)| (column.name.clone(), cell(batch.column(index).as_ref(), row)));
            Value::Object(cells.collect())
        })
        .collect()
}

/// A value in a form that compares: decimals and bytes as text, times as whole microseconds, dates as whole days.
fn cell(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => json!(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => json!(array.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::Binary => json!(array.as_binary::<i32>().value(row)),
        DataType::Date32 => json!(array.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(..) => json!(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).map(|item| cell(items.as_ref(), item)).collect()
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            Value::Object(
                fields
                    .iter()
                    .zip(columns)
                    .map(|(f, c)| (f.name().clone(), cell(c.as_ref(), row)))
                    .collect(),
            )
        }
        other => panic!("no column has type {other}"),
    }
}

/// `(offset, reason)` of each dead letter.
fn dead(decoded: &Decoded) -> Vec<(i64, String)> {
    let offsets = decoded
        .dead
        .column_by_name("_offset")
        .expect("ours")
        .as_primitive::<Int64Type>();
    let reasons = decoded.dead.column_by_name("_reason").expect("ours").as_string::<i32>();
    (0..decoded.dead.num_rows())
        .map(|row| (offsets.value(row), reasons.value(row).to_owned()))
        .collect()
}

/// The reason why one payload is a dead letter.
fn reason(source: &Source, payload: impl AsRef<[u8]>) -> String {
    let payload = payload.as_ref();
    let decoded = decode(source, &[payload]);
    assert_eq!(
        decoded.events.num_rows(),
        0,
        "{} decoded",
        String::from_utf8_lossy(payload)
    );
    let reason = dead(&decoded).remove(0).1;
    assert_eq!(
        Decoder::new(source).check(payload),
        Err(reason.clone()),
        "check and decode agree"
    );
    reason
}

/// The one event of one payload, which must decode.
fn one(columns: &str, with: &str, payload: &str) -> Value {
    let source = source(columns, with);
    let decoded = decode(&source, &[payload]);
    assert_eq!(dead(&decoded), [], "{payload}");
    events(&source, &decoded).remove(0)
}
