//! The text format, as PostgreSQL's own output functions write it with `DateStyle = ISO` and `TimeZone = UTC`.

use std::fmt::Write as _;

use anabranch_front::json_cell;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, DecimalType, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Datelike, NaiveDate, Timelike};

use super::{Write, elements};

const MICROS_PER_SECOND: i64 = 1_000_000;

macro_rules! display {
    ($array:expr, $kind:ty) => {{
        let array = $array.as_primitive::<$kind>().clone();
        Box::new(move |row, out| push(out, format_args!("{}", array.value(row))))
    }};
}

/// The writer of a column's values.
pub(super) fn writer(array: &ArrayRef) -> Result<Write, ArrowError> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, _| {}),
        DataType::Boolean => {
            let array = array.as_boolean().clone();
            Box::new(move |row, out| out.put_u8(if array.value(row) { b't' } else { b'f' }))
        }
        DataType::Int16 => display!(array, Int16Type),
        DataType::Int32 => display!(array, Int32Type),
        DataType::Int64 => display!(array, Int64Type),
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>().clone();
            Box::new(move |row, out| {
                let value = array.value(row);
                float(
                    out,
                    f64::from(value),
                    format_args!("{value}"),
                    format_args!("{value:e}"),
                );
            })
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>().clone();
            Box::new(move |row, out| {
                let value = array.value(row);
                float(out, value, format_args!("{value}"), format_args!("{value:e}"));
            })
        }
        DataType::Decimal128(precision, scale) => {
            let (array, precision, scale) = (array.as_primitive::<Decimal128Type>().clone(), *precision, *scale);
            Box::new(move |row, out| {
                out.put_slice(Decimal128Type::format_decimal(array.value(row), precision, scale).as_bytes());
            })
        }
        DataType::Decimal256(precision, scale) => {
            let (array, precision, scale) = (array.as_primitive::<Decimal256Type>().clone(), *precision, *scale);
            Box::new(move |row, out| {
                out.put_slice(Decimal256Type::format_decimal(array.value(row), precision, scale).as_bytes());
            })
        }
        DataType::Utf8 => {
            let array = array.as_string::<i32>().clone();
            Box::new(move |row, out| out.put_slice(array.value(row).as_bytes()))
        }
        DataType::Binary => {
            let array = array.as_binary::<i32>().clone();
            Box::new(move |row, out| {
                out.put_slice(b"\\x");
                array
                    .value(row)
                    .iter()
                    .for_each(|byte| push(out, format_args!("{byte:02x}")));
            })
        }
        DataType::Date32 => {
            let array = array.as_primitive::<Date32Type>().clone();
            Box::new(move |row, out| date(out, i64::from(array.value(row))))
        }
        DataType::Time64(_) => {
            let array = array.as_primitive::<Time64MicrosecondType>().clone();
            Box::new(move |row, out| {
                let micros = array.value(row);
                clock(
                    out,
                    micros.div_euclid(MICROS_PER_SECOND),
                    micros.rem_euclid(MICROS_PER_SECOND),
                );
            })
        }
        DataType::Timestamp(..) => {
            let array = array.as_primitive::<TimestampMicrosecondType>().clone();
            Box::new(move |row, out| timestamp(out, array.value(row)))
        }
        DataType::Interval(_) | DataType::Duration(_) => {
            let parts = interval_parts(array)?;
            Box::new(move |row, out| interval(out, parts(row)))
        }
        DataType::List(_) => match elements(array, false)? {
            Some((list, cell)) => Box::new(move |row, out| {
                let (start, end) = (
                    list.value_offsets()[row] as usize,
                    list.value_offsets()[row + 1] as usize,
                );
                out.put_u8(b'{');
                let mut text = BytesMut::new();
                for item in start..end {
                    if item > start {
                        out.put_u8(b',');
                    }
                    if cell.is_null(item) {
                        out.put_slice(b"NULL");
                        continue;
                    }
                    text.clear();
                    (cell.write)(item, &mut text);
                    element(out, &text);
                }
                out.put_u8(b'}');
            }),
            None => json(array)?,
        },
        _ => json(array)?,
    })
}

/// As HTTP answers spell it.
pub(super) fn json(array: &ArrayRef) -> Result<Write, ArrowError> {
    let cell = json_cell(array)?;
    Ok(Box::new(move |row, out| {
        let mut text = Vec::new();
        cell(row, &mut text);
        out.put_slice(&text);
    }))
}

/// Months, days and microseconds of an interval.
pub(super) type Parts = Box<dyn Fn(usize) -> (i32, i32, i64) + Send>;

pub(super) fn interval_parts(array: &ArrayRef) -> Result<Parts, ArrowError> {
    macro_rules! duration {
        ($kind:ty, $micros:expr) => {{
            let array = array.as_primitive::<$kind>().clone();
            let micros: fn(i64) -> i64 = $micros;
            Box::new(move |row| (0, 0, micros(array.value(row))))
        }};
    }
    Ok(match array.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => {
            let array = array.as_primitive::<IntervalYearMonthType>().clone();
            Box::new(move |row| (array.value(row), 0, 0))
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            let array = array.as_primitive::<IntervalDayTimeType>().clone();
            Box::new(move |row| {
                let value = array.value(row);
                (0, value.days, i64::from(value.milliseconds) * 1000)
            })
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let array = array.as_primitive::<IntervalMonthDayNanoType>().clone();
            Box::new(move |row| {
                let value = array.value(row);
                (value.months, value.days, value.nanoseconds / 1000)
            })
        }
        DataType::Duration(TimeUnit::Second) => duration!(DurationSecondType, |s| s.saturating_mul(MICROS_PER_SECOND)),
        DataType::Duration(TimeUnit::Millisecond) => duration!(DurationMillisecondType, |ms| ms.saturating_mul(1000)),
        DataType::Duration(TimeUnit::Microsecond) => duration!(DurationMicrosecondType, |us| us),
        DataType::Duration(TimeUnit::Nanosecond) => duration!(DurationNanosecondType, |ns| ns / 1000),
        other => return Err(ArrowError::NotYetImplemented(format!("{other} as an interval"))),
    })
}

