use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use std::io::Write;
use std::sync::Arc;

/// Writes cell `row` of a column as JSON. Built once per column, so that types are looked at once.
pub type Cell = Box<dyn Fn(usize, &mut Vec<u8>) + Send>;

/// The JSON writer of a column.
///
/// # Errors
/// For types that have no spelling.
pub fn json_cell(array: &ArrayRef) -> Result<Cell, ArrowError> {
    let write = json_value(array)?;
    if array.logical_null_count() == 0 && array.data_type() != &DataType::Null {
        return Ok(write);
    }
    let Some(nulls) = array.logical_nulls() else {
        return Ok(write);
    };
    Ok(Box::new(move |row, out| {
        if nulls.is_null(row) {
            out.extend_from_slice(b"null")
        } else {
            write(row, out)
        }
    }))
}

fn json_value(array: &ArrayRef) -> Result<Cell, ArrowError> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, out| out.extend_from_slice(b"null")),
        DataType::Boolean => {
            let array = array.as_boolean().clone();
            Box::new(move |row, out| {
                out.extend_from_slice(if array.value(row) { b"true" } else { b"false" });
            })
        }
        DataType::Int8 => integer::<Int8Type>(array),
        DataType::Int16 => integer::<Int16Type>(array),
        DataType::Int32 => integer::<Int32Type>(array),
        DataType::Int64 => integer::<Int64Type>(array),
        DataType::UInt8 => integer::<UInt8Type>(array),
        DataType::UInt16 => integer::<UInt16Type>(array),
        DataType::UInt32 => integer::<UInt32Type>(array),
        DataType::UInt64 => integer::<UInt64Type>(array),
        DataType::Float16 => {
            let array = array.as_primitive::<Float16Type>().clone();
            Box::new(move |row, out| float(f64::from(array.value(row)), out))
        }
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>().clone();
            Box::new(move |row, out| {
                let value = array.value(row);
                // The shortest spelling of the 32-bit value, not of its 64-bit widening.
                if value.is_finite() {
                    write_shortest(value, out);
                } else {
                    float(f64::from(value), out);
                }
            })
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>().clone();
            Box::new(move |row, out| float(array.value(row), out))
        }
        DataType::Utf8 => {
            let array = array.as_string::<i32>().clone();
            Box::new(move |row, out| string(array.value(row), out))
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>().clone();
            Box::new(move |row, out| string(array.value(row), out))
        }
        DataType::Utf8View => {
            let array = array.as_string_view().clone();
            Box::new(move |row, out| string(array.value(row), out))
        }
        DataType::Binary => {
            let array = array.as_binary::<i32>().clone();
            Box::new(move |row, out| base64(array.value(row), out))
        }
        DataType::LargeBinary => {
            let array = array.as_binary::<i64>().clone();
            Box::new(move |row, out| base64(array.value(row), out))
        }
        DataType::BinaryView => {
            let array = array.as_binary_view().clone();
            Box::new(move |row, out| base64(array.value(row), out))
        }
        DataType::FixedSizeBinary(_) => {
            let array = array.as_fixed_size_binary().clone();
            Box::new(move |row, out| base64(array.value(row), out))
        }
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => timestamp::<TimestampSecondType>(array, 1),
            TimeUnit::Millisecond => timestamp::<TimestampMillisecondType>(array, 1_000),
            TimeUnit::Microsecond => timestamp::<TimestampMicrosecondType>(array, 1_000_000),
            TimeUnit::Nanosecond => timestamp::<TimestampNanosecondType>(array, 1_000_000_000),
        },
        DataType::Date32 => {
            let array = array.as_primitive::<Date32Type>().clone();
            Box::new(move |row, out| date(i64::from(array.value(row)), out))
        }
        DataType::Date64 => {
            let array = array.as_primitive::<Date64Type>().clone();
            Box::new(move |row, out| date(array.value(row).div_euclid(86_400_000), out))
        }
        DataType::List(_) => list::<i32>(array)?,
        DataType::LargeList(_) => list::<i64>(array)?,
        DataType::FixedSizeList(..) => {
            let array = array.as_fixed_size_list().clone();
            let item = json_cell(array.values())?;
            let width = array.value_length() as usize;
            Box::new(move |row, out| {
                let start = array.value_offset(row) as usize;
                elements(&item, start, start + width, out);
            })
        }
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let mut members = Vec::with_capacity(fields.len());
            for (field, column) in fields.iter().zip(array.columns()) {
                members.push((quoted(field.name()), json_cell(column)?));
            }
            Box::new(move |row, out| object(&members, row, out))
        }
        DataType::Map(..) => {
            let array = array.as_map().clone();
            // JSON keys are strings, whatever the map's are.
            let keys = cast(array.keys(), &DataType::Utf8)?.as_string::<i32>().clone();
            let item = json_cell(array.values())?;
            Box::new(move |row, out| {
                let offsets = array.value_offsets();
                out.push(b'{');
                for entry in offsets[row] as usize..offsets[row + 1] as usize {
                    if entry > offsets[row] as usize {
                        out.push(b',');
                    }
                    string(keys.value(entry), out);
                    out.push(b':');
                    item(entry, out);
                }
                out.push(b'}');
            })
        }
        DataType::Dictionary(_, value) => json_value(&cast(array, value)?)?,
        DataType::RunEndEncoded(_, value) => json_value(&cast(array, value.data_type())?)?,
        // Decimals (exact, so not as JSON numbers), times, intervals: as Arrow spells them.
        _ => {
            let array = Arc::clone(array);
            ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default())?;
            Box::new(move |row, out| {
                let formatter = ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default());
                let text = formatter
                    .map(|formatter| formatter.value(row).to_string())
                    .unwrap_or_default();
                string(&text, out);
            })
        }
    })
}

