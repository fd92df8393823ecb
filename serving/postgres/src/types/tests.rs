use arrow::datatypes::TimeUnit;

use super::*;

#[test]
fn arrays_have_the_types_that_postgresql_gives_them() {
    for (element, oid, name) in [
        (DataType::Boolean, 1000, "_bool"),
        (DataType::Int16, 1005, "_int2"),
        (DataType::Int32, 1007, "_int4"),
        (DataType::Int64, 1016, "_int8"),
        (DataType::Utf8, 1009, "_text"),
        (DataType::Float32, 1021, "_float4"),
        (DataType::Float64, 1022, "_float8"),
        (DataType::Date32, 1182, "_date"),
        (DataType::Timestamp(TimeUnit::Microsecond, None), 1185, "_timestamptz"),
        (DataType::Decimal128(38, 2), 1231, "_numeric"),
        (DataType::Binary, 1001, "_bytea"),
    ] {
        let array = PgType::of_type(&DataType::new_list(element.clone(), true));
        assert_eq!((array.oid, type_name(array.oid)), (oid, name));
        assert_eq!(sql_name(oid), "ARRAY");
        assert_eq!(element_of(oid), Some(PgType::of_type(&element).oid));
        assert!(arrow_type(oid).is_some_and(|kind| kind.is_nested()));
    }
    let nested = DataType::new_list(DataType::new_list(DataType::Int64, true), true);
    assert_eq!(PgType::of_type(&nested).oid, TEXT, "lists of lists may be ragged");
}

#[test]
fn types_are_found_by_any_of_their_names() {
    for (name, oid) in [
        ("int8", INT8),
        ("bigint", INT8),
        ("pg_catalog.text", TEXT),
        ("Double Precision", FLOAT8),
        ("_int4", 1007),
        ("integer[]", 1007),
        ("timestamptz", TIMESTAMPTZ),
    ] {
        assert_eq!(oid_of(name), Some(oid), "{name}");
    }
    assert_eq!(oid_of("hstore"), None);
}

#[test]
fn no_two_types_are_one() {
    let mut numbers: Vec<u32> = KNOWN.iter().flat_map(|known| [known.oid, known.array]).collect();
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), count);
}
