use std::sync::Arc;

use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{Field, Schema};

use super::*;
use crate::filter::{Domain, Domains};

fn state(keys: &[(Option<&str>, i64)]) -> (KeyCodec, RecordBatch) {
    let schema = Arc::new(Schema::new(vec![
        Field::new("key0", DataType::Utf8, true),
        Field::new("key1", DataType::Int64, true),
        Field::new("count", DataType::Int64, true),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter(keys.iter().map(|key| key.0))),
        Arc::new(Int64Array::from_iter_values(keys.iter().map(|key| key.1))),
        Arc::new(Int64Array::from_iter_values(0..keys.len() as i64)),
    ];
    let codec = KeyCodec::new(&schema, 2).unwrap().unwrap();
    (codec, RecordBatch::try_new(schema, columns).unwrap())
}

fn text(value: &str) -> datafusion::common::ScalarValue {
    value.into()
}

#[test]
fn an_index_finds_rows_without_looking_at_most_of_them() {
    let names: Vec<String> = (0..5_000).map(|i| format!("k{:04}", i / 2)).collect();
    let mut keys: Vec<(Option<&str>, i64)> = vec![(None, 0), (None, 7)];
    keys.extend(
        names
            .iter()
            .enumerate()
            .map(|(i, name)| (Some(name.as_str()), (i % 2) as i64)),
    );
    let (codec, state) = state(&keys);
    let index = KeyIndex::new(&codec, &state).unwrap().expect("they ascend");
    assert!(index.size_bytes() < 20_000, "{}", index.size_bytes());

    for wanted in [0, 1, 31, 32, 1_234, 2_499] {
        let name = format!("k{wanted:04}");
        let domains = Domains::from([(0, Domain::Points(vec![text(&name)]))]);
        let spans = index.spans(&KeyRanges::new(&codec, &domains).unwrap());
        let rows: usize = spans.iter().map(ExactSizeIterator::len).sum();
        assert!(rows <= 3 * SAMPLE_ROWS, "{name}: {spans:?}");
        for row in keys
            .iter()
            .enumerate()
            .filter(|(_, key)| key.0 == Some(name.as_str()))
            .map(|(row, _)| row)
        {
            assert!(
                spans.iter().any(|span| span.contains(&row)),
                "{name}: row {row} is not in {spans:?}"
            );
        }
    }
    let nobody = Domains::from([(0, Domain::Points(vec![text("zzz")]))]);
    let spans = index.spans(&KeyRanges::new(&codec, &nobody).unwrap());
    assert!(spans.iter().map(ExactSizeIterator::len).sum::<usize>() <= 2 * SAMPLE_ROWS);
}

#[test]
fn rows_out_of_order_and_repeated_groups_have_no_index() {
    let (codec, unordered) = state(&[(Some("b"), 1), (Some("a"), 1)]);
    assert!(KeyIndex::new(&codec, &unordered).unwrap().is_none());
    let (codec, repeated) = state(&[(Some("a"), 1), (Some("a"), 1)]);
    assert!(KeyIndex::new(&codec, &repeated).unwrap().is_none());
    let (codec, empty) = state(&[]);
    let index = KeyIndex::new(&codec, &empty).unwrap().expect("nothing is in order");
    let all = Domains::from([(0, Domain::Points(vec![text("a")]))]);
    assert!(index.spans(&KeyRanges::new(&codec, &all).unwrap()).is_empty());
}

#[test]
fn too_many_combinations_are_one_range_for_each_leading_value() {
    let (codec, _) = state(&[]);
    let number = |n: i64| datafusion::common::ScalarValue::from(n);
    let names = |count: usize| Domain::Points((0..count).map(|i| text(&i.to_string())).collect());
    let numbers = |count: i64| Domain::Points((0..count).map(number).collect());
    let ranges = |names, numbers| KeyRanges::new(&codec, &Domains::from([(0, names), (1, numbers)])).unwrap();
    assert_eq!(ranges(names(30), numbers(30)).iter().count(), 900);
    assert_eq!(ranges(names(30), numbers(60)).iter().count(), 30);
    assert_eq!(ranges(names(2_000), numbers(2)).iter().count(), 1);
    assert!(ranges(names(0), numbers(2)).is_empty());
    assert!(
        KeyRanges::new(&codec, &Domains::from([(1, numbers(2))])).is_none(),
        "the first key may be anything"
    );
}

#[test]
fn rows_in_any_order_are_found_by_key() {
    let names: Vec<String> = (0..500).map(|i| format!("k{:03}", i * 37 % 250)).collect();
    let mut keys: Vec<(Option<&str>, i64)> = names.iter().map(|name| (Some(name.as_str()), 3)).collect();
    keys.insert(100, (None, 3));
    let (codec, state) = state(&keys);
    let order = KeyOrder::new(&codec, &state).unwrap();
    let found = |domains: &Domains| {
        let mut rows = order.rows(&KeyRanges::new(&codec, domains).unwrap());
        let count = rows.len();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), count, "each row comes once");
        rows
    };
    let expected = |wanted: &dyn Fn(&str) -> bool| -> Vec<u32> {
        let rows = keys.iter().enumerate();
        rows.filter(|(_, key)| key.0.is_some_and(wanted))
            .map(|(row, _)| row as u32)
            .collect()
    };
    let points = |names: &[&str]| Domains::from([(0, Domain::Points(names.iter().map(|name| text(name)).collect()))]);

    assert_eq!(found(&points(&["k007"])), expected(&|name| name == "k007"));
    assert_eq!(found(&points(&["k007"])).len(), 2, "it is in two rows");
    assert_eq!(
        found(&points(&["k249", "k000", "k007"])),
        expected(&|name| ["k249", "k000", "k007"].contains(&name))
    );
    assert!(found(&points(&["nobody"])).is_empty());
    let between = Domains::from([(
        0,
        Domain::Between {
            lower: vec![(text("k010"), false)],
            upper: vec![(text("k020"), true)],
        },
    )]);
    assert_eq!(found(&between), expected(&|name| name > "k010" && name <= "k020"));
}

