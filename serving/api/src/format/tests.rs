use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array,
    Int64Array, Int64Builder, MapBuilder, NullArray, StringArray, StringBuilder, StructArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, TimeUnit};
use serde_json::{Value, json};

use super::*;
use anabranch_front::json_cell;

fn spelled(array: impl Array + 'static) -> Value {
    let array: ArrayRef = Arc::new(array);
    let cell = json_cell(&array).unwrap();
    let values = (0..array.len()).map(|row| {
        let mut out = Vec::new();
        cell(row, &mut out);
        serde_json::from_slice::<Value>(&out).unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&out)))
    });
    Value::Array(values.collect())
}

#[test]
fn numbers_keep_every_digit() {
    assert_eq!(
        spelled(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
        json!([i64::MIN, null, i64::MAX])
    );
    assert_eq!(spelled(UInt64Array::from(vec![u64::MAX])), json!([u64::MAX]));
    let decimals = Decimal128Array::from(vec![Some(12_345), Some(-5), None])
        .with_precision_and_scale(38, 3)
        .unwrap();
    assert_eq!(spelled(decimals), json!(["12.345", "-0.005", null]));
    let whole = Decimal128Array::from(vec![i128::from(i64::MAX) * 10])
        .with_precision_and_scale(38, 0)
        .unwrap();
    assert_eq!(spelled(whole), json!(["92233720368547758070"]));
    assert_eq!(
        spelled(Float64Array::from(vec![
            0.1,
            1e300,
            -0.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY
        ])),
        json!([0.1, 1e300, -0.0, "NaN", "Infinity", "-Infinity"])
    );
    let array: ArrayRef = Arc::new(Float32Array::from(vec![0.1f32]));
    let mut out = Vec::new();
    json_cell(&array).unwrap()(0, &mut out);
    assert_eq!(out, b"0.1", "not 0.10000000149011612");
}

#[test]
fn times_are_rfc_3339_in_utc_whatever_their_unit() {
    let expected = json!(["2015-09-12T01:00:00Z", "1969-12-31T23:59:59Z", null]);
    let values = |per_second: i64| vec![Some(1_442_019_600 * per_second), Some(-per_second), None];
    assert_eq!(spelled(TimestampSecondArray::from(values(1))), expected);
    assert_eq!(spelled(TimestampMillisecondArray::from(values(1_000))), expected);
    assert_eq!(
        spelled(TimestampMicrosecondArray::from(values(1_000_000)).with_timezone("UTC")),
        expected
    );
    assert_eq!(spelled(TimestampNanosecondArray::from(values(1_000_000_000))), expected);
    assert_eq!(
        spelled(TimestampMicrosecondArray::from(vec![
            -1,
            1_500,
            1_000_000_000_000_000_000
        ])),
        json!([
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00.001500Z",
            "+33658-09-27T01:46:40Z"
        ])
    );
    assert_eq!(
        spelled(TimestampSecondArray::from(vec![i64::MAX])),
        json!([i64::MAX.to_string()])
    );
    assert_eq!(
        spelled(Date32Array::from(vec![0, -1, 16_690])),
        json!(["1970-01-01", "1969-12-31", "2015-09-12"])
    );
}

#[test]
fn nested_and_encoded_values_are_json() {
    let inner = StructArray::from(vec![
        (
            Arc::new(Field::new("a \"b\"", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![Some("x\n"), None])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("c", DataType::Binary, true)),
            Arc::new(BinaryArray::from(vec![b"\x00\xff".as_slice(), b""])) as ArrayRef,
        ),
    ]);
    assert_eq!(
        spelled(inner),
        json!([{"a \"b\"": "x\n", "c": "AP8="}, {"a \"b\"": null, "c": ""}])
    );

    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.keys().append_value("l");
    map.values().append_null();
    map.append(true).unwrap();
    map.append(true).unwrap();
    map.append(false).unwrap();
    assert_eq!(spelled(map.finish()), json!([{"k": 1, "l": null}, {}, null]));

    let words: DictionaryArray<Int32Type> = [Some("a"), None, Some("a")].into_iter().collect();
    assert_eq!(spelled(words), json!(["a", null, "a"]));
    assert_eq!(spelled(NullArray::new(2)), json!([null, null]));
    // A slice begins somewhere else in its buffers.
    assert_eq!(
        spelled(StringArray::from(vec!["a", "b", "c"]).slice(1, 2)),
        json!(["b", "c"])
    );
}

#[test]
fn types_have_the_names_of_views_sql() {
    let names = [
        (DataType::Int64, "BIGINT"),
        (DataType::Int32, "INT"),
        (DataType::Utf8, "TEXT"),
        (DataType::Binary, "BYTES"),
        (DataType::Float64, "DOUBLE"),
        (DataType::Date32, "DATE"),
        (DataType::Decimal128(38, 0), "DECIMAL(38,0)"),
        (
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            "TIMESTAMP",
        ),
        (DataType::Timestamp(TimeUnit::Nanosecond, None), "TIMESTAMP(9)"),
        (
            DataType::List(Arc::new(Field::new_list_field(DataType::Boolean, true))),
            "BOOLEAN[]",
        ),
        (
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            "TEXT",
        ),
        (anabranch_model::columns::headers_type(), "MAP<TEXT, BYTES>"),
    ];
    for (data_type, name) in names {
        assert_eq!(sql_type(&data_type), name);
    }
}

#[test]
fn accept_is_read_with_its_weights() {
    let accepted = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        Format::accepted(&headers).ok()
    };
    assert_eq!(accepted(&[]), Some(Format::Json));
    assert_eq!(accepted(&["*/*"]), Some(Format::Json));
    assert_eq!(accepted(&["text/csv"]), Some(Format::Csv));
    assert_eq!(
        accepted(&["application/json;q=0.5, text/csv; q=0.8"]),
        Some(Format::Csv)
    );
    assert_eq!(accepted(&["image/png, Application/X-NDJSON"]), Some(Format::NdJson));
    assert_eq!(
        accepted(&["image/png", "application/vnd.apache.arrow.stream"]),
        Some(Format::Arrow)
    );
    assert_eq!(accepted(&["image/png"]), None);
    assert_eq!(accepted(&["text/csv;q=0"]), None);
}

#[test]
fn a_header_holds_any_name() {
    assert_eq!(ascii("{\"müll/0\": \"🦀\"}"), "{\"m\\u00fcll/0\": \"\\ud83e\\udd80\"}");
    let parsed: Value = serde_json::from_str(&ascii("{\"müll/0\": \"🦀\"}")).unwrap();
    assert_eq!(parsed, json!({"müll/0": "🦀"}));
}
