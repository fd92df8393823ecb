//! One column: reads a JSON value of its type into its builder.

use std::sync::Arc;

use anabranch_catalog::TimestampFormat;
use anabranch_model::columns::timestamp_type;
use arrow::array::ArrayRef;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::builder::{Booleans, Bytes, Primitive};
use crate::fault::{Fault, Reason, excerpt};
use crate::input::Input;
use crate::nested::{ListReader, StructReader};
use crate::number::{Excess, Inexact, double, integer, scaled};
use crate::text::{append_text, unescaped};
use crate::time::{Dates, MAX_MICROS, MIN_MICROS};

/// Standard base64; padding may be left out, as many producers do.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reader and builder of one column, or of the fields and items inside one.
#[derive(Debug)]
pub(crate) enum ColumnReader {
    Boolean(Booleans),
    Int(Primitive<Int32Type>),
    BigInt(Primitive<Int64Type>),
    Double(Primitive<Float64Type>),
    Decimal {
        rows: Primitive<Decimal128Type>,
        precision: u8,
        scale: i8,
    },
    Text(Bytes),
    Bytes {
        rows: Bytes,
        scratch: Vec<u8>,
    },
    Date {
        rows: Primitive<Date32Type>,
        dates: Dates,
        scratch: Vec<u8>,
    },
    Timestamp {
        rows: Primitive<TimestampMicrosecondType>,
        dates: Dates,
        format: TimestampFormat,
        scratch: Vec<u8>,
    },
    List(Box<ListReader>),
    Struct(Box<StructReader>),
}

