use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};

use super::{can_be_key, normalise_floats, sort_batch, split_batch};

#[test]
fn equal_floats_get_one_spelling() {
    let odd_nan = f64::from_bits(0xfff8_0000_0000_0001);
    let array: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(odd_nan), None, Some(-1.5)]));
    let normalised = normalise_floats(&array);
    let bits: Vec<_> = normalised
        .as_primitive::<Float64Type>()
        .iter()
        .map(|v| v.map(f64::to_bits))
        .collect();
    assert_eq!(
        bits,
        [Some(0), Some(f64::NAN.to_bits()), None, Some((-1.5_f64).to_bits())]
    );
}

#[test]
fn floats_inside_lists_and_maps_are_no_keys() {
    let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
    assert!(can_be_key(&DataType::Float64));
    assert!(can_be_key(&list(DataType::Utf8)));
    assert!(!can_be_key(&list(DataType::Float64)));
    assert!(!can_be_key(&anabranch_model::columns::headers_type()));
}

/// Spilled and routed parts outlive the process that made them, so this routing may never change.
#[test]
fn routing_is_the_same_in_every_process() {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..16));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..16).map(|n| format!("k{n}"))));
    let batch = RecordBatch::try_from_iter([("a", keys), ("b", names)]).unwrap();
    let parts = split_batch(&batch, 2, 4).unwrap();
    let routed: Vec<Vec<i64>> = parts
        .iter()
        .map(|p| p.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(routed, EXPECTED.map(<[i64]>::to_vec));
}

const EXPECTED: [&[i64]; 4] = [&[2, 4, 7, 9], &[1, 5, 6, 11, 12, 13], &[8, 15], &[0, 3, 10, 14]];

#[test]
fn sorting_puts_nulls_first_and_keeps_equal_keys_in_order() {
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(2), None, Some(-1), Some(2)]));
    let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let sorted = sort_batch(&RecordBatch::try_from_iter([("k", keys), ("v", values)]).unwrap(), 1).unwrap();
    assert_eq!(
        sorted.column(1).as_primitive::<Int64Type>().values().as_ref(),
        [2, 3, 1, 4]
    );
}
