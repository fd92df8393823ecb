//! The order of batch view files: ascending by key, nulls first.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::row::{Row, RowConverter, Rows, SortField};
use datafusion::common::Result;

/// Bytes of a key that are compared as one number.
const WORD_BYTES: usize = 16;

/// The order of rows by key, equal ones as they come; `None` if they stand in it.
pub(crate) fn sort_order(keys: &[ArrayRef]) -> Result<Option<UInt32Array>> {
    let Some(first) = keys.first() else { return Ok(None) };
    if first.len() < 2 {
        return Ok(None);
    }
    if let ([_], Some(values)) = (keys, longs(first)) {
        return Ok(order_by(values, |_, _| Ordering::Equal));
    }
    let converter = RowConverter::new(keys.iter().map(|k| SortField::new(k.data_type().clone())).collect())?;
    let rows = converter.convert_columns(keys)?;
    // Keys of one view begin alike ("/shop/…", the same day); what all share decides nothing.
    let shared = shared_prefix(&rows);
    let words: Vec<u128> = rows.iter().map(|row| word(row.data(), shared)).collect();
    let data = |row: u32| rows.row(row as usize).data();
    let rest = |row: u32| data(row).get(shared + WORD_BYTES..).unwrap_or_default();
    // A key that another continues with zeros comes first.
    let longer = |a: u32, b: u32| rest(a).cmp(rest(b)).then_with(|| data(a).len().cmp(&data(b).len()));
    Ok(order_by(&words, longer))
}

/// The values of a key of 64-bit integers without nulls.
fn longs(key: &ArrayRef) -> Option<&[i64]> {
    if key.null_count() > 0 {
        return None;
    }
    match key.data_type() {
        DataType::Int64 => Some(key.as_primitive::<Int64Type>().values()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(key.as_primitive::<TimestampMicrosecondType>().values()),
        _ => None,
    }
}

/// The order of words, and where they are equal of what `then` compares.
fn order_by<W: Ord + Copy>(words: &[W], then: impl Fn(u32, u32) -> Ordering) -> Option<UInt32Array> {
    let compare = |a: &(W, u32), b: &(W, u32)| a.0.cmp(&b.0).then_with(|| then(a.1, b.1)).then_with(|| a.1.cmp(&b.1));
    let mut order: Vec<(W, u32)> = words.iter().copied().zip(0_u32..).collect();
    if order.is_sorted_by(|a, b| compare(a, b).is_lt()) {
        return None;
    }
    order.sort_unstable_by(compare);
    Some(UInt32Array::from_iter_values(order.into_iter().map(|(_, row)| row)))
}

/// Length of the prefix that all rows share.
fn shared_prefix(rows: &Rows) -> usize {
    let mut rows = rows.iter();
    let Some(first) = rows.next() else { return 0 };
    let common = |shared: usize, row: Row<'_>| {
        first.data()[..shared]
            .iter()
            .zip(row.data())
            .take_while(|(a, b)| a == b)
            .count()
    };
    rows.fold(first.data().len(), common)
}

/// The bytes from `start` on as a number that compares like them; what is missing at the end counts as zeros.
fn word(bytes: &[u8], start: usize) -> u128 {
    let bytes = bytes.get(start..).unwrap_or_default();
    let mut word = [0; WORD_BYTES];
    let taken = bytes.len().min(WORD_BYTES);
    word[..taken].copy_from_slice(&bytes[..taken]);
    u128::from_be_bytes(word)
}
