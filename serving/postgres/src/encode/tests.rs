use arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int64Array,
    IntervalMonthDayNanoArray, ListArray, StringArray, StructArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Int32Type, Int64Type, IntervalMonthDayNano};
use bytes::Bytes;
use proptest::prelude::*;

use super::numeric::write_numeric;
use super::*;

fn spelled(array: impl Array + 'static) -> Vec<String> {
    let array: ArrayRef = Arc::new(array);
    let cell = cell(&array, false).unwrap();
    let text = |row| {
        if cell.is_null(row) {
            return "NULL".to_owned();
        }
        let mut out = BytesMut::new();
        (cell.write)(row, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    };
    (0..array.len()).map(text).collect()
}

fn sent(array: impl Array + 'static) -> Vec<Vec<u8>> {
    let array: ArrayRef = Arc::new(array);
    let cell = cell(&array, true).unwrap();
    let bytes = |row| {
        let mut out = BytesMut::new();
        cell.put(row, &mut out);
        out.to_vec()
    };
    (0..array.len()).map(bytes).collect()
}

#[test]
fn values_are_spelled_as_postgresql_spells_them() {
    assert_eq!(
        spelled(BooleanArray::from(vec![Some(true), Some(false), None])),
        ["t", "f", "NULL"]
    );
    assert_eq!(
        spelled(Float64Array::from(vec![
            0.1,
            1.0,
            -0.0,
            1e21,
            1.5e-7,
            f64::NAN,
            f64::NEG_INFINITY
        ])),
        ["0.1", "1", "-0", "1e+21", "1.5e-07", "NaN", "-Infinity"]
    );
    assert_eq!(spelled(Float32Array::from(vec![0.1_f32])), ["0.1"]);
    let decimals = Decimal128Array::from(vec![Some(-1250), Some(0), None])
        .with_precision_and_scale(38, 2)
        .unwrap();
    assert_eq!(spelled(decimals), ["-12.50", "0.00", "NULL"]);
    assert_eq!(spelled(UInt64Array::from(vec![u64::MAX])), ["18446744073709551615"]);
    assert_eq!(
        spelled(Date32Array::from(vec![0, 20_778, -719_528])),
        ["1970-01-01", "2026-11-21", "0001-01-01 BC"]
    );
    assert_eq!(
        spelled(TimestampMicrosecondArray::from(vec![0, 1_500_000, -1, i64::MAX]).with_timezone("UTC")),
        [
            "1970-01-01 00:00:00+00",
            "1970-01-01 00:00:01.5+00",
            "1969-12-31 23:59:59.999999+00",
            "infinity"
        ]
    );
    let intervals = vec![
        IntervalMonthDayNano::new(14, 3, 4_005_006_000_000),
        IntervalMonthDayNano::new(0, 0, 0),
        IntervalMonthDayNano::new(0, -1, -1_000_000),
    ];
    assert_eq!(
        spelled(IntervalMonthDayNanoArray::from(intervals)),
        ["1 year 2 mons 3 days 01:06:45.006", "00:00:00", "-1 days -00:00:00.001"]
    );
    let words: DictionaryArray<Int32Type> = vec!["a", "b", "a"].into_iter().collect();
    assert_eq!(spelled(words), ["a", "b", "a"]);
}

#[test]
fn arrays_are_quoted_where_they_must_be() {
    let mut items = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    items.append_value([
        Some("plain"),
        Some("a,b"),
        Some("say \"hi\""),
        Some(""),
        Some("NULL"),
        None,
    ]);
    items.append_null();
    assert_eq!(
        spelled(items.finish()),
        [r#"{plain,"a,b","say \"hi\"","","NULL",NULL}"#, "NULL"]
    );
    let numbers = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), Some(vec![])]);
    assert_eq!(spelled(numbers.clone()), ["{1,NULL}", "{}"]);
    let bytes = sent(numbers);
    assert_eq!(
        bytes[0][4..24],
        [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 0, 1]
    );
    assert_eq!(bytes[1][4..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20]);
}

#[test]
fn what_postgresql_has_no_type_for_is_json() {
    let fields = vec![
        (
            Arc::new(Field::new("a", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec!["x"])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("b", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![1])) as ArrayRef,
        ),
    ];
    let array = StructArray::from(fields);
    assert_eq!(spelled(array.clone()), [r#"{"a":"x","b":1}"#]);
    assert_eq!(sent(array)[0][4..], *br#"{"a":"x","b":1}"#);
}

#[test]
fn instants_are_sent_from_the_year_2000_on() {
    let at_2000 = TimestampMicrosecondArray::from(vec![EPOCH_MICROS + 7]);
    assert_eq!(sent(at_2000), [[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7]]);
    assert_eq!(
        sent(Date32Array::from(vec![Some(EPOCH_DAYS - 1), None])),
        [vec![0, 0, 0, 4, 255, 255, 255, 255], vec![255; 4]]
    );
}

#[test]
fn numerics_are_sent_in_groups_of_four_digits() {
    let numeric = |text: &str| {
        let mut out = BytesMut::new();
        write_numeric(text, &mut out);
        out.to_vec()
    };
    assert_eq!(numeric("0"), [0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(numeric("12345.678"), [0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 9, 41, 26, 124]);
    assert_eq!(numeric("-0.0001"), [0, 1, 255, 255, 0x40, 0, 0, 4, 0, 1]);
}

proptest! {
    #[test]
    fn numerics_come_back_as_they_were(unscaled in any::<i128>(), scale in 0_i8..30) {
        let unscaled = unscaled % 10_i128.pow(38);
        let array = Decimal128Array::from(vec![unscaled]).with_precision_and_scale(38, scale).unwrap();
        let text = spelled(array.clone()).remove(0);
        let bytes = Bytes::from(sent(array).remove(0)).slice(4..);
        prop_assert_eq!(read_numeric(bytes), Some(text));
    }

    #[test]
    fn any_bytes_are_a_numeric_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = read_numeric(bytes.into());
    }

    #[test]
    fn arrays_of_text_come_back_as_they_were(items in prop::collection::vec(prop::option::of(".{0,6}"), 0..5)) {
        let mut builder = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
        builder.append_value(items.clone());
        let text = spelled(builder.finish()).remove(0);
        prop_assert_eq!(unescaped(&text), Some(items));
    }
}