#[test]
fn rows_are_found_by_whole_keys_in_any_order() {
    let names: Vec<String> = (0..3_000).map(|i| format!("k{:04}", i * 37 % 1_500)).collect();
    let mut keys: Vec<(Option<&str>, i64)> = names.iter().map(|name| (Some(name.as_str()), 3)).collect();
    keys.insert(100, (None, 3));
    keys.insert(200, (Some("k0007"), 4));
    let (codec, state) = state(&keys);
    let hashes = KeyHashes::new(&codec, &state).unwrap();
    assert_eq!(hashes.size_bytes(), 8 * keys.len());
    let ranges = |names: Domain, numbers: &[i64]| {
        let numbers = numbers
            .iter()
            .map(|number| datafusion::common::ScalarValue::from(*number));
        let domains = Domains::from([(0, names), (1, Domain::Points(numbers.collect()))]);
        KeyRanges::new(&codec, &domains).unwrap()
    };
    let points = |names: &[Option<&str>]| {
        let value = |name: &Option<&str>| datafusion::common::ScalarValue::Utf8(name.map(str::to_owned));
        Domain::Points(names.iter().map(value).collect())
    };
    let check = |names: &[Option<&str>], numbers: &[i64], count: usize| {
        let found = hashes.rows(ranges(points(names), numbers).hashes().expect("these are whole keys"));
        assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
        let rows = keys.iter().enumerate();
        let right = rows.filter(|(_, key)| names.contains(&key.0) && numbers.contains(&key.1));
        let right: Vec<u32> = right.map(|(row, _)| row as u32).collect();
        assert_eq!(right.len(), count);
        assert!(right.iter().all(|row| found.contains(row)), "{names:?}: {found:?}");
        // Two keys in three thousand may share one of four thousand million hashes.
        assert!(found.len() <= right.len() + 1, "{names:?}: {found:?}");
    };
    check(&[Some("k0007")], &[3], 2);
    check(&[Some("k0007")], &[4], 1);
    check(&[Some("k0007"), Some("k1499"), Some("k0000")], &[3, 4, 5], 7);
    check(&[None], &[3], 1);
    check(&[Some("nobody")], &[3], 0);
    check(&[], &[3], 0);

    let between = Domain::Between {
        lower: vec![(text("k0010"), false)],
        upper: vec![],
    };
    assert!(ranges(between, &[3]).hashes().is_none(), "a range names no keys");
    let leading = Domains::from([(0, points(&[Some("k0007")]))]);
    let leading = KeyRanges::new(&codec, &leading).unwrap();
    assert!(leading.hashes().is_none(), "a part of a key is none");
}
