use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{ErrorKind, Offset, OffsetRange, PartitionId};
use parquet::basic::Compression as Codec;

use super::*;
use crate::master::tests::{epoch_of, landed_offsets, landed_version};
use crate::testing::{clicks, landing, memory, rows, source, timed_rows, upload};
use crate::{Advance, Landing, Store};

const LOG: &str = "the log";

fn compaction(min_files: usize, target_file_bytes: u64) -> Compaction {
    Compaction {
        min_files,
        target_file_bytes,
        memory_bytes: 1 << 30,
        compression: Codec::UNCOMPRESSED,
    }
}

fn file(bytes: u64, dead: bool) -> DataFile {
    let path = Path::from(format!("sources/clicks/_dead={dead}/{}.parquet", Uuid::now_v7()));
    DataFile {
        path,
        bytes,
        rows: 1,
        dead,
        ranges: BTreeMap::new(),
        times: BTreeMap::new(),
    }
}

fn planned(sizes: &[u64], compaction: &Compaction) -> Option<Vec<u64>> {
    let files: Vec<DataFile> = sizes.iter().map(|bytes| file(*bytes, false)).collect();
    let plan = plan_compaction(&files, compaction)?;
    assert!(
        plan.files
            .is_sorted_by_key(|file| files.iter().position(|other| other == file))
    );
    Some(plan.files.iter().map(|file| file.bytes).collect())
}

#[test]
fn a_tier_waits_until_it_is_worth_it() {
    let four = compaction(4, 1000);
    assert_eq!(planned(&[10; 3], &four), None);
    assert_eq!(planned(&[10; 5], &four), Some(vec![10; 5]));
    // 400 is of another tier, 501 and 5000 are large enough.
    assert_eq!(planned(&[10, 400, 10, 501, 10, 5000], &four), None);
    assert_eq!(planned(&[10, 400, 10, 501, 10, 5000, 10], &four), Some(vec![10; 4]));
    // What makes a full-size file is worth it, however few there are.
    assert_eq!(planned(&[400, 450, 450], &four), Some(vec![400, 450]));
    assert_eq!(planned(&[], &four), None);
}

#[test]
fn the_smallest_files_come_first_and_the_oldest_of_them() {
    let two = compaction(2, 1000);
    assert_eq!(planned(&[300, 300, 20, 21, 22], &two), Some(vec![20, 21, 22]));
    let many = vec![1; MOST_FILES + 50];
    assert_eq!(planned(&many, &compaction(2, 10_000)).unwrap().len(), MOST_FILES);
}

#[test]
fn dead_letters_and_files_of_other_tools_are_kept_apart() {
    let mut files: Vec<DataFile> = [false, true, false, true, true].map(|dead| file(10, dead)).to_vec();
    files[0].path = Path::from("sources/clicks/_dead=false/part-00000.snappy.parquet");
    let plan = plan_compaction(&files, &compaction(2, 1000)).unwrap();
    assert!(plan.dead);
    assert_eq!(plan.files, [&files[1], &files[3], &files[4]].map(Clone::clone));
}

/// However small the files that come, a row is rewritten about once per tier.
#[test]
fn rows_are_rewritten_once_per_tier() {
    let eight = compaction(8, 1 << 20);
    let mut files: Vec<DataFile> = Vec::new();
    let (mut landed, mut rewritten) = (0, 0);
    for _ in 0..5_000 {
        files.push(file(300, false));
        landed += 300;
        while let Some(plan) = plan_compaction(&files, &eight) {
            let bytes = plan.files.iter().map(|file| file.bytes).sum();
            rewritten += bytes;
            let first = files.iter().position(|file| *file == plan.files[0]).unwrap();
            files.retain(|file| !plan.files.contains(file));
            files.insert(first, file(bytes, false));
        }
    }
    assert!(files.len() < 40, "{} files", files.len());
    let times = rewritten as f64 / landed as f64;
    assert!((1.0..6.0).contains(&times), "each row was written {times} times more");
}

/// A table with `files` landings of three rows each, in two partitions in turn.
async fn table(store: &Store, files: i64) -> MasterDataset {
    let dataset = MasterDataset::open(store, &clicks(), LOG).await.unwrap();
    for partition in 0..2 {
        let epoch = epoch_of(&dataset, partition, "a").await;
        for at in 0..files / 2 {
            let landing = landing(&dataset, partition, at * 3..at * 3 + 3, epoch).await;
            landed_version(&dataset, &landing).await;
        }
    }
    dataset
}

