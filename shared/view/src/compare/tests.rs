use std::sync::Arc;

use anabranch_catalog::Catalog;
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, new_null_array};

use crate::{Comparison, View};

fn view(select: &str) -> View {
    let sql = format!(
        "CREATE TABLE e (g TEXT, n BIGINT, x DOUBLE) WITH (topic = 'e');\n\
         CREATE MATERIALIZED VIEW v AS {select};"
    );
    View::compile(&Catalog::parse(&sql).unwrap().views["v"]).unwrap()
}

/// State of rows (g, n, x), groups in the order of their first row.
fn state(view: &View, rows: &[(&str, i64, f64)]) -> RecordBatch {
    let schema = view.source().event_schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "g" => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0))),
            "n" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
            "x" => Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2))),
            "_offset" => Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)),
            _ => new_null_array(field.data_type(), rows.len()),
        }
    });
    let events = RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
    let mut aggregator = view.aggregator().unwrap();
    aggregator.fold(&view.prepare(&events).unwrap()).unwrap();
    aggregator.emit().unwrap()
}

/// (row, column) of each difference.
fn places(compared: &Comparison) -> Vec<(usize, usize)> {
    compared
        .differences
        .iter()
        .map(|difference| (difference.row, difference.column))
        .collect()
}

#[test]
fn exact_columns_differ_by_anything_floats_by_more_than_rounding() {
    let view = view("SELECT g, count(*) AS c, sum(n) AS s, sum(x) AS f, min(g) AS m FROM e GROUP BY g");
    let left = state(&view, &[("a", 1, 0.1), ("b", 2, 1.0), ("a", 3, 0.2)]);
    assert_eq!(view.compare(&left, &left).unwrap().differences, []);

    let rounded = state(&view, &[("a", 1, 0.3), ("b", 2, 1.0 + 1e-12), ("a", 3, 0.0)]);
    assert_eq!(places(&view.compare(&left, &rounded).unwrap()), []);

    let other = state(&view, &[("a", 1, 0.1), ("b", 2, 1.1), ("a", 4, 0.2)]);
    let compared = view.compare(&left, &other).unwrap();
    assert_eq!(places(&compared), [(0, 2), (1, 3)]);
    assert_eq!(compared.differences[0].by, Some(1.0));
    assert!((compared.differences[1].by.unwrap() - 0.1).abs() < 1e-12);

    let more = state(&view, &[("a", 1, 0.1), ("b", 2, 1.0), ("a", 3, 0.2), ("b", 0, 0.0)]);
    assert_eq!(places(&view.compare(&left, &more).unwrap()), [(1, 1)]);
}

#[test]
fn nulls_differ_from_values() {
    let view = view("SELECT g, min(n) FILTER (WHERE n > 5) AS m, avg(x) FILTER (WHERE n > 5) AS f FROM e GROUP BY g");
    let left = state(&view, &[("a", 1, 0.5)]);
    let right = state(&view, &[("a", 6, 0.5)]);
    let compared = view.compare(&left, &right).unwrap();
    assert_eq!(places(&compared), [(0, 1), (0, 2)]);
    assert_eq!(compared.differences[0].by, None, "a null is at no distance");
}

#[test]
fn groups_that_having_leaves_out_are_compared_too() {
    let view = view("SELECT g, sum(n) AS s FROM e GROUP BY g HAVING sum(n) > 100");
    let left = state(&view, &[("a", 1, 0.0), ("b", 200, 0.0)]);
    let right = state(&view, &[("a", 2, 0.0), ("b", 200, 0.0)]);
    let compared = view.compare(&left, &right).unwrap();
    assert_eq!((compared.left.num_rows(), compared.right.num_rows()), (2, 2));
    assert_eq!(places(&compared), [(0, 1)]);
}

#[test]
fn sketches_of_the_same_rows_agree_and_of_others_do_not() {
    let view = view("SELECT approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY x) AS p FROM e");
    let rows: Vec<(&str, i64, f64)> = (0..20_000).map(|i| ("a", 0, f64::from((i * 7919) % 20_000))).collect();
    let whole = state(&view, &rows);
    let mut merged = view.aggregator().unwrap();
    for part in rows.chunks(777).rev() {
        merged.merge(&state(&view, part)).unwrap();
    }
    let merged = merged.emit().unwrap();
    assert_ne!(whole, merged, "different merge orders give different digests");
    assert_eq!(view.compare(&whole, &merged).unwrap().differences, []);

    // As many rows between the same bounds, but otherwise distributed.
    let skewed: Vec<(&str, i64, f64)> = rows.iter().map(|row| ("a", 0, row.2 * row.2 / 19_999.0)).collect();
    assert_eq!(places(&view.compare(&whole, &state(&view, &skewed)).unwrap()), [(0, 0)]);
    let fewer = state(&view, &rows[..19_000]);
    assert_eq!(places(&view.compare(&whole, &fewer).unwrap()), [(0, 0)]);
}

#[test]
fn rounded_floats_may_fall_on_either_side() {
    let view = view("SELECT g, CAST(sum(x) AS BIGINT) AS whole FROM e GROUP BY g");
    let left = state(&view, &[("a", 0, 2.0 - 1e-13), ("b", 0, 7.0)]);
    let right = state(&view, &[("a", 0, 2.0), ("b", 0, 9.0)]);
    assert_eq!(places(&view.compare(&left, &right).unwrap()), [(1, 1)]);
}

#[test]
fn states_of_different_size_are_refused() {
    let view = view("SELECT g, count(*) AS c FROM e GROUP BY g");
    let (one, two) = (
        state(&view, &[("a", 0, 0.0)]),
        state(&view, &[("a", 0, 0.0), ("b", 0, 0.0)]),
    );
    assert!(view.compare(&one, &two).is_err());
}
