//! Answers beside expected rows, as multisets, with a tolerance for floats only.

use chrono::{DateTime, NaiveDateTime};
use serde_json::Value;

/// Relative tolerance of floats.
const FLOAT: f64 = 1e-9;

/// A cell in comparable form: spellings of the same value are equal.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Null,
    Bool(bool),
    Integer(i128),
    Number(f64),
    /// Microseconds since the epoch.
    Time(i64),
    Text(String),
}

impl Cell {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => Self::Integer(integer.into()),
                None => Self::Number(number.as_f64().expect("JSON numbers are doubles")),
            },
            Value::String(text) => Self::of_text(text),
            other => Self::Text(other.to_string()),
        }
    }

    /// Decimals and times are spelled as text.
    fn of_text(text: &str) -> Self {
        if let Some(time) = time_us(text) {
            return Self::Time(time);
        }
        let decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte));
        match text.parse() {
            Ok(number) if decimal => Self::Number(number),
            _ => Self::Text(text.to_owned()),
        }
    }

    fn same(&self, other: &Self) -> bool {
        match (self.number(), other.number()) {
            (Some(a), Some(b)) => match (self, other) {
                (Self::Integer(a), Self::Integer(b)) => a == b,
                _ => (a - b).abs() <= FLOAT * a.abs().max(b.abs()),
            },
            _ => self == other,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Number(value) => Some(*value),
            _ => None,
        }
    }

    /// Sorts rows the same way on both sides; floats by fewer digits than are compared.
    fn sort_key(&self) -> String {
        match (self, self.number()) {
            (_, Some(number)) => format!("{number:+.6e}"),
            (other, None) => format!("{other:?}"),
        }
    }
}

/// RFC 3339, or the same without a zone, in microseconds since the epoch.
pub fn time_us(text: &str) -> Option<i64> {
    if text.len() < 19 || !text.is_char_boundary(10) {
        return None;
    }
    let zoned = DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_micros());
    let plain =
        || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|time| time.and_utc().timestamp_micros());
    let spaced =
        || NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").map(|time| time.and_utc().timestamp_micros());
    zoned.or_else(|_| plain()).or_else(|_| spaced()).ok()
}

/// # Panics
/// When the rows differ, whatever their order.
#[track_caller]
pub fn assert_same_rows(what: &str, expected: &[Vec<Value>], found: &[Vec<Value>]) {
    if let Some(difference) = difference(expected, found) {
        panic!("{what}: {difference}");
    }
}

/// The first difference of two multisets of rows.
pub fn difference(expected: &[Vec<Value>], found: &[Vec<Value>]) -> Option<String> {
    let sorted = |rows: &[Vec<Value>]| {
        let mut rows: Vec<Vec<Cell>> = rows.iter().map(|row| row.iter().map(Cell::of).collect()).collect();
        rows.sort_by_cached_key(|row| row.iter().map(Cell::sort_key).collect::<Vec<_>>());
        rows
    };
    let (expected, found) = (sorted(expected), sorted(found));
    let same = |a: &Vec<Cell>, b: &Vec<Cell>| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b));
    let first = expected.iter().zip(&found).find(|(a, b)| !same(a, b));
    if let Some((expected, found)) = first {
        return Some(format!(
            "the first row that differs\n  expected {expected:?}\n  found    {found:?}"
        ));
    }
    (expected.len() != found.len()).then(|| format!("{} rows were expected, {} found", expected.len(), found.len()))
}

/// # Panics
/// When the rows differ, or stand in another order.
#[track_caller]
pub fn assert_same_rows_in_order(what: &str, expected: &[Vec<Value>], found: &[Vec<Value>]) {
    assert_eq!(expected.len(), found.len(), "{what}: number of rows");
    for (at, (expected, found)) in expected.iter().zip(found).enumerate() {
        let same =
            expected.len() == found.len() && expected.iter().zip(found).all(|(a, b)| Cell::of(a).same(&Cell::of(b)));
        assert!(same, "{what}: row {at}\n  expected {expected:?}\n  found    {found:?}");
    }
}

#[cfg(test)]
mod tests;
