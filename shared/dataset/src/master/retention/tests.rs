use std::ops::Range;

use object_store::ObjectStoreExt;
use uuid::Uuid;

use super::*;
use crate::master::tests::{epoch_of, landed_version};
use crate::testing::{clicks, local, memory, timed_rows, upload};
use crate::{Advance, Landing, Store, Vacuum};

const LOG: &str = "the log";

fn p(partition: i32) -> PartitionId {
    PartitionId(partition)
}

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end))
}

/// Lands rows of one partition, all in one file; `dead` ones too.
async fn land(dataset: &MasterDataset, rows: &[(i32, Range<i64>)], time_us: impl Fn(i64) -> Option<i64> + Copy) {
    let epochs = dataset.snapshot(None).await.unwrap().epochs;
    let batches: Vec<RecordBatch> = rows
        .iter()
        .map(|(partition, range)| timed_rows(dataset, *partition, range.clone(), time_us))
        .collect();
    let batch = arrow::compute::concat_batches(&dataset.file_schema(), &batches).unwrap();
    let advance = |(partition, offsets): &(i32, Range<i64>)| {
        let (range, epoch) = (range(offsets.start, offsets.end), epochs[&p(*partition)]);
        (p(*partition), Advance { range, epoch })
    };
    let landing = Landing {
        commit_id: Uuid::now_v7(),
        files: vec![upload(dataset, &batch, false).await],
        partitions: rows.iter().map(advance).collect(),
    };
    landed_version(dataset, &landing).await;
}

async fn table(store: &Store) -> MasterDataset {
    let dataset = MasterDataset::open(store, &clicks(), LOG).await.unwrap();
    for partition in 0..2 {
        epoch_of(&dataset, partition, "a").await;
    }
    dataset
}

/// Rows that count, by partition and offset.
async fn rows(dataset: &MasterDataset) -> Vec<(i32, i64)> {
    let snapshot = dataset.snapshot(None).await.unwrap();
    let filter = RowFilter::new(&snapshot.notes, None, None);
    let mut rows = Vec::new();
    for file in &snapshot.files {
        let batches: Vec<RecordBatch> = read_columns(dataset.store(), file, &columns())
            .try_collect()
            .await
            .unwrap();
        for batch in batches {
            rows.extend(placed(&filter.apply(&batch).unwrap()).map(|(p, o, _)| (p.0, o.0)));
        }
    }
    rows.sort_unstable();
    rows
}

#[tokio::test]
async fn a_prefix_of_each_partition_expires() {
    let (store, _folder) = local();
    let dataset = table(&store).await;
    // Time of a row = its offset in seconds.
    let seconds = |offset: i64| Some(offset * 1_000_000);
    land(&dataset, &[(0, 0..10)], seconds).await;
    land(&dataset, &[(0, 10..20), (1, 0..5)], seconds).await;
    land(&dataset, &[(0, 20..30), (1, 5..50)], seconds).await;
    let cutoff = 15_000_000;

    let expirable = dataset.expirable(cutoff, None).await.unwrap();
    let of = |partition: i32| expirable.partitions[&p(partition)];
    assert_eq!((of(0).range, of(0).rows), (range(0, 15), 15));
    assert_eq!((of(1).range, of(1).rows), (range(0, 15), 15));
    assert_eq!(of(0).times, Some(TimeSpan::from((0, 14_000_000))));
    assert_eq!(
        (expirable.files, expirable.straddling_files, expirable.rows()),
        (1, 2, 30)
    );
    assert_eq!(rows(&dataset).await.len(), 80, "nothing has changed yet");

    let version = dataset.expire(&expirable.since()).await.unwrap().unwrap();
    let snapshot = dataset.snapshot(None).await.unwrap();
    assert_eq!((snapshot.version, snapshot.files.len()), (version, 2));
    assert_eq!(snapshot.notes.since, expirable.since());
    let expected: Vec<(i32, i64)> = (15..30).map(|o| (0, o)).chain((15..50).map(|o| (1, o))).collect();
    assert_eq!(rows(&dataset).await, expected);
    // Another process sees the same; the log says that rows have gone.
    let reopened = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    assert_eq!(reopened.snapshot(None).await.unwrap(), snapshot);
    let configuration = reopened.with_state(|state| state.metadata.clone().unwrap().configuration);
    assert_eq!(configuration[log::APPEND_ONLY], "false");

    // Later, when the rest of the second file has expired too.
    assert!(dataset.expirable(cutoff, None).await.unwrap().is_empty());
    let later = dataset.expirable(22_000_000, None).await.unwrap();
    assert_eq!(later.partitions[&p(0)].range, range(15, 22));
    assert_eq!((later.files, later.straddling_files, later.rows()), (1, 1, 14));
    dataset.expire(&later.since()).await.unwrap().unwrap();
    assert_eq!(dataset.snapshot(None).await.unwrap().files.len(), 1);
    assert_eq!(
        dataset.expire(&later.since()).await.unwrap(),
        None,
        "nothing is left to do"
    );
}

