use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, TimestampMicrosecondArray};

use super::*;

/// Rows of partition, offset, time.
fn batch(rows: &[(i32, i64, Option<i64>)]) -> RecordBatch {
    let partitions: ArrayRef = Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.0)));
    let offsets: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
    let times: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.2)).with_timezone("UTC"));
    RecordBatch::try_from_iter_with_nullable([
        ("_partition", partitions, true),
        ("_offset", offsets, true),
        ("_timestamp", times, true),
    ])
    .unwrap()
}

fn described(batches: &[RecordBatch]) -> DataFile {
    DataFile::of_batches(Path::from("f"), 7, false, batches)
}

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end))
}

fn vector(offsets: &[(i32, i64)]) -> OffsetVector {
    offsets.iter().map(|(p, o)| (PartitionId(*p), Offset(*o))).collect()
}

#[test]
fn a_file_is_described_by_its_rows() {
    let file = described(&[
        batch(&[(0, 5, Some(100)), (0, 9, Some(90)), (2, 7, Some(80))]),
        batch(&[(2, 3, None), (0, 6, Some(300))]),
    ]);
    assert_eq!((file.rows, file.bytes), (5, 7));
    assert_eq!(
        file.ranges,
        BTreeMap::from([(PartitionId(0), range(5, 10)), (PartitionId(2), range(3, 8))])
    );
    assert_eq!(
        file.times,
        BTreeMap::from([(PartitionId(0), TimeSpan::from((90, 300)))]),
        "a row of partition 2 has no time"
    );
}

#[test]
fn rows_from_nowhere_leave_the_ranges_unknown() {
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3));
    let file = described(&[
        batch(&[(0, 5, Some(100))]),
        RecordBatch::try_from_iter([("n", n)]).unwrap(),
    ]);
    assert_eq!(file.rows, 4);
    assert!(file.ranges.is_empty() && file.times.is_empty());
}

#[test]
fn what_a_file_may_hold() {
    let file = described(&[batch(&[(0, 5, None), (0, 9, None), (2, 7, None)])]);
    assert!(file.may_hold(PartitionId(0), range(0, 6)));
    assert!(!file.may_hold(PartitionId(0), range(0, 5)));
    assert!(!file.may_hold(PartitionId(0), range(10, 20)));
    assert!(!file.may_hold(PartitionId(1), range(0, 20)));

    assert!(file.reaches_beyond(&vector(&[(0, 10), (2, 7)])));
    assert!(!file.reaches_beyond(&vector(&[(0, 10), (2, 8)])));
    assert!(
        file.reaches_beyond(&vector(&[(0, 10)])),
        "partition 2 has not begun there"
    );
    assert!(file.ends_before(&vector(&[(0, 10), (2, 8)])));

    let unknown = DataFile {
        ranges: BTreeMap::new(),
        ..file
    };
    assert!(unknown.may_hold(PartitionId(7), range(0, 1)));
    assert!(unknown.reaches_beyond(&vector(&[(0, 99), (2, 99)])));
    assert!(!unknown.ends_before(&vector(&[(0, 99), (2, 99)])));
}
