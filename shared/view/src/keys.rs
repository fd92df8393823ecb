//! Group keys: which types can be one, their one spelling, and routing by hash.

mod codec;
mod range;
mod sort;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{take_arrays, take_record_batch};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::Result;
use datafusion::common::hash_utils::{RandomState, create_hashes};

pub use codec::{KeyCodec, KeyHashes, KeyIndex, KeyOrder};
pub use range::{KeyRange, KeyRanges, partition_point};
pub(crate) use sort::sort_order;

/// Seed of the hash that routes keys. Fixed, so that parts that were routed or spilled by another process are the same;
/// unlike the seed of any hash table, so that one part's keys still spread over the buckets of a table.
const ROUTING_SEED: u64 = 0x616e_6162_7261_6e63;

/// Whether values of a type can be grouped, hashed and sorted.
pub(crate) fn can_be_key(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => can_be_key(item.data_type()) && !holds_floats(item.data_type()),
        DataType::Struct(fields) => fields
            .iter()
            .all(|f| can_be_key(f.data_type()) && !holds_floats(f.data_type())),
        DataType::Map(_, _) | DataType::Union(_, _) | DataType::Interval(_) => false,
        other => RowConverter::supports_fields(&[SortField::new(other.clone())]),
    }
}

/// Floats inside a list or struct keep their two zeros and many NaNs, so those are refused as keys.
fn holds_floats(data_type: &DataType) -> bool {
    data_type.is_floating()
}

/// Gives floats that are equal one spelling: -0 becomes 0, every NaN the same NaN.
pub(crate) fn normalise_floats(array: &ArrayRef) -> ArrayRef {
    macro_rules! normalise {
        ($type:ty, $zero:expr, $nan:expr) => {{
            let array = array.as_primitive::<$type>();
            Arc::new(array.unary::<_, $type>(|x| if x.is_nan() { $nan } else { x + $zero }))
        }};
    }
    match array.data_type() {
        DataType::Float64 => normalise!(Float64Type, 0.0, f64::NAN),
        DataType::Float32 => normalise!(Float32Type, 0.0, f32::NAN),
        DataType::Float16 => {
            type Half = <Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native;
            normalise!(Float16Type, Half::ZERO, Half::NAN)
        }
        _ => Arc::clone(array),
    }
}

/// For each of `parts`, the rows whose key belongs to it, in order.
fn route(keys: &[ArrayRef], rows: usize, parts: usize) -> Result<Vec<UInt32Array>> {
    let mut hashes = vec![0; rows];
    create_hashes(keys, &RandomState::with_seed(ROUTING_SEED), &mut hashes)?;
    let mut routed: Vec<Vec<u32>> = (0..parts)
        .map(|_| Vec::with_capacity(rows / parts + rows / 8))
        .collect();
    for (row, hash) in hashes.iter().enumerate() {
        // The high bits, by multiplication: the low ones choose buckets in the hash table of the part.
        let part = (u128::from(*hash) * parts as u128) >> 64;
        let part = usize::try_from(part).expect("a part is less than the number of parts");
        routed[part].push(u32::try_from(row).expect("a batch has fewer than 2^32 rows"));
    }
    Ok(routed.into_iter().map(UInt32Array::from).collect())
}

/// Splits columns by the hash of `keys`.
pub(crate) fn split_arrays(keys: &[ArrayRef], columns: &[ArrayRef], parts: usize) -> Result<Vec<Vec<ArrayRef>>> {
    let rows = keys[0].len();
    route(keys, rows, parts)?
        .iter()
        .map(|rows| Ok(take_arrays(columns, rows, None)?))
        .collect()
}

/// Splits a batch by the hash of its first `key_count` columns.
pub(crate) fn split_batch(batch: &RecordBatch, key_count: usize, parts: usize) -> Result<Vec<RecordBatch>> {
    let routed = route(&batch.columns()[..key_count], batch.num_rows(), parts)?;
    routed.iter().map(|rows| Ok(take_record_batch(batch, rows)?)).collect()
}

/// Sorts a batch by its first `key_count` columns, ascending, nulls first.
pub(crate) fn sort_batch(batch: &RecordBatch, key_count: usize) -> Result<RecordBatch> {
    Ok(match sort_order(&batch.columns()[..key_count])? {
        Some(order) => take_record_batch(batch, &order)?,
        None => batch.clone(),
    })
}

#[cfg(test)]
mod tests;
