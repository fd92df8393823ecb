use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, DictionaryArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int32Type};
use arrow::row::{RowConverter, SortField};

use super::*;

fn fields(columns: &[ArrayRef]) -> Vec<FieldRef> {
    let field = |column: &ArrayRef| Arc::new(Field::new("key", plain(column).data_type().clone(), true));
    columns.iter().map(field).collect()
}

fn plain(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Dictionary(_, values) => arrow::compute::cast(column, values).unwrap(),
        _ => Arc::clone(column),
    }
}

/// Rows of keys as bytes that compare like them.
fn rows_of(columns: &[ArrayRef]) -> Vec<Vec<u8>> {
    let columns: Vec<ArrayRef> = columns.iter().map(plain).collect();
    let sort = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    let rows = RowConverter::new(sort).unwrap().convert_columns(&columns).unwrap();
    rows.iter().map(|row| row.data().to_vec()).collect()
}

/// Groups batches of keys as a map would, and compares ids, emitted keys and their order; twice, with the same groups.
fn check(batches: &[Vec<ArrayRef>]) {
    let mut groups = Groups::new(&fields(&batches[0])).unwrap();
    for sorted in [false, true, false] {
        let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut by_id: Vec<Vec<u8>> = vec![];
        let mut ids = vec![];
        for batch in batches {
            groups.assign(batch, batch[0].len(), &mut ids).unwrap();
            let rows = rows_of(batch);
            assert_eq!(ids.len(), rows.len());
            for (row, &id) in rows.into_iter().zip(&ids) {
                if id >= by_id.len() {
                    by_id.resize(id + 1, vec![]);
                }
                by_id[id] = row.clone();
                assert_eq!(*known.entry(row).or_insert(id), id);
            }
            assert_eq!(groups.len(), known.len());
        }
        assert_eq!(
            by_id.len(),
            known.len(),
            "numbers are dense and no two groups share one"
        );
        let emitted = groups.emit(sorted).unwrap();
        let keys = rows_of(&emitted.columns);
        let order: Vec<usize> = match &emitted.order {
            Some(order) => order.values().iter().map(|&group| group as usize).collect(),
            None => (0..keys.len()).collect(),
        };
        assert_eq!(
            keys,
            order.iter().map(|&group| by_id[group].clone()).collect::<Vec<_>>()
        );
        assert!(!sorted || keys.is_sorted());
        assert_eq!(groups.len(), 0);
    }
}

fn longs(rows: usize, distinct: i64, nulls: bool) -> ArrayRef {
    let value = |row: i64| (!nulls || row % 7 != 3).then_some((row * 7_919 % distinct - distinct / 2) * 1_000_003);
    Arc::new(Int64Array::from_iter((0..rows as i64).map(value)))
}

fn texts(rows: usize, distinct: usize, nulls: bool) -> ArrayRef {
    let value = |row: usize| (!nulls || row % 5 != 1).then(|| format!("/page/{}", row * row % distinct));
    Arc::new(StringArray::from_iter((0..rows).map(value)))
}

fn times(rows: usize, per_window: usize) -> ArrayRef {
    let value = |row: usize| ((row / per_window) as i64 - 3) * 60_000_000;
    Arc::new(TimestampMicrosecondArray::from_iter_values((0..rows).map(value)).with_timezone("UTC"))
}

fn dictionary(column: &ArrayRef) -> ArrayRef {
    let texts = arrow::array::AsArray::as_string::<i32>(column);
    Arc::new(texts.iter().collect::<DictionaryArray<Int32Type>>())
}

#[test]
fn one_column_is_numbered_by_its_values() {
    for nulls in [false, true] {
        check(&[vec![longs(4_000, 900, nulls)], vec![longs(3_000, 5_000, nulls)]]);
        check(&[vec![texts(4_000, 900, nulls)], vec![texts(100, 5_000, nulls)]]);
    }
    check(&[vec![times(4_000, 100)], vec![times(5_000, 90)]]);
    check(&[vec![Arc::new(BooleanArray::from(vec![
        Some(true),
        None,
        Some(false),
        None,
    ]))]]);
}

#[test]
fn few_combinations_and_many_are_both_told_apart() {
    // A full matrix; a sparse one, which becomes a hash table on the way; and three columns.
    check(&[
        vec![texts(9_000, 60, true), times(9_000, 100)],
        vec![texts(9_000, 90, false), times(9_000, 10)],
    ]);
    let sparse = |rows| vec![longs(rows, 9_001, true), longs(rows, 8_191, false)];
    check(&[sparse(50), sparse(9_000), sparse(12_000)]);
    check(&[vec![texts(9_000, 70, true), longs(9_000, 13, true), times(9_000, 50)]]);
    check(&[vec![
        longs(9_000, 8_191, false),
        texts(9_000, 8_009, false),
        longs(9_000, 7_919, true),
    ]]);
}

#[test]
fn dictionaries_are_numbered_like_the_text_they_stand_for() {
    for nulls in [false, true] {
        let (first, second) = (texts(5_000, 80, nulls), texts(5_000, 300, nulls));
        let (one, other) = (dictionary(&first), dictionary(&second));
        // The same dictionary twice, another one, and text in between.
        let batches = [
            one.slice(0, 2_000),
            one.slice(2_000, 3_000),
            Arc::clone(&second),
            other.slice(7, 4_000),
            one,
        ];
        check(&batches.clone().map(|column| vec![column]));
        check(&batches.map(|column| vec![times(column.len(), 40), column]));
    }
}

#[test]
fn what_is_emptied_is_small_again() {
    let mut groups = Groups::new(&fields(&[longs(1, 1, false), longs(1, 1, false)])).unwrap();
    let mut ids = vec![];
    groups
        .assign(
            &[longs(300_000, 299_993, false), longs(300_000, 1_009, false)],
            300_000,
            &mut ids,
        )
        .unwrap();
    let full = groups.size();
    assert!(full > 300_000 * 16, "{full}");
    groups.emit(true).unwrap();
    assert!(groups.size() < full / 2, "{} of {full}", groups.size());
}
