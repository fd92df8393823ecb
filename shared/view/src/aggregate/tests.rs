use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Float64Type, Int64Type, i256};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::count::CountRows;
use super::distinct::DistinctValues;
use super::extreme::FloatExtreme;
use super::sum::{LongDecimal, WideSum};
use super::sum_long::LongSum;

/// Every accumulator of this crate must be as good as new after it has emitted: the speed layer uses it again and again.
fn twice(accumulator: &mut dyn GroupsAccumulator, values: &[ArrayRef], groups: &[usize], total: usize) -> ArrayRef {
    accumulator.update_batch(values, groups, None, total).unwrap();
    let first = accumulator.state(EmitTo::All).unwrap();
    accumulator.update_batch(values, groups, None, total).unwrap();
    let second = accumulator.state(EmitTo::All).unwrap();
    assert_eq!(&first[0], &second[0]);
    let all: Vec<usize> = (0..total).collect();
    accumulator.merge_batch(&first, &all, total).unwrap();
    let merged = accumulator.state(EmitTo::All).unwrap();
    assert_eq!(&first[0], &merged[0]);
    Arc::clone(&first[0])
}

#[test]
fn rows_are_counted_whatever_they_hold() {
    let counts = twice(&mut CountRows::default(), &[], &[0, 2, 2], 3);
    assert_eq!(counts.as_primitive::<Int64Type>().values().as_ref(), [1, 0, 2]);
    let mut filtered = CountRows::default();
    let filter = BooleanArray::from(vec![Some(true), None, Some(false)]);
    filtered.update_batch(&[], &[0, 0, 0], Some(&filter), 1).unwrap();
    assert_eq!(
        filtered
            .evaluate(EmitTo::All)
            .unwrap()
            .as_primitive::<Int64Type>()
            .value(0),
        1
    );
}

#[test]
fn integers_sum_beyond_their_type() {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(i64::MAX), None]));
    let mut sum = LongSum::default();
    let sums = twice(&mut sum, &[values], &[0, 0, 1], 2);
    let sums = sums.as_primitive::<Decimal128Type>();
    assert_eq!(sums.value(0), 2 * i128::from(i64::MAX));
    assert!(sums.is_null(1), "a sum of nothing is NULL");
    assert_eq!(sums.data_type(), &DataType::Decimal128(38, 0));
}

#[test]
fn wide_decimals_sum_beyond_38_digits() {
    let nines = 10_i128.pow(38) - 1;
    let values: ArrayRef = Arc::new(
        Decimal128Array::from(vec![nines; 5])
            .with_precision_and_scale(38, 2)
            .unwrap(),
    );
    let mut sum = WideSum::<LongDecimal>::new(2);
    let sums = twice(&mut sum, &[values], &[0; 5], 1);
    let expected = i256::from_i128(nines).checked_mul(i256::from_i128(5)).unwrap();
    assert_eq!(sums.as_primitive::<Decimal256Type>().value(0), expected);
}

#[test]
fn nan_is_the_greatest_float_and_there_is_one_zero() {
    let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(-f64::NAN), None, Some(-1.0)]));
    let least = twice(
        &mut FloatExtreme::<Float64Type, false>::new(),
        &[Arc::clone(&values)],
        &[0, 0, 1, 0],
        2,
    );
    let greatest = twice(
        &mut FloatExtreme::<Float64Type, true>::new(),
        &[values],
        &[0, 1, 2, 0],
        3,
    );
    assert_eq!(least.as_primitive::<Float64Type>().value(0), -1.0);
    assert!(least.is_null(1));
    let greatest = greatest.as_primitive::<Float64Type>();
    assert_eq!(greatest.value(0).to_bits(), 0.0_f64.to_bits());
    assert!(greatest.value(1).is_nan() && greatest.is_null(2));
}

#[test]
fn distinct_values_are_listed_per_group_in_the_order_they_came() {
    let values: ArrayRef = Arc::new(StringArray::from(vec![
        Some("b"),
        Some("a"),
        Some("b"),
        None,
        Some("b"),
        Some("c"),
    ]));
    let mut distinct = DistinctValues::try_new(&DataType::Utf8).unwrap();
    let lists = twice(&mut distinct, &[values], &[2, 2, 2, 2, 0, 2], 4);
    let lists = lists.as_list::<i32>();
    let list = |group: usize| -> Vec<String> {
        lists
            .value(group)
            .as_string::<i32>()
            .iter()
            .map(|v| v.unwrap().to_string())
            .collect()
    };
    assert_eq!(list(0), ["b"]);
    assert_eq!(list(1), Vec::<String>::new());
    assert_eq!(list(2), ["b", "a", "c"]);
    assert_eq!(list(3), Vec::<String>::new());
}
