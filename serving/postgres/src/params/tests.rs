use arrow::array::Array;
use bytes::BufMut;
use proptest::prelude::*;

use super::*;

fn parameter(declared: u32, wanted: Option<DataType>) -> Parameter {
    Parameter { declared, wanted }
}

fn text(declared: u32, wanted: Option<DataType>, value: &'static str) -> Result<ScalarValue, PgError> {
    parameter(declared, wanted).read(1, Some(Bytes::from_static(value.as_bytes())), false)
}

#[test]
fn what_the_client_leaves_open_the_query_settles() {
    assert_eq!(
        text(0, Some(DataType::Int64), "42").unwrap(),
        ScalarValue::Int64(Some(42))
    );
    assert_eq!(text(0, None, "42").unwrap(), ScalarValue::Utf8(Some("42".into())));
    assert_eq!(parameter(0, Some(DataType::Int64)).oid(), INT8);
    assert_eq!(
        parameter(INT4, Some(DataType::Int64)).oid(),
        INT4,
        "the client's word counts"
    );
    assert_eq!(
        text(INT4, Some(DataType::Int64), "42").unwrap(),
        ScalarValue::Int64(Some(42))
    );
}

#[test]
fn text_is_read_as_its_type() {
    assert_eq!(text(BOOL, None, "t").unwrap(), ScalarValue::Boolean(Some(true)));
    assert_eq!(
        text(DATE, None, "2026-11-21").unwrap(),
        ScalarValue::Date32(Some(20_778))
    );
    let second = |text: ScalarValue| match text {
        ScalarValue::TimestampMicrosecond(micros, zone) => (micros, zone.is_some()),
        other => panic!("{other:?}"),
    };
    for spelled in [
        "1970-01-01 00:00:01+00",
        "1970-01-01T00:00:01Z",
        "1970-01-01 01:00:01+01:00",
        "1970-01-01 00:00:01",
    ] {
        assert_eq!(
            second(text(TIMESTAMPTZ, None, spelled).unwrap()),
            (Some(1_000_000), true),
            "{spelled}"
        );
    }
    assert_eq!(
        text(NUMERIC, None, "12.50").unwrap(),
        ScalarValue::Decimal128(Some(1250), 38, 2)
    );
    assert_eq!(
        text(BYTEA, None, "\\x00ff").unwrap(),
        ScalarValue::Binary(Some(vec![0, 255]))
    );
    let ScalarValue::List(list) = text(1016, None, "{1,NULL,3}").unwrap() else {
        panic!("an array is a list");
    };
    assert_eq!(list.value(0).len(), 3);
}

#[test]
fn what_is_not_of_the_type_is_refused() {
    for (declared, value) in [
        (INT8, "many"),
        (DATE, "soon"),
        (BYTEA, "ff"),
        (1016, "1,2"),
        (BOOL, "perhaps"),
    ] {
        assert_eq!(text(declared, None, value).unwrap_err().code, "22P02", "{value}");
    }
    let wrong = parameter(INT8, None).read(1, Some(Bytes::from_static(b"\0\0\0\x01")), true);
    assert_eq!(wrong.unwrap_err().code, "22P03");
    assert_eq!(binary_formats(&[0, 1], 3).unwrap_err().code, "08P01");
    assert_eq!(binary_formats(&[2], 3).unwrap_err().code, "08P01");
    assert_eq!(binary_formats(&[1], 3).unwrap(), [true; 3]);
    assert_eq!(read_all(&[], &[], vec![None]).unwrap_err().code, "08P01");
}

#[test]
fn binary_arrays_are_read() {
    let mut bytes = bytes::BytesMut::new();
    for word in [1, 1, INT4 as i32, 2, 1, 4, 7, -1] {
        bytes.put_i32(word);
    }
    let read = parameter(1007, None).read(1, Some(bytes.freeze()), true).unwrap();
    let ScalarValue::List(list) = read else {
        panic!("{read:?}")
    };
    assert_eq!(list.value(0).len(), 2);
}

