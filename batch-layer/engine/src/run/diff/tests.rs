use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, new_null_array};

use super::*;
use crate::testing::{SQL, compiled};

fn per_page() -> View {
    let (_, views) = compiled(SQL);
    views.iter().find(|view| view.name() == "per_page").unwrap().clone()
}

/// Sorted state of clicks: (page, n).
fn state(clicks: &[(&str, i64)]) -> States {
    let view = per_page();
    let schema = view.source().event_schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "page" => Arc::new(StringArray::from_iter_values(clicks.iter().map(|(page, _)| page))),
            "n" => Arc::new(Int64Array::from_iter_values(clicks.iter().map(|(_, n)| *n))),
            _ => new_null_array(field.data_type(), clicks.len()),
        }
    });
    let events = RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
    let mut aggregator = view.aggregator().unwrap();
    aggregator.fold(&view.prepare(&events).unwrap()).unwrap();
    Box::new([Ok(aggregator.emit_sorted().unwrap())].into_iter())
}

fn compared(computed: &[(&str, i64)], served: &[(&str, i64)]) -> ViewDiff {
    compare(&per_page(), state(computed), state(served)).unwrap()
}

fn values(values: &[(&str, &str)]) -> BTreeMap<String, Option<String>> {
    values
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
        .collect()
}

#[test]
fn equal_states_do_not_differ() {
    let clicks = [("/a", 1), ("/b", 2), ("/a", 3)];
    let diff = compared(&clicks, &[("/b", 2), ("/a", 3), ("/a", 1)]);
    assert_eq!((diff.compared, diff.differs(), diff.samples.len()), (2, false, 0));
    assert!(!compared(&[], &[]).differs());
}

#[test]
fn what_differs_is_counted_measured_and_shown() {
    let diff = compared(
        &[("/a", 1), ("/b", 2), ("/c", 3), ("/e", 9)],
        &[("/a", 1), ("/b", 7), ("/b", 1), ("/d", 4), ("/e", 8)],
    );
    assert_eq!((diff.compared, diff.differing), (3, 2));
    assert_eq!((diff.only_computed, diff.only_served), (1, 1));
    let largest = diff.largest.clone().unwrap();
    assert_eq!((largest.column.as_str(), largest.by), ("total", 6.0));
    let sample = |page: &str| {
        let of = |sample: &&DiffSample| sample.key == values(&[("page", page)]);
        diff.samples
            .iter()
            .find(of)
            .unwrap_or_else(|| panic!("{page}: {:?}", diff.samples))
            .clone()
    };
    assert_eq!(sample("/b").computed, Some(values(&[("clicks", "1"), ("total", "2")])));
    assert_eq!(sample("/b").served, Some(values(&[("clicks", "2"), ("total", "8")])));
    assert_eq!(
        sample("/e").computed,
        Some(values(&[("total", "9")])),
        "only columns that differ"
    );
    assert_eq!(sample("/c").served, None);
    assert_eq!(sample("/d").computed, None);
    assert_eq!(diff.samples.len(), 4);
}

#[test]
fn few_of_many_differences_are_shown() {
    let pages: Vec<String> = (0..500).map(|page| format!("/{page}")).collect();
    let with = |n: i64| pages.iter().map(|page| (page.as_str(), n)).collect::<Vec<_>>();
    let diff = compared(&with(1), &with(2));
    assert_eq!((diff.compared, diff.differing, diff.samples.len()), (500, 500, SAMPLES));
    let diff = compared(&with(1), &[]);
    assert_eq!((diff.only_computed, diff.samples.len()), (500, SAMPLES));
}

#[test]
fn a_difference_that_was_to_be_expected_holds_nothing_back() {
    let differing = ViewDiff {
        differing: 1,
        ..ViewDiff::default()
    };
    let diff = |expected: Option<&str>| Diff {
        publication: Some(1),
        views: [("v".to_owned(), differing.clone())].into(),
        expected: expected.map(str::to_owned),
    };
    assert!(is_alarming(&diff(None)));
    assert!(!is_alarming(&diff(Some("exclusions of clicks changed"))));
    assert!(!is_alarming(&Diff::default()));
}
