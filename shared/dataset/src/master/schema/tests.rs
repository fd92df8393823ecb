use anabranch_catalog::JSON_KEY;
use std::collections::HashMap;

use super::*;
use crate::testing::source;

fn grow(current: &Source, wanted_by: &Source) -> Result<Option<SchemaRef>> {
    // Through the Delta spelling, as from a real table.
    let current = decode("clicks", &encode("clicks", &wanted(current))?)?;
    grown("clicks", &current, &wanted(wanted_by))
}

#[test]
fn the_same_declaration_adds_nothing() {
    let columns = "a BOOLEAN, b INT, c BIGINT, d DOUBLE, e DECIMAL(12, 3), f TEXT, g BYTES, h DATE, i TIMESTAMP, \
                   j TEXT[], k STRUCT<x BIGINT, y STRUCT<z TEXT[]>>";
    assert_eq!(grow(&source(columns), &source(columns)).unwrap(), None);
}

#[test]
fn columns_and_struct_fields_are_added_at_the_end_and_never_taken_away() {
    let grown = grow(
        &source("page TEXT, gone BIGINT, s STRUCT<a TEXT, l STRUCT<x INT>[]>"),
        &source("page TEXT, s STRUCT<b BIGINT, l STRUCT<y INT>[]>, n BIGINT"),
    )
    .unwrap()
    .unwrap();
    let names: Vec<&str> = grown.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names[..3], ["page", "gone", "s"]);
    assert_eq!(names.last(), Some(&"n"));
    let DataType::Struct(fields) = grown.field_with_name("s").unwrap().data_type() else {
        panic!("{grown:?}")
    };
    assert_eq!(
        fields.iter().map(|f| f.name().as_str()).collect::<Vec<_>>(),
        ["a", "l", "b"]
    );
    assert!(
        fields[1].data_type().to_string().contains("\"y\""),
        "{}",
        fields[1].data_type()
    );
}

#[test]
fn another_type_is_refused_at_any_depth() {
    for (landed, declared) in [
        ("n BIGINT", "n INT"),
        ("n DECIMAL(12, 3)", "n DECIMAL(12, 2)"),
        ("n TEXT", "n TEXT[]"),
        ("n STRUCT<a TEXT>", "n STRUCT<a BIGINT>"),
        ("n STRUCT<a TEXT>[]", "n STRUCT<a BYTES>[]"),
    ] {
        let error = grow(&source(landed), &source(declared)).unwrap_err();
        assert!(
            matches!(&error, Error::ColumnType { column, .. } if column == "n"),
            "{landed} {declared}: {error}"
        );
    }
}

#[test]
fn json_keys_stay_out_of_the_table() {
    let nested = Field::new("a", DataType::Utf8, true).with_metadata(HashMap::from([(JSON_KEY.into(), "A".into())]));
    let field = Field::new("s", DataType::Struct(vec![nested].into()), true);
    let schema = encode("clicks", &Schema::new(vec![plain(&field)])).unwrap();
    assert!(!schema.contains(JSON_KEY), "{schema}");
}