impl ColumnReader {
    /// A reader for one of the types that a catalog can declare; nested fields carry their JSON keys.
    pub fn new(data_type: &DataType, format: TimestampFormat) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean(Booleans::default()),
            DataType::Int32 => Self::Int(Primitive::default()),
            DataType::Int64 => Self::BigInt(Primitive::default()),
            DataType::Float64 => Self::Double(Primitive::default()),
            DataType::Decimal128(precision, scale) => Self::Decimal {
                rows: Primitive::default(),
                precision: *precision,
                scale: *scale,
            },
            DataType::Utf8 => Self::Text(Bytes::default()),
            DataType::Binary => Self::Bytes {
                rows: Bytes::default(),
                scratch: Vec::new(),
            },
            DataType::Date32 => Self::Date {
                rows: Primitive::default(),
                dates: Dates::default(),
                scratch: Vec::new(),
            },
            DataType::Timestamp(..) => Self::Timestamp {
                rows: Primitive::default(),
                dates: Dates::default(),
                format,
                scratch: Vec::new(),
            },
            DataType::List(item) => Self::List(Box::new(ListReader::new(item, format))),
            DataType::Struct(fields) => Self::Struct(Box::new(StructReader::new(fields, format))),
            other => unreachable!("the catalog declares no column of type {other}"),
        }
    }

    /// Rows so far.
    #[inline(always)]
    pub fn len(&self) -> usize {
        match self {
            Self::Boolean(rows) => rows.validity.len(),
            Self::Int(rows) => rows.validity.len(),
            Self::BigInt(rows) => rows.validity.len(),
            Self::Double(rows) => rows.validity.len(),
            Self::Decimal { rows, .. } => rows.validity.len(),
            Self::Text(rows) | Self::Bytes { rows, .. } => rows.validity.len(),
            Self::Date { rows, .. } => rows.validity.len(),
            Self::Timestamp { rows, .. } => rows.validity.len(),
            Self::List(list) => list.validity.len(),
            Self::Struct(fields) => fields.validity.len(),
        }
    }

    /// Whether row `index`, which must exist, is null.
    pub fn is_null(&self, index: usize) -> bool {
        match self {
            Self::Boolean(rows) => rows.validity.is_null(index),
            Self::Int(rows) => rows.validity.is_null(index),
            Self::BigInt(rows) => rows.validity.is_null(index),
            Self::Double(rows) => rows.validity.is_null(index),
            Self::Decimal { rows, .. } => rows.validity.is_null(index),
            Self::Text(rows) | Self::Bytes { rows, .. } => rows.validity.is_null(index),
            Self::Date { rows, .. } => rows.validity.is_null(index),
            Self::Timestamp { rows, .. } => rows.validity.is_null(index),
            Self::List(list) => list.validity.is_null(index),
            Self::Struct(fields) => fields.validity.is_null(index),
        }
    }

    pub fn push_null(&mut self) {
        match self {
            Self::Boolean(rows) => rows.push_null(),
            Self::Int(rows) => rows.push_null(),
            Self::BigInt(rows) => rows.push_null(),
            Self::Double(rows) => rows.push_null(),
            Self::Decimal { rows, .. } => rows.push_null(),
            Self::Text(rows) | Self::Bytes { rows, .. } => rows.push_null(),
            Self::Date { rows, .. } => rows.push_null(),
            Self::Timestamp { rows, .. } => rows.push_null(),
            Self::List(list) => list.push_null(),
            Self::Struct(fields) => fields.push_null(),
        }
    }

    /// Keeps `rows` rows, and nothing of a row that was begun.
    pub fn truncate(&mut self, len: usize) {
        match self {
            Self::Boolean(rows) => rows.truncate(len),
            Self::Int(rows) => rows.truncate(len),
            Self::BigInt(rows) => rows.truncate(len),
            Self::Double(rows) => rows.truncate(len),
            Self::Decimal { rows, .. } => rows.truncate(len),
            Self::Text(rows) | Self::Bytes { rows, .. } => rows.truncate(len),
            Self::Date { rows, .. } => rows.truncate(len),
            Self::Timestamp { rows, .. } => rows.truncate(len),
            Self::List(list) => list.truncate(len),
            Self::Struct(fields) => fields.truncate(len),
        }
    }

    /// Makes room for `rows` more rows out of `bytes` bytes of JSON.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        match self {
            Self::Boolean(_) => {}
            Self::Int(builder) => builder.reserve(rows),
            Self::BigInt(builder) => builder.reserve(rows),
            Self::Double(builder) => builder.reserve(rows),
            Self::Decimal { rows: builder, .. } => builder.reserve(rows),
            Self::Text(builder) | Self::Bytes { rows: builder, .. } => builder.reserve(rows, bytes),
            Self::Date { rows: builder, .. } => builder.reserve(rows),
            Self::Timestamp { rows: builder, .. } => builder.reserve(rows),
            Self::List(list) => list.reserve(rows),
            Self::Struct(fields) => fields.reserve(rows, bytes),
        }
    }

    /// What was gathered, which leaves the reader empty.
    pub fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(rows) => rows.finish(),
            Self::Int(rows) => Arc::new(rows.finish()),
            Self::BigInt(rows) => Arc::new(rows.finish()),
            Self::Double(rows) => Arc::new(rows.finish()),
            Self::Decimal { rows, precision, scale } => {
                Arc::new(rows.finish().with_data_type(DataType::Decimal128(*precision, *scale)))
            }
            Self::Text(rows) => rows.finish_text(),
            Self::Bytes { rows, .. } => rows.finish_bytes(),
            Self::Date { rows, .. } => Arc::new(rows.finish()),
            Self::Timestamp { rows, .. } => Arc::new(rows.finish().with_data_type(timestamp_type())),
            Self::List(list) => list.finish(),
            Self::Struct(fields) => fields.finish(),
        }
    }

    /// Reads the value that is next as one more row. After a fault, the row must be taken back with [`Self::truncate`].
    #[inline(always)]
    pub fn read(&mut self, input: &mut Input<'_>) -> Result<(), Fault> {
        let first = input.peek();
        let number = matches!(first, b'-' | b'0'..=b'9');
        let text = first == b'"';
        match self {
            Self::Text(rows) if text => {
                append_text(input, &mut rows.values)?;
                rows.end_row();
            }
            Self::BigInt(rows) if number => rows.push(integer(input, i64::MIN, i64::MAX, "BIGINT")?),
            Self::Int(rows) if number => {
                let value = integer(input, i32::MIN.into(), i32::MAX.into(), "INT")?;
                rows.push(i32::try_from(value).expect("the range was checked"));
            }
            Self::Double(rows) if number => rows.push(double(input)?),
            Self::Timestamp {
                rows, dates, scratch, ..
            } if text => {
                let quoted = input.quoted()?;
                let micros = dates.timestamp(unescaped(quoted, scratch)?);
                rows.push(micros.ok_or_else(|| unreadable(TIMESTAMP, quoted.bytes))?);
            }
            Self::Timestamp { rows, format, .. } if number => rows.push(epoch(input, *format)?),
            Self::Boolean(rows) if first == b't' && input.literal(b"true") => rows.push(true),
            Self::Boolean(rows) if first == b'f' && input.literal(b"false") => rows.push(false),
            Self::Date { rows, dates, scratch } if text => {
                let quoted = input.quoted()?;
                let days = dates.whole(unescaped(quoted, scratch)?);
                rows.push(days.ok_or_else(|| unreadable(DATE, quoted.bytes))?);
            }
            Self::Decimal { rows, precision, scale } if number || text => {
                rows.push(decimal(input, *precision, *scale)?);
            }
            Self::Bytes { rows, scratch } if text => {
                let quoted = input.quoted()?;
                let encoded = unescaped(quoted, scratch)?;
                if BASE64.decode_vec(encoded, &mut rows.values).is_err() {
                    return Err(unreadable(BYTES, quoted.bytes));
                }
                rows.end_row();
            }
            Self::List(list) if first == b'[' => list.read(input)?,
            Self::Struct(fields) if first == b'{' => fields.read(input)?,
            _ if first == b'n' && input.null() => self.push_null(),
            _ => return Err(input.wrong_type(self.type_name())),
        }
        Ok(())
    }

    /// What the column is called in `views.sql`, for reasons.
    fn type_name(&self) -> String {
        match self {
            Self::Boolean(_) => "BOOLEAN (true or false)".into(),
            Self::Int(_) => "INT".into(),
            Self::BigInt(_) => "BIGINT".into(),
            Self::Double(_) => "DOUBLE".into(),
            Self::Decimal { precision, scale, .. } => decimal_name(*precision, *scale),
            Self::Text(_) => "TEXT".into(),
            Self::Bytes { .. } => BYTES.into(),
            Self::Date { .. } => DATE.into(),
            Self::Timestamp { .. } => TIMESTAMP.into(),
            Self::List(_) => "an array".into(),
            Self::Struct(_) => "an object".into(),
        }
    }
}