fn push(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("the buffer grows as it must");
}

/// The shortest digits that read back as the same value; with an exponent where PostgreSQL writes one.
fn float(out: &mut BytesMut, value: f64, plain: std::fmt::Arguments<'_>, scientific: std::fmt::Arguments<'_>) {
    if value.is_nan() {
        out.put_slice(b"NaN");
    } else if value.is_infinite() {
        out.put_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    } else if value != 0.0 && !(1e-4..1e15).contains(&value.abs()) {
        let text = scientific.to_string();
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent
            .strip_prefix('-')
            .map_or(('+', exponent), |exponent| ('-', exponent));
        push(out, format_args!("{digits}e{sign}{exponent:0>2}"));
    } else {
        push(out, plain);
    }
}

/// Years before 1 are counted as people count them, with BC behind the value.
fn day(out: &mut BytesMut, date: NaiveDate) -> bool {
    let before = date.year() < 1;
    let year = if before { 1 - date.year() } else { date.year() };
    push(out, format_args!("{year:04}-{:02}-{:02}", date.month(), date.day()));
    before
}

fn date(out: &mut BytesMut, days: i64) {
    match DateTime::from_timestamp(days * 86_400, 0) {
        Some(at) => {
            if day(out, at.date_naive()) {
                out.put_slice(b" BC");
            }
        }
        None => infinity(out, days),
    }
}

fn timestamp(out: &mut BytesMut, micros: i64) {
    let Some(at) = DateTime::from_timestamp_micros(micros) else {
        return infinity(out, micros);
    };
    let before = day(out, at.date_naive());
    out.put_u8(b' ');
    clock(
        out,
        i64::from(at.num_seconds_from_midnight()),
        micros.rem_euclid(MICROS_PER_SECOND),
    );
    out.put_slice(b"+00");
    if before {
        out.put_slice(b" BC");
    }
}

/// What lies beyond the calendar.
fn infinity(out: &mut BytesMut, value: i64) {
    out.put_slice(if value > 0 { b"infinity" } else { b"-infinity" });
}

fn clock(out: &mut BytesMut, seconds: i64, micros: i64) {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    push(out, format_args!("{hours:02}:{minutes:02}:{seconds:02}"));
    if micros != 0 {
        let fraction = format!("{micros:06}");
        push(out, format_args!(".{}", fraction.trim_end_matches('0')));
    }
}

fn interval(out: &mut BytesMut, (months, days, micros): (i32, i32, i64)) {
    let start = out.len();
    let mut part = |count: i32, one: &str, many: &str| {
        if count != 0 {
            let space = if out.len() > start { " " } else { "" };
            push(
                out,
                format_args!("{space}{count} {}", if count == 1 { one } else { many }),
            );
        }
    };
    part(months / 12, "year", "years");
    part(months % 12, "mon", "mons");
    part(days, "day", "days");
    if micros != 0 || out.len() == start {
        if out.len() > start {
            out.put_u8(b' ');
        }
        if micros < 0 {
            out.put_u8(b'-');
        }
        let absolute = micros.unsigned_abs();
        let (seconds, rest) = (absolute / MICROS_PER_SECOND as u64, absolute % MICROS_PER_SECOND as u64);
        clock(out, seconds as i64, rest as i64);
    }
}

/// An array's element, quoted where it could be misread.
fn element(out: &mut BytesMut, text: &[u8]) {
    let plain = !text.is_empty()
        && !text.eq_ignore_ascii_case(b"null")
        && !text
            .iter()
            .any(|byte| matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') || is_space(char::from(*byte)));
    if plain {
        return out.put_slice(text);
    }
    out.put_u8(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}

/// What PostgreSQL takes for whitespace in an array.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Reads an array of one dimension in the text format; `None` for anything else.
pub(crate) fn unescaped(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim_matches(is_space).strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    if inner.trim_matches(is_space).is_empty() {
        return Some(items);
    }
    let mut rest = inner.chars().peekable();
    loop {
        while rest.peek().is_some_and(|c| is_space(*c)) {
            rest.next();
        }
        let (mut item, mut quoted) = (String::new(), false);
        if rest.next_if_eq(&'"').is_some() {
            quoted = true;
            loop {
                match rest.next()? {
                    '"' => break,
                    '\\' => item.push(rest.next()?),
                    other => item.push(other),
                }
            }
            while rest.peek().is_some_and(|c| is_space(*c)) {
                rest.next();
            }
        } else {
            while let Some(c) = rest.next_if(|c| *c != ',') {
                match c {
                    '{' | '}' | '"' => return None,
                    '\\' => item.push(rest.next()?),
                    other => item.push(other),
                }
            }
            item.truncate(item.trim_end_matches(is_space).len());
        }
        items.push((quoted || !item.eq_ignore_ascii_case("null")).then_some(item));
        match rest.next() {
            Some(',') => {}
            None => return Some(items),
            Some(_) => return None,
        }
    }
}
