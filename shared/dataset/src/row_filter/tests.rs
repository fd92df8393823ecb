use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array};
use arrow::datatypes::Schema;
use object_store::path::Path;
use proptest::prelude::*;

use super::*;
use crate::master::Exclusion;

const PARTITIONS: i32 = 3;
const TOP: i64 = 20;

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end))
}

fn batch(rows: &[(i32, i64)]) -> RecordBatch {
    let mut fields: Vec<_> = RowFilter::columns().iter().cloned().collect();
    fields.push(Arc::new(Field::new("row", DataType::Int64, false)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|(partition, _)| *partition).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|(_, offset)| *offset).collect::<Int64Array>()),
        Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn file(dead: bool) -> DataFile {
    DataFile {
        path: Path::from("a.parquet"),
        bytes: 1,
        rows: 1,
        dead,
        ranges: BTreeMap::new(),
        times: BTreeMap::new(),
    }
}

fn vector() -> impl Strategy<Value = OffsetVector> {
    prop::collection::vec(prop::option::of(0..TOP), PARTITIONS as usize).prop_map(|offsets| {
        let known = (0..)
            .zip(offsets)
            .filter_map(|(p, o)| Some((PartitionId(p), Offset(o?))));
        known.collect()
    })
}

fn notes() -> impl Strategy<Value = Notes> {
    let exclusion = (0..PARTITIONS, 0..TOP, 1..8i64).prop_map(|(partition, start, len)| Exclusion {
        id: 0,
        partition: PartitionId(partition),
        range: range(start, start + len),
        reason: String::new(),
        by: String::new(),
        at: String::new(),
    });
    (prop::collection::vec(exclusion, 0..4), vector()).prop_map(|(exclusions, since)| Notes {
        exclusions,
        since,
        ..Notes::default()
    })
}

proptest! {
    /// The filter, its fast paths and its answers for ranges say what a plain reading of the notes says of each row.
    #[test]
    fn keeps_what_the_notes_keep(
        notes in notes(),
        from in prop::option::of(vector()),
        to in prop::option::of(vector()),
        rows in prop::collection::btree_set((0..PARTITIONS, 0..TOP), 0..40),
    ) {
        let plain = |(partition, offset): (i32, i64)| {
            let (p, o) = (PartitionId(partition), Offset(offset));
            let excluded = notes.exclusions.iter().any(|e| e.partition == p && e.range.start <= o && o < e.range.end);
            let expired = notes.since.get(p).is_some_and(|since| o < since);
            let behind = from.as_ref().is_none_or(|from| from.get(p).is_none_or(|from| from <= o));
            let before = to.as_ref().is_none_or(|to| to.get(p).is_some_and(|to| o < to));
            !excluded && !expired && behind && before
        };
        let filter = RowFilter::new(&notes, from.as_ref(), to.as_ref());
        for row in (0..PARTITIONS).flat_map(|p| (0..TOP).map(move |o| (p, o))) {
            prop_assert_eq!(filter.keeps(PartitionId(row.0), Offset(row.1)), plain(row));
        }

        let rows: Vec<_> = rows.into_iter().collect();
        let kept = filter.apply(&batch(&rows)).unwrap();
        let expected: Vec<i64> = (0..).zip(&rows).filter(|(_, row)| plain(**row)).map(|(index, _)| index).collect();
        prop_assert_eq!(kept.column(2).as_primitive::<Int64Type>().values().to_vec(), expected);

        // A file that holds these rows: what is said of it without reading it must hold for every row.
        let mut ranges: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
        for (partition, offset) in &rows {
            let known = ranges.entry(*partition).or_insert((*offset, *offset + 1));
            *known = (known.0.min(*offset), known.1.max(*offset + 1));
        }
        let ranges: BTreeMap<_, _> = ranges.into_iter().map(|(p, (start, end))| (PartitionId(p), range(start, end))).collect();
        let within: BTreeSet<_> = ranges.iter().flat_map(|(p, r)| (r.start.0..r.end.0).map(move |o| (p.0, o))).collect();
        prop_assert_eq!(filter.keeps_ranges(&ranges), !rows.is_empty() && within.iter().all(|row| plain(*row)));
        prop_assert_eq!(filter.drops_ranges(&ranges), !rows.is_empty() && !within.iter().any(|row| plain(*row)));
        prop_assert!(filter.is_all(&file(true)) && !filter.is_none(&file(true)));
    }
}

#[test]
fn a_file_whose_ranges_are_unknown_has_to_be_read() {
    let to = [(PartitionId(0), Offset(4))].into_iter().collect();
    let filter = RowFilter::new(&Notes::default(), None, Some(&to));
    let unknown = file(false);
    assert!(!filter.is_all(&unknown) && !filter.is_none(&unknown));
    assert!(RowFilter::default().is_all(&unknown));
}

#[test]
fn a_batch_of_which_nothing_is_dropped_is_not_copied() {
    let rows = batch(&[(0, 1), (0, 2), (1, 9)]);
    let to = [(PartitionId(0), Offset(4)), (PartitionId(1), Offset(10))]
        .into_iter()
        .collect();
    let kept = RowFilter::new(&Notes::default(), None, Some(&to)).apply(&rows).unwrap();
    assert!(Arc::ptr_eq(kept.column(2), rows.column(2)));
}

#[test]
fn a_batch_without_offsets_is_refused() {
    let rows = batch(&[(0, 1)]).project(&[0, 2]).unwrap();
    let to = OffsetVector::new();
    let error = RowFilter::new(&Notes::default(), None, Some(&to))
        .apply(&rows)
        .unwrap_err();
    assert!(error.to_string().contains("_offset"), "{error}");
}
