//! Parameters of prepared statements: bytes in the text or binary format → values of the query engine.

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalMonthDayNanoType};
use bytes::{Buf, Bytes};
use datafusion::scalar::ScalarValue;
use std::sync::Arc;

use crate::PgError;
use crate::encode::{EPOCH_DAYS, EPOCH_MICROS, read_numeric, unescaped};
use crate::types::{
    BOOL, BPCHAR, BYTEA, DATE, FLOAT4, FLOAT8, INT2, INT4, INT8, INTERVAL, JSON, JSONB, NAME, NUMERIC, OID, PgType,
    TEXT, TIME, TIMESTAMP, TIMESTAMPTZ, UNKNOWN, UUID, VARCHAR, arrow_type, element_of,
};

/// What is known of a parameter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameter {
    /// The type that the client declared; 0 when it leaves that to the server.
    pub(crate) declared: u32,
    /// The type that the query needs, where it tells.
    pub(crate) wanted: Option<DataType>,
}

impl Parameter {
    /// The type that the client is told, and sends values of.
    pub(crate) fn oid(&self) -> u32 {
        match (self.declared, &self.wanted) {
            (0 | UNKNOWN, Some(wanted)) => PgType::of_type(wanted).oid,
            (0 | UNKNOWN, None) => TEXT,
            (declared, _) => declared,
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// 22P02 or 22P03 when it is not of the type; 22023 when it does not fit what the query needs.
    pub(crate) fn read(&self, number: usize, value: Option<Bytes>, binary: bool) -> Result<ScalarValue, PgError> {
        let kind = arrow_type(self.oid());
        let value = match value {
            None => {
                let kind = self.wanted.clone().or(kind).unwrap_or(DataType::Utf8);
                return ScalarValue::try_from(&kind).map_err(|error| bad(number, &error.to_string()));
            }
            Some(bytes) if binary => read_binary(self.oid(), bytes).ok_or_else(|| {
                PgError::new(
                    "22P03",
                    format!("incorrect binary data format in bind parameter {number}"),
                )
            })?,
            Some(bytes) => {
                let text = std::str::from_utf8(&bytes)
                    .map_err(|_| PgError::new("22021", "invalid byte sequence for encoding \"UTF8\""))?;
                // What a declared type does not settle, the query does: one cast from the text.
                let kind = match self.declared {
                    0 | UNKNOWN => self.wanted.clone().or(kind),
                    NUMERIC => Some(self.wanted.clone().unwrap_or(numeric_type(text))),
                    _ => kind,
                };
                read_text(text, &kind.unwrap_or(DataType::Utf8), number)?
            }
        };
        match (&self.wanted, &value) {
            // A text that spells an array.
            (Some(wanted @ DataType::List(_)), ScalarValue::Utf8(Some(text))) => read_text(text, wanted, number),
            (Some(wanted), _) if &value.data_type() != wanted => convert(&value, wanted, number),
            _ => Ok(value),
        }
    }
}

/// Values of all parameters.
///
/// # Errors
/// 08P01 when their number is not that of the statement; as [`Parameter::read`].
pub(crate) fn read_all(
    parameters: &[Parameter],
    formats: &[i16],
    values: Vec<Option<Bytes>>,
) -> Result<Vec<ScalarValue>, PgError> {
    if values.len() != parameters.len() {
        return Err(PgError::new(
            "08P01",
            format!(
                "bind message supplies {} parameters, but the statement has {}",
                values.len(),
                parameters.len()
            ),
        ));
    }
    let binary = binary_formats(formats, values.len())?;
    let values = parameters.iter().zip(values).zip(binary).enumerate();
    values
        .map(|(index, ((parameter, value), binary))| parameter.read(index + 1, value, binary))
        .collect()
}

/// Which of `count` values are in the binary format.
///
/// # Errors
/// 08P01 for codes that are none, or too few of them.
pub(crate) fn binary_formats(codes: &[i16], count: usize) -> Result<Vec<bool>, PgError> {
    if let Some(unknown) = codes.iter().find(|code| !matches!(code, 0 | 1)) {
        return Err(PgError::new("08P01", format!("unsupported format code: {unknown}")));
    }
    match codes {
        [] => Ok(vec![false; count]),
        [all] => Ok(vec![*all == 1; count]),
        codes if codes.len() == count => Ok(codes.iter().map(|code| *code == 1).collect()),
        codes => Err(PgError::new(
            "08P01",
            format!("message has {} formats, but there are {count} values", codes.len()),
        )),
    }
}

fn bad(number: usize, what: &str) -> PgError {
    PgError::new("22023", format!("parameter ${number} cannot be used: {what}"))
}

/// A decimal type that holds the number as it is spelled.
fn numeric_type(text: &str) -> DataType {
    if text.contains(['e', 'E', 'n', 'N', 'i', 'I']) {
        return DataType::Float64;
    }
    let scale = text
        .split_once('.')
        .map_or(0, |(_, fraction)| fraction.trim_end().len());
    DataType::Decimal128(38, i8::try_from(scale).unwrap_or(38).min(38))
}

fn read_text(text: &str, kind: &DataType, number: usize) -> Result<ScalarValue, PgError> {
    let wrong = || {
        let name = crate::types::sql_name(PgType::of_type(kind).oid);
        PgError::new(
            "22P02",
            format!("invalid input syntax for type {name} in parameter ${number}: \"{text}\""),
        )
    };
    match kind {
        DataType::Utf8 => Ok(ScalarValue::Utf8(Some(text.to_owned()))),
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => {
            let bytes = text.strip_prefix("\\x").and_then(from_hex).ok_or_else(wrong)?;
            convert(&ScalarValue::Binary(Some(bytes)), kind, number)
        }
        DataType::List(item) => {
            let items = unescaped(text).ok_or_else(wrong)?;
            let values = items.iter().map(|value| match value {
                Some(text) => read_text(text, item.data_type(), number),
                None => ScalarValue::try_from(item.data_type()).map_err(|_| wrong()),
            });
            let values = values.collect::<Result<Vec<_>, _>>()?;
            Ok(ScalarValue::List(ScalarValue::new_list_nullable(
                &values,
                item.data_type(),
            )))
        }
        kind => {
            let array: ArrayRef = Arc::new(StringArray::from(vec![text.trim()]));
            let options = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            let array = cast_with_options(&array, kind, &options).map_err(|_| wrong())?;
            ScalarValue::try_from_array(&array, 0).map_err(|_| wrong())
        }
    }
}

fn convert(value: &ScalarValue, wanted: &DataType, number: usize) -> Result<ScalarValue, PgError> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    value
        .cast_to_with_options(wanted, &options)
        .map_err(|error| bad(number, &error.strip_backtrace()))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

/// Reads a value in the binary format; `None` when it is not one.
fn read_binary(oid: u32, mut bytes: Bytes) -> Option<ScalarValue> {
    let length = |wanted: usize| (bytes.len() == wanted).then_some(());
    Some(match oid {
        BOOL => {
            length(1)?;
            ScalarValue::Boolean(Some(bytes.get_u8() != 0))
        }
        INT2 => {
            length(2)?;
            ScalarValue::Int16(Some(bytes.get_i16()))
        }
        INT4 | OID => {
            length(4)?;
            ScalarValue::Int32(Some(bytes.get_i32()))
        }
        INT8 => {
            length(8)?;
            ScalarValue::Int64(Some(bytes.get_i64()))
        }
        FLOAT4 => {
            length(4)?;
            ScalarValue::Float32(Some(bytes.get_f32()))
        }
        FLOAT8 => {
            length(8)?;
            ScalarValue::Float64(Some(bytes.get_f64()))
        }
        TEXT | VARCHAR | BPCHAR | NAME | JSON => ScalarValue::Utf8(Some(String::from_utf8(bytes.into()).ok()?)),
        JSONB => {
            // A version before the text.
            if bytes.is_empty() || bytes.get_u8() != 1 {
                return None;
            }
            ScalarValue::Utf8(Some(String::from_utf8(bytes.into()).ok()?))
        }
        BYTEA => ScalarValue::Binary(Some(bytes.into())),
        DATE => {
            length(4)?;
            ScalarValue::Date32(Some(bytes.get_i32().checked_add(EPOCH_DAYS)?))
        }
        TIME => {
            length(8)?;
            ScalarValue::Time64Microsecond(Some(bytes.get_i64()))
        }
        TIMESTAMP | TIMESTAMPTZ => {
            length(8)?;
            ScalarValue::TimestampMicrosecond(Some(bytes.get_i64().checked_add(EPOCH_MICROS)?), Some("UTC".into()))
        }
        INTERVAL => {
            length(16)?;
            let (micros, days, months) = (bytes.get_i64(), bytes.get_i32(), bytes.get_i32());
            let value: IntervalMonthDayNano =
                IntervalMonthDayNanoType::make_value(months, days, micros.checked_mul(1000)?);
            ScalarValue::IntervalMonthDayNano(Some(value))
        }
        NUMERIC => {
            let text = read_numeric(bytes)?;
            read_text(&text, &numeric_type(&text), 0).ok()?
        }
        UUID => {
            length(16)?;
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            ScalarValue::Utf8(Some(parts.join("-")))
        }
        array => return read_binary_array(element_of(array)?, bytes),
    })
}

fn read_binary_array(element: u32, mut bytes: Bytes) -> Option<ScalarValue> {
    let kind = arrow_type(element)?;
    if bytes.len() < 12 {
        return None;
    }
    let (dimensions, _nulls, sent) = (bytes.get_i32(), bytes.get_i32(), bytes.get_u32());
    // Of an empty list, clients cannot tell what its elements would be.
    if sent != element && dimensions != 0 {
        return None;
    }
    let mut values = Vec::new();
    if dimensions == 1 {
        if bytes.len() < 8 {
            return None;
        }
        let (count, _from) = (usize::try_from(bytes.get_i32()).ok()?, bytes.get_i32());
        for _ in 0..count {
            if bytes.len() < 4 {
                return None;
            }
            let length = bytes.get_i32();
            if length == -1 {
                values.push(ScalarValue::try_from(&kind).ok()?);
                continue;
            }
            let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
            let value = read_binary(element, bytes.split_to(length))?;
            values.push(value.cast_to(&kind).ok()?);
        }
    } else if dimensions != 0 {
        return None;
    }
    bytes
        .is_empty()
        .then(|| ScalarValue::List(ScalarValue::new_list_nullable(&values, &kind)))
}

#[cfg(test)]
mod tests;