#[tokio::test]
async fn merged_files_hold_the_same_rows_in_order() {
    let store = memory();
    let dataset = table(&store, 8).await;
    let before = dataset.snapshot(None).await.unwrap();
    let expected = landed_offsets(&dataset).await;

    let compacted = dataset.compact(&compaction(4, 1 << 20)).await.unwrap().unwrap();
    assert_eq!(compacted.inputs, before.files);
    let after = dataset.snapshot(None).await.unwrap();
    assert_eq!(
        (after.version, &after.files),
        (compacted.version, &vec![compacted.output.clone()])
    );
    assert_eq!((&after.next, &after.epochs), (&before.next, &before.epochs));
    assert_eq!(landed_offsets(&dataset).await, expected);
    let range = OffsetRange::new(Offset(0), Offset(12));
    assert_eq!(
        compacted.output.ranges,
        BTreeMap::from([(PartitionId(0), range), (PartitionId(1), range)])
    );
    let columns = SchemaRef::from(Schema::new(RowFilter::columns()));
    let read: Vec<RecordBatch> = read_columns(&store, &compacted.output, &columns)
        .try_collect()
        .await
        .unwrap();
    let keys: Vec<(i32, i64)> = read
        .iter()
        .flat_map(|batch| {
            let (partitions, offsets) = places(batch).unwrap();
            partitions
                .iter()
                .copied()
                .zip(offsets.iter().copied())
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(keys.is_sorted() && keys.len() == 24);
    assert!(
        dataset.compact(&compaction(4, 1 << 20)).await.unwrap().is_none(),
        "nothing is left to merge"
    );

    // Who reads the version before still can.
    let then = dataset.snapshot(Some(before.version)).await.unwrap();
    assert_eq!(then, before);
    for file in &then.files {
        store.objects().head(&file.path).await.unwrap();
    }
    // Another process sees the same, and so does one that opens the table.
    let reopened = MasterDataset::open_existing(&store, &clicks()).await.unwrap().unwrap();
    assert_eq!(reopened.snapshot(None).await.unwrap(), after);
    let log = store
        .read(&super::super::commit_path(&dataset.inner.root, after.version))
        .await
        .unwrap()
        .unwrap();
    let log = String::from_utf8(log.to_vec()).unwrap();
    assert!(
        !log.contains(r#""dataChange":true"#) && log.matches(r#""dataChange":false"#).count() == 9,
        "{log}"
    );
}

#[tokio::test]
async fn a_merged_file_lies_where_the_first_of_its_inputs_did() {
    let store = memory();
    let dataset = table(&store, 6).await;
    let files = dataset.snapshot(None).await.unwrap().files;
    let path = dataset.merged_file_path(false, &files[2].path);
    assert_ne!(path, files[2].path);
    // Those of the same millisecond are in any order.
    let ms = |path: &Path| path.filename().unwrap()[..13].to_owned();
    assert_eq!(ms(&path), ms(&files[2].path));
}

#[tokio::test]
async fn landings_go_on_while_files_are_merged() {
    let store = memory();
    let dataset = table(&store, 8).await;
    let epoch = epoch_of(&dataset, 0, "b").await;
    let other = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let (merged, landed, done) = (Cell::new(0), Cell::new(0), Cell::new(false));
    let merge = async {
        while !done.get() {
            let compacted = dataset.compact(&compaction(2, 1 << 20)).await.unwrap();
            merged.set(merged.get() + i64::from(compacted.is_some()));
            tokio::task::yield_now().await;
        }
    };
    let land = async {
        while landed.get() < 40 || merged.get() < 4 {
            let start = 12 + landed.get();
            landed_version(&other, &landing(&other, 0, start..start + 1, epoch).await).await;
            landed.set(landed.get() + 1);
            // The pace of a busy table, which leaves a merge time to commit.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        done.set(true);
    };
    tokio::join!(merge, land);
    let offsets = landed_offsets(&dataset).await;
    assert_eq!(offsets.len(), 12 + landed.get() as usize + 12);
    assert!(offsets.values().all(|times| *times == 1), "{offsets:?}");
}

#[tokio::test]
async fn of_two_compactors_one_gives_way() {
    let store = memory();
    let dataset = table(&store, 8).await;
    let other = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let snapshot = other.snapshot(None).await.unwrap();
    let plan = plan_compaction(&snapshot.files, &compaction(4, 1 << 20)).unwrap();
    dataset.compact(&compaction(4, 1 << 20)).await.unwrap().unwrap();
    let offsets = landed_offsets(&dataset).await;
    assert_eq!(other.merge(plan, &compaction(4, 1 << 20)).await.unwrap(), None);
    assert_eq!(landed_offsets(&other).await, offsets);
    // 8 inputs and the one merged file; what the other had written is gone again.
    assert_eq!(dataset.data_objects().await.unwrap().len(), 9);
}

#[tokio::test]
async fn an_offset_that_is_there_twice_is_not_merged_away() {
    let store = memory();
    let dataset = table(&store, 2).await;
    let mut wrong = landing(&dataset, 0, 3..5, 1).await;
    wrong
        .files
        .push(upload(&dataset, &rows(&dataset, 0, 1..2), false).await);
    landed_version(&dataset, &wrong).await;
    let version = dataset.snapshot(None).await.unwrap().version;
    let error = dataset.compact(&compaction(2, 1 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("offset 1 of partition 0"), "{error}");
    assert_eq!(dataset.snapshot(None).await.unwrap().version, version);
}

#[tokio::test]
async fn only_files_with_the_same_columns_are_merged() {
    let store = memory();
    table(&store, 6).await;
    let grown = MasterDataset::open(&store, &source("page TEXT, n BIGINT, extra TEXT"), LOG)
        .await
        .unwrap();
    for start in 9..13 {
        landed_version(&grown, &landing(&grown, 0, start..start + 1, 1).await).await;
    }
    let offsets = landed_offsets(&grown).await;
    let first = grown.compact(&compaction(2, 1 << 20)).await.unwrap().unwrap();
    assert_eq!(
        (first.inputs.len(), first.output.rows),
        (6, 18),
        "those without the new column"
    );
    let second = grown.compact(&compaction(2, 1 << 20)).await.unwrap().unwrap();
    assert_eq!((second.inputs.len(), second.output.rows), (4, 4));
    assert!(grown.compact(&compaction(2, 1 << 20)).await.unwrap().is_none());
    assert_eq!(landed_offsets(&grown).await, offsets);
    let reader = DataReader::open_whole(&store, &first.output.path, first.output.bytes)
        .await
        .unwrap();
    assert!(
        reader.schema().field_with_name("extra").is_err(),
        "which tells that its events were landed before"
    );
}

#[tokio::test]
async fn memory_bounds_what_is_merged_at_once() {
    let store = memory();
    let dataset = table(&store, 8).await;
    let bytes: u64 = {
        let files = dataset.snapshot(None).await.unwrap().files;
        let reader = DataReader::open_whole(&store, &files[0].path, files[0].bytes)
            .await
            .unwrap();
        reader.decoded_bytes(0)
    };
    let small = Compaction {
        memory_bytes: bytes * 3,
        ..compaction(2, 1 << 20)
    };
    assert_eq!(dataset.compact(&small).await.unwrap().unwrap().inputs.len(), 3);
    let tiny = Compaction {
        memory_bytes: bytes,
        ..small
    };
    assert_eq!(dataset.compact(&tiny).await.unwrap(), None);
}

#[tokio::test]
async fn dead_letters_are_merged_among_themselves_with_their_times() {
    let store = memory();
    let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    for at in 0..4 {
        let events = timed_rows(&dataset, 0, at * 10..at * 10 + 9, |offset| Some(offset * 1000));
        let dead = timed_rows(&dataset, 0, at * 10 + 9..at * 10 + 10, |offset| Some(offset * 1000));
        let range = OffsetRange::new(Offset(at * 10), Offset(at * 10 + 10));
        let landing = Landing {
            commit_id: Uuid::now_v7(),
            files: vec![
                upload(&dataset, &events, false).await,
                upload(&dataset, &dead, true).await,
            ],
            partitions: BTreeMap::from([(PartitionId(0), Advance { range, epoch })]),
        };
        landed_version(&dataset, &landing).await;
    }
    while dataset.compact(&compaction(2, 1 << 20)).await.unwrap().is_some() {}
    let files = dataset.snapshot(None).await.unwrap().files;
    let told: Vec<_> = files
        .iter()
        .map(|file| {
            (
                file.dead,
                file.rows,
                file.times[&PartitionId(0)].first_us,
                file.times[&PartitionId(0)].last_us,
            )
        })
        .collect();
    assert_eq!(told, [(false, 36, 0, 38_000), (true, 4, 9_000, 39_000)]);
}

/// A merged file that waited too long to be committed may have been taken for left behind.
#[tokio::test]
async fn a_stale_merged_file_is_not_committed() {
    let store = memory();
    let dataset = table(&store, 4).await;
    let files = dataset.snapshot(None).await.unwrap().files;
    let batches = [rows(&dataset, 0, 0..6), rows(&dataset, 1, 0..6)];
    let output = DataFile::of_batches(dataset.merged_file_path(false, &files[0].path), 1, false, &batches);
    let error = dataset
        .replace(Uuid::now_v7(), &files, &output, || false)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(dataset.snapshot(None).await.unwrap().files, files);
}

#[tokio::test]
async fn a_damaged_merged_file_is_found_out() {
    let store = memory();
    let dataset = table(&store, 2).await;
    let batches = [rows(&dataset, 0, 0..6)];
    let order = in_order(&batches, &Path::from("x")).unwrap();
    let whole = upload(&dataset, &batches[0], false).await;
    dataset.check_merged(&whole, &order).await.unwrap();
    for wrong in [
        rows(&dataset, 0, 0..5),
        rows(&dataset, 0, 0..7),
        rows(&dataset, 0, 1..7),
        rows(&dataset, 1, 0..6),
    ] {
        let wrong = upload(&dataset, &wrong, false).await;
        let error = dataset.check_merged(&wrong, &order).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{error}");
    }
    let no_places: RecordBatch =
        RecordBatch::try_from_iter([("n", Arc::new(arrow::array::Int64Array::from(vec![1])) as _)]).unwrap();
    assert!(in_order(&[no_places], &Path::from("x")).is_err());
}