fn integer<T: ArrowPrimitiveType>(array: &ArrayRef) -> Cell
where
    T::Native: std::fmt::Display,
{
    let array = array.as_primitive::<T>().clone();
    Box::new(move |row, out| push(out, format_args!("{}", array.value(row))))
}

fn timestamp<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef, per_second: i64) -> Cell {
    let array = array.as_primitive::<T>().clone();
    Box::new(move |row, out| {
        let value = array.value(row);
        let nanos = (value.rem_euclid(per_second) * (1_000_000_000 / per_second)) as u32;
        match DateTime::<Utc>::from_timestamp(value.div_euclid(per_second), nanos) {
            Some(time) => push(
                out,
                format_args!("\"{}\"", time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            ),
            // Beyond year 262143: the number is all there is to say.
            None => push(out, format_args!("\"{value}\"")),
        }
    })
}

fn date(days: i64, out: &mut Vec<u8>) {
    match days
        .checked_mul(86_400)
        .and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, 0))
    {
        Some(time) => push(out, format_args!("\"{}\"", time.format("%Y-%m-%d"))),
        None => push(out, format_args!("\"{days}\"")),
    }
}

fn list<O: OffsetSizeTrait>(array: &ArrayRef) -> Result<Cell, ArrowError> {
    let array = array.as_list::<O>().clone();
    let item = json_cell(array.values())?;
    Ok(Box::new(move |row, out| {
        let offsets = array.value_offsets();
        elements(&item, offsets[row].as_usize(), offsets[row + 1].as_usize(), out);
    }))
}

fn elements(item: &Cell, start: usize, end: usize, out: &mut Vec<u8>) {
    out.push(b'[');
    for index in start..end {
        if index > start {
            out.push(b',');
        }
        item(index, out);
    }
    out.push(b']');
}

/// Writes one JSON object of already quoted names.
pub fn object(members: &[(Vec<u8>, Cell)], row: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (name, cell)) in members.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name);
        out.push(b':');
        cell(row, out);
    }
    out.push(b'}');
}

fn float(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        write_shortest(value, out);
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if value > 0.0 {
        out.extend_from_slice(b"\"Infinity\"");
    } else {
        out.extend_from_slice(b"\"-Infinity\"");
    }
}

/// The shortest JSON number that reads back as the same float.
fn write_shortest(value: impl serde::Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &value).expect("a finite number is always written, and a Vec takes it");
}

fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always written, and a Vec takes it");
}

/// A name as a JSON string.
pub fn quoted(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    string(name, &mut out);
    out
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    push(out, format_args!("\"{}\"", BASE64_STANDARD.encode(bytes)));
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes everything");
}
