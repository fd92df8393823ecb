use arrow::array::{Int32Array, Int64Array, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Field;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Decoder;
use crate::tests::{raw, raw_text, rows, source};

/// `payloads` landed under `then`, read under `now`: the declared columns of each event.
fn read(then: &str, now: &str, payloads: &[impl AsRef<[u8]>]) -> Vec<Value> {
    read_with(then, "", now, payloads)
}

fn read_with(then: &str, with: &str, now: &str, payloads: &[impl AsRef<[u8]>]) -> Vec<Value> {
    let (then, now) = (source(then, with), source(now, ""));
    let landed = Decoder::new(&then).decode(&raw_text(payloads)).events;
    assert_eq!(landed.num_rows(), payloads.len(), "all were events then");
    rows(&now, &through(&now, &landed))
}

/// A landed batch, read by `source` as both layers do.
fn through(source: &Source, landed: &RecordBatch) -> RecordBatch {
    let schema = source.event_schema();
    let file = landed.schema();
    let names = LandedReader::columns(source, &schema, &file);
    let wanted: Vec<usize> = (0..file.fields().len())
        .filter(|at| names.contains(file.field(*at).name()))
        .collect();
    let batch = landed.project(&wanted).unwrap();
    LandedReader::new(source, &schema, &file).read(&batch).unwrap()
}

#[test]
fn a_column_declared_later_is_what_the_event_said() {
    let found = read(
        "a BIGINT",
        "a BIGINT, b TEXT, t TIMESTAMP",
        &[
            r#"{"a": 1, "b": "x", "t": "2024-01-01T00:00:00Z"}"#,
            r#"{"a": 2}"#,
            r#"{"b": null, "a": 3}"#,
            r#"{"b": "first", "b": "last", "a": 4}"#,
        ],
    );
    let expected = [
        json!({"a": 1, "b": "x", "t": 1_704_067_200_000_000_i64}),
        json!({"a": 2, "b": null, "t": null}),
        json!({"a": 3, "b": null, "t": null}),
        json!({"a": 4, "b": "last", "t": null}),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_value_that_does_not_fit_is_null_and_takes_no_other_with_it() {
    let found = read(
        "a BIGINT",
        "a BIGINT, b BIGINT NOT NULL, c TEXT",
        &[
            r#"{"a": 1, "b": "no number", "c": "kept"}"#,
            r#"{"a": 2, "b": 7, "c": 8}"#,
            r#"{"a": 3, "b": 9, "c": "fine"}"#,
            r#"{"a": 4, "b": [], "c": {}}"#,
        ],
    );
    let expected = [
        json!({"a": 1, "b": null, "c": "kept"}),
        json!({"a": 2, "b": 7, "c": null}),
        json!({"a": 3, "b": 9, "c": "fine"}),
        json!({"a": 4, "b": null, "c": null}),
    ];
    assert_eq!(found, expected);
}

#[test]
fn without_raw_bytes_it_is_null() {
    let found = read_with(
        "a BIGINT",
        "WITH (keep_raw = 'false')",
        "a BIGINT, b TEXT",
        &[r#"{"a": 1, "b": "x"}"#],
    );
    assert_eq!(found, [json!({"a": 1, "b": null})]);
}

#[test]
fn events_with_and_without_raw_bytes_may_share_a_file() {
    let now = source("a BIGINT, b TEXT", "");
    let land = |with: &str, line: &str| {
        Decoder::new(&source("a BIGINT", with))
            .decode(&raw([Some(line.as_bytes())]))
            .events
    };
    let batches = [
        land("", r#"{"a": 1, "b": "x"}"#),
        land("WITH (keep_raw = 'false')", r#"{"a": 2, "b": "y"}"#),
        land("", r#"{"a": 3, "b": "z"}"#),
    ];
    let landed = concat_batches(batches[0].schema_ref(), &batches).unwrap();
    let expected = [
        json!({"a": 1, "b": "x"}),
        json!({"a": 2, "b": null}),
        json!({"a": 3, "b": "z"}),
    ];
    assert_eq!(rows(&now, &through(&now, &landed)), expected);
    // A slice has its own bounds within the same bytes.
    assert_eq!(rows(&now, &through(&now, &landed.slice(1, 2))), expected[1..]);
}

#[test]
fn a_struct_field_declared_later_comes_from_the_raw_bytes() {
    let found = read(
        "at STRUCT<city TEXT>, list STRUCT<n BIGINT>[]",
        "at STRUCT<zip INT, city TEXT>, list STRUCT<n BIGINT, m TEXT>[]",
        &[
            r#"{"at": {"city": "Bern", "zip": 3000}, "list": [{"n": 1, "m": "x"}, {"n": 2}]}"#,
            r#"{"at": {"city": "Rom", "zip": "no number"}, "list": [{"n": 1, "m": 5}]}"#,
            r#"{"at": null}"#,
        ],
    );
    let expected = [
        json!({"at": {"zip": 3000, "city": "Bern"}, "list": [{"n": 1, "m": "x"}, {"n": 2, "m": null}]}),
        // What was landed stays.
        json!({"at": {"zip": null, "city": "Rom"}, "list": [{"n": 1, "m": null}]}),
        json!({"at": null, "list": null}),
    ];
    assert_eq!(found, expected);
}

#[test]
fn raw_bytes_are_read_only_for_files_that_lack_something() {
    let now = source("a BIGINT, b STRUCT<c TEXT>", "");
    let full = now.event_schema();
    let only = |names: &[&str]| {
        let fields: Vec<_> = names
            .iter()
            .map(|name| full.field_with_name(name).unwrap().clone())
            .collect();
        Arc::new(Schema::new(fields))
    };
    let read = |wanted: &[&str], file: &Schema| LandedReader::columns(&now, &only(wanted), file);
    assert_eq!(read(&["a", "b"], &full), ["a", "b"]);
    assert_eq!(
        read(&["a", "_offset"], &only(&["a", "_offset", "_raw"])),
        ["a", "_offset"]
    );
    assert_eq!(read(&["a", "b"], &only(&["a", "_raw"])), ["a", "b", "_raw"]);
    // Of the other columns nothing is asked.
    assert_eq!(read(&["a"], &only(&["a", "_raw"])), ["a"]);
}

#[test]
fn columns_are_matched_by_name_and_cast() {
    let ints: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
    let batch = RecordBatch::try_from_iter([("b", ints.clone()), ("a", ints)]).unwrap();
    let wanted = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("_undeclared", DataType::Utf8, true),
        Field::new("b", DataType::Int32, true),
    ]));
    let mut reader = LandedReader::new(&source("a BIGINT, b INT", ""), &wanted, &batch.schema());
    let found = reader.read(&batch).unwrap();
    assert_eq!(found.column(0).as_ref(), &Int64Array::from(vec![Some(1), None]));
    assert_eq!(found.column(1).null_count(), 2);
    assert_eq!(found.column(2), batch.column(0));
}

#[test]
fn a_column_that_cannot_be_cast_is_named() {
    let words: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let batch = RecordBatch::try_from_iter([("a", words)]).unwrap();
    let source = source("a STRUCT<zip INT>", "");
    let wanted = Arc::new(Schema::new(vec![source.event_schema().field(0).clone()]));
    let mut reader = LandedReader::new(&source, &wanted, &batch.schema());
    assert_eq!(reader.read(&batch).unwrap_err().column, "a");
}

#[test]
fn no_columns_keep_their_row_count() {
    let options = RecordBatchOptions::new().with_row_count(Some(7));
    let schema = Arc::new(Schema::empty());
    let empty = RecordBatch::try_new_with_options(Arc::clone(&schema), Vec::new(), &options).unwrap();
    let mut reader = LandedReader::new(&source("a BIGINT", ""), &schema, &schema);
    assert_eq!(reader.read(&empty).unwrap().num_rows(), 7);
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(|n| json!(n)),
        "[a-z\\\\\"é]{0,6}".prop_map(|s| json!(s)),
        any::<i16>().prop_map(|n| json!({"x": n, "y": "s"})),
    ]
}

proptest! {
    /// Where all values fit, it makes no difference whether the columns were declared before or after.
    #[test]
    fn filled_later_equals_decoded_at_once(
        lines in prop::collection::vec((value(), value(), value()), 1..20),
    ) {
        let all = source("a INT, b TEXT, c STRUCT<x INT, y TEXT>", "");
        let some = source("c STRUCT<y TEXT>", "");
        let lines: Vec<String> = lines.into_iter().map(|(a, b, c)| json!({"a": a, "b": b, "c": c}).to_string()).collect();
        let fits = |line: &&String| Decoder::new(&all).check(line.as_bytes()).is_ok();
        let lines: Vec<&String> = lines.iter().filter(fits).collect();
        prop_assume!(!lines.is_empty());
        let at_once = Decoder::new(&all).decode(&raw_text(&lines)).events;
        let landed = Decoder::new(&some).decode(&raw_text(&lines)).events;
        prop_assert_eq!(landed.num_rows(), at_once.num_rows());
        prop_assert_eq!(rows(&all, &through(&all, &landed)), rows(&all, &at_once));
    }
}