const TIMESTAMP: &str = "TIMESTAMP (RFC 3339 text)";
const DATE: &str = "DATE (YYYY-MM-DD)";
const BYTES: &str = "BYTES (base64 text)";

#[cold]
fn unreadable(expected: &'static str, text: &[u8]) -> Fault {
    Reason::wrong_type(expected, format!("text \"{}\"", excerpt(text)))
}

fn decimal_name(precision: u8, scale: i8) -> String {
    format!("DECIMAL({precision}, {scale})")
}

/// Reads an epoch number as microseconds.
#[inline]
fn epoch(input: &mut Input<'_>, format: TimestampFormat) -> Result<i64, Fault> {
    let scale = match format {
        TimestampFormat::Rfc3339 => return Err(input.wrong_type(TIMESTAMP)),
        TimestampFormat::EpochSeconds => 6,
        TimestampFormat::EpochMillis => 3,
        TimestampFormat::EpochMicros => 0,
    };
    let start = input.at;
    let micros = match crate::number::short_integer(input) {
        Some(value) => value.checked_mul(10_i64.pow(scale)),
        None => {
            input.skip_number()?;
            let scale = i32::try_from(scale).expect("a scale is at most 6");
            scaled(input.since(start), scale, Excess::Truncate)
                .ok()
                .and_then(|value| i64::try_from(value).ok())
        }
    };
    micros
        .filter(|micros| (MIN_MICROS..=MAX_MICROS).contains(micros))
        .ok_or_else(|| {
            let found = format!(
                "number {}, which is not in the years 0 to 9999",
                excerpt(input.since(start))
            );
            Reason::wrong_type(format!("TIMESTAMP ({})", unit_name(format)), found)
        })
}

fn unit_name(format: TimestampFormat) -> &'static str {
    match format {
        TimestampFormat::Rfc3339 => "RFC 3339 text",
        TimestampFormat::EpochSeconds => "epoch seconds",
        TimestampFormat::EpochMillis => "epoch milliseconds",
        TimestampFormat::EpochMicros => "epoch microseconds",
    }
}

/// Reads a number, or a number as text, exactly.
fn decimal(input: &mut Input<'_>, precision: u8, scale: i8) -> Result<i128, Fault> {
    let start = input.at;
    let text = if input.peek() == b'"' {
        // A number has nothing to escape; one that is escaped all the same is refused as text.
        input.quoted()?.bytes
    } else {
        input.skip_number()?;
        input.since(start)
    };
    let problem = match scaled(text, scale.into(), Excess::Refuse) {
        Ok(value) if value.unsigned_abs() < 10_u128.pow(precision.into()) => return Ok(value),
        Ok(_) | Err(Inexact::TooLarge) => "which has too many digits",
        Err(Inexact::Fraction) => "which has more fractional digits",
        Err(Inexact::NotANumber) => "which is no number",
    };
    let expected = decimal_name(precision, scale);
    Err(Reason::wrong_type(
        expected,
        format!("{}, {problem}", excerpt(input.since(start))),
    ))
}