#[tokio::test]
async fn a_row_waits_for_those_before_it() {
    let store = memory();
    let dataset = table(&store).await;
    // 3 is young, and so is everything behind it.
    land(&dataset, &[(0, 0..10)], |offset| {
        Some(if offset == 3 { 100 } else { offset })
    })
    .await;
    land(&dataset, &[(0, 10..12)], |_| Some(0)).await;
    let expirable = dataset.expirable(50, None).await.unwrap();
    assert_eq!(expirable.partitions[&p(0)].range, range(0, 3));
    assert_eq!((expirable.files, expirable.straddling_files), (0, 1));
}

#[tokio::test]
async fn where_no_rows_lie_nothing_expires() {
    let store = memory();
    let dataset = table(&store).await;
    // Transaction markers alone: offsets advance, and there is no file.
    let epoch = dataset.snapshot(None).await.unwrap().epochs[&p(0)];
    let markers = Advance {
        range: range(0, 2),
        epoch,
    };
    let landing = Landing {
        commit_id: Uuid::now_v7(),
        files: Vec::new(),
        partitions: [(p(0), markers)].into(),
    };
    landed_version(&dataset, &landing).await;
    land(&dataset, &[(0, 2..6)], Some).await;
    assert!(dataset.expirable(2, None).await.unwrap().is_empty());
    // Rows that do expire take the markers before them along.
    let expirable = dataset.expirable(4, None).await.unwrap();
    let of = expirable.partitions[&p(0)];
    assert_eq!((of.range, of.rows), (range(0, 4), 2));
}

#[tokio::test]
async fn rows_without_a_time_do_not_expire() {
    let store = memory();
    let dataset = table(&store).await;
    land(&dataset, &[(0, 0..4)], |offset| (offset != 2).then_some(0)).await;
    land(&dataset, &[(1, 0..4)], |_| None).await;
    let expirable = dataset.expirable(i64::MAX, None).await.unwrap();
    assert_eq!(expirable.since(), [(p(0), Offset(2))].into_iter().collect());
}

#[tokio::test]
async fn everything_may_expire_but_nothing_beyond() {
    let store = memory();
    let dataset = table(&store).await;
    land(&dataset, &[(0, 0..4)], |_| Some(0)).await;
    let expirable = dataset.expirable(1, None).await.unwrap();
    assert_eq!(expirable.since(), [(p(0), Offset(4))].into_iter().collect());
    // Asked for more than is landed, and for a partition that has not begun.
    let beyond = [(p(0), Offset(99)), (p(7), Offset(3))].into_iter().collect();
    dataset.expire(&beyond).await.unwrap().unwrap();
    let snapshot = dataset.snapshot(None).await.unwrap();
    assert_eq!(snapshot.notes.since, [(p(0), Offset(4))].into_iter().collect());
    assert!(snapshot.files.is_empty());
    assert_eq!(
        dataset
            .expire(&[(p(0), Offset(2))].into_iter().collect())
            .await
            .unwrap(),
        None,
        "it never moves back"
    );

    // The file itself goes with the next vacuum.
    let vacuum = Vacuum {
        now: chrono::Utc::now() + chrono::TimeDelta::hours(2),
        grace: std::time::Duration::ZERO,
        pinned: [].into(),
        dry_run: false,
    };
    assert_eq!(dataset.vacuum(&vacuum).await.unwrap().files, 1);
    // Landing goes on.
    land(&dataset, &[(0, 4..6)], |_| Some(5)).await;
    assert_eq!(rows(&dataset).await, [(0, 4), (0, 5)]);
}

#[tokio::test]
async fn files_of_unknown_ranges_are_read() {
    let store = memory();
    let dataset = table(&store).await;
    land(&dataset, &[(0, 0..6), (1, 0..3)], Some).await;
    let unknown = |file: &DataFile| DataFile {
        ranges: BTreeMap::new(),
        times: BTreeMap::new(),
        ..file.clone()
    };
    // As a version of this program that did not record ranges had landed it.
    let file = dataset.snapshot(None).await.unwrap().files[0].clone();
    let relative = dataset.relative_path(&file.path).unwrap();
    let id = Uuid::now_v7();
    let strip = |_: &TableState| {
        let actions = vec![log::add_action(&relative, &unknown(&file), Change::Layout, 0)];
        let (operation, parameters) = ("TEST", json!({}));
        Ok(Decision::Commit(
            Commit {
                id,
                operation,
                parameters,
                actions,
            },
            (),
        ))
    };
    dataset.commit(id, strip).await.unwrap();
    assert!(dataset.snapshot(None).await.unwrap().files[0].ranges.is_empty());

    let expirable = dataset.expirable(4, None).await.unwrap();
    assert_eq!(
        expirable.since(),
        [(p(0), Offset(4)), (p(1), Offset(3))].into_iter().collect()
    );
    dataset.expire(&expirable.since()).await.unwrap();
    assert_eq!(rows(&dataset).await, [(0, 4), (0, 5)]);
    store.objects().head(&file.path).await.unwrap();
}