/// What is sent as an array is read as the same array.
#[test]
fn arrays_are_read_as_they_are_written() {
    let list = |items: &[ScalarValue], kind: &DataType| ScalarValue::List(ScalarValue::new_list_nullable(items, kind));
    let text = |text: &str| ScalarValue::Utf8(Some(text.into()));
    let instant = |micros| ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()));
    for (oid, items) in [
        (1000, vec![ScalarValue::Boolean(Some(true)), ScalarValue::Boolean(None)]),
        (
            1005,
            vec![ScalarValue::Int16(Some(-1)), ScalarValue::Int16(Some(i16::MAX))],
        ),
        (1007, vec![ScalarValue::Int32(Some(7)), ScalarValue::Int32(None)]),
        (
            1016,
            vec![ScalarValue::Int64(Some(i64::MIN)), ScalarValue::Int64(Some(i64::MAX))],
        ),
        (1021, vec![ScalarValue::Float32(Some(0.5))]),
        (
            1022,
            vec![ScalarValue::Float64(Some(-1e300)), ScalarValue::Float64(Some(0.1))],
        ),
        (1009, ["", "a,b", "\"q\\", "NULL", "{ä}", " "].map(text).to_vec()),
        (
            1182,
            vec![ScalarValue::Date32(Some(20_778)), ScalarValue::Date32(Some(-1))],
        ),
        (1185, vec![instant(0), instant(-1), instant(1_790_000_000_123_456)]),
        (
            1231,
            vec![
                ScalarValue::Decimal128(Some(123_456_789), 38, 10),
                ScalarValue::Decimal128(None, 38, 10),
            ],
        ),
        (1001, vec![ScalarValue::Binary(Some(vec![0, 255, b'\\']))]),
        (1009, vec![]),
    ] {
        let DataType::List(field) = arrow_type(oid).unwrap() else {
            panic!("{oid} is an array");
        };
        let sent = list(&items, field.data_type());
        for binary in [false, true] {
            let mut bytes = bytes::BytesMut::new();
            let cell = crate::encode::cell(&sent.to_array().unwrap(), binary).unwrap();
            cell.put(0, &mut bytes);
            let value = bytes.freeze().slice(4..);
            let wanted = Some(DataType::List(Arc::clone(&field)));
            let read = parameter(oid, wanted).read(1, Some(value), binary).unwrap();
            assert_eq!(read, sent, "{oid}, binary: {binary}");
        }
    }
}

/// Clients declare the narrowest type that holds what they have.
#[test]
fn arrays_become_arrays_of_what_the_query_needs() {
    let wanted = DataType::new_list(DataType::Int64, true);
    let read = text(1007, Some(wanted.clone()), "{1,NULL,3}").unwrap();
    let ScalarValue::List(list) = &read else {
        panic!("{read:?}")
    };
    assert_eq!((list.data_type(), list.value(0).null_count()), (&wanted, 1));
    assert_eq!(parameter(0, Some(wanted)).oid(), 1016);
    assert_eq!(text(1007, None, "{{1},{2}}").unwrap_err().code, "22P02");
    // An empty list of nothing in particular.
    let mut bytes = bytes::BytesMut::new();
    for word in [0, 0, TEXT as i32] {
        bytes.put_i32(word);
    }
    let read = parameter(1016, None).read(1, Some(bytes.freeze()), true).unwrap();
    let ScalarValue::List(list) = &read else {
        panic!("{read:?}")
    };
    assert!(list.value(0).is_empty());
}

#[test]
fn null_has_the_type_that_the_query_needs() {
    let null = parameter(0, Some(DataType::Float64)).read(1, None, false).unwrap();
    assert_eq!(null, ScalarValue::Float64(None));
}

proptest! {
    #[test]
    fn any_bytes_are_a_value_or_an_error(
        oid in prop::sample::select(vec![BOOL, INT2, INT4, INT8, FLOAT8, TEXT, JSONB, BYTEA, DATE, TIME, TIMESTAMPTZ, INTERVAL, NUMERIC, UUID, 1007, 1009, 1231, 99_999]),
        bytes in prop::collection::vec(any::<u8>(), 0..48),
        binary in any::<bool>(),
    ) {
        let _ = parameter(oid, None).read(1, Some(bytes.into()), binary);
    }
}
