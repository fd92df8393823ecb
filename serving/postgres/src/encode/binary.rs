//! The binary format, as PostgreSQL's own send functions write it.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, DecimalType, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use bytes::BufMut;

use super::numeric::write_numeric;
use super::{Write, elements, text};
use crate::types::{PgType, TEXT, element_of};

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL's calendar starts.
pub(crate) const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub(crate) const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// The writer of a column's values.
pub(super) fn writer(array: &ArrayRef) -> Result<Write, ArrowError> {
    Ok(match array.data_type() {
        DataType::Boolean => {
            let array = array.as_boolean().clone();
            Box::new(move |row, out| out.put_u8(u8::from(array.value(row))))
        }
        DataType::Int16 => {
            let array = array.as_primitive::<Int16Type>().clone();
            Box::new(move |row, out| out.put_i16(array.value(row)))
        }
        DataType::Int32 => {
            let array = array.as_primitive::<Int32Type>().clone();
            Box::new(move |row, out| out.put_i32(array.value(row)))
        }
        DataType::Int64 => {
            let array = array.as_primitive::<Int64Type>().clone();
            Box::new(move |row, out| out.put_i64(array.value(row)))
        }
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>().clone();
            Box::new(move |row, out| out.put_f32(array.value(row)))
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>().clone();
            Box::new(move |row, out| out.put_f64(array.value(row)))
        }
        DataType::Decimal128(precision, scale) => {
            let (array, precision, scale) = (array.as_primitive::<Decimal128Type>().clone(), *precision, *scale);
            Box::new(move |row, out| {
                write_numeric(&Decimal128Type::format_decimal(array.value(row), precision, scale), out);
            })
        }
        DataType::Decimal256(precision, scale) => {
            let (array, precision, scale) = (array.as_primitive::<Decimal256Type>().clone(), *precision, *scale);
            Box::new(move |row, out| {
                write_numeric(&Decimal256Type::format_decimal(array.value(row), precision, scale), out);
            })
        }
        DataType::Binary => {
            let array = array.as_binary::<i32>().clone();
            Box::new(move |row, out| out.put_slice(array.value(row)))
        }
        DataType::Date32 => {
            let array = array.as_primitive::<Date32Type>().clone();
            Box::new(move |row, out| out.put_i32(array.value(row).saturating_sub(EPOCH_DAYS)))
        }
        DataType::Time64(_) => {
            let array = array.as_primitive::<Time64MicrosecondType>().clone();
            Box::new(move |row, out| out.put_i64(array.value(row)))
        }
        DataType::Timestamp(..) => {
            let array = array.as_primitive::<TimestampMicrosecondType>().clone();
            Box::new(move |row, out| out.put_i64(array.value(row).saturating_sub(EPOCH_MICROS)))
        }
        DataType::Interval(_) | DataType::Duration(_) => {
            let parts = text::interval_parts(array)?;
            Box::new(move |row, out| {
                let (months, days, micros) = parts(row);
                out.put_i64(micros);
                out.put_i32(days);
                out.put_i32(months);
            })
        }
        DataType::List(_) => match elements(array, true)? {
            Some((list, cell)) => {
                let item = element_of(PgType::of_type(list.data_type()).oid).unwrap_or(TEXT);
                Box::new(move |row, out| {
                    let (start, end) = (
                        list.value_offsets()[row] as usize,
                        list.value_offsets()[row + 1] as usize,
                    );
                    let nulls = (start..end).any(|item| cell.is_null(item));
                    out.put_i32(i32::from(end > start));
                    out.put_i32(i32::from(nulls));
                    out.put_u32(item);
                    if end > start {
                        out.put_i32(i32::try_from(end - start).unwrap_or(i32::MAX));
                        out.put_i32(1);
                        (start..end).for_each(|item| cell.put(item, out));
                    }
                })
            }
            None => text::writer(array)?,
        },
        // Text is the same in both formats, and so is what is sent as text.
        _ => text::writer(array)?,
    })
}
