use anabranch_model::ErrorKind;
use chrono::TimeDelta;
use object_store::ObjectStoreExt;
use uuid::Uuid;

use super::*;
use crate::master::tests::{epoch_of, landed_offsets, landed_version};
use crate::testing::{clicks, landing, local, memory};
use crate::{Compaction, DataFile, Landing, Store};

const HOUR: Duration = Duration::from_secs(3600);

fn vacuum(in_hours: i64, pinned: &[u64]) -> Vacuum {
    Vacuum {
        now: Utc::now() + TimeDelta::hours(in_hours),
        grace: HOUR,
        pinned: pinned.iter().copied().collect(),
        dry_run: false,
    }
}

#[test]
fn who_may_still_read_a_file_decides() {
    let at = |hours: i64| DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::hours(hours);
    let judge = |now: i64, grace: Duration, pinned: &[u64], written: i64, removed: Option<(u64, i64)>| {
        let vacuum = Vacuum {
            now: at(now),
            grace,
            pinned: pinned.iter().copied().collect(),
            dry_run: true,
        };
        let tombstone = removed.map(|(version, _)| Tombstone { version, at_ms: 0 });
        let removed_at = |_| at(removed.map_or(0, |(_, hours)| hours));
        vacuum.judge(at(written), tombstone, removed_at)
    };
    // Taken out by version 7, five hours after it was written.
    assert_eq!(judge(6, HOUR, &[], 0, Some((7, 5))), Verdict::Remove);
    assert_eq!(judge(6, HOUR * 2, &[], 0, Some((7, 5))), Verdict::Waiting);
    assert_eq!(judge(5, Duration::ZERO, &[], 0, Some((7, 5))), Verdict::Remove);
    assert_eq!(
        judge(99, HOUR, &[7, 8], 0, Some((7, 5))),
        Verdict::Remove,
        "version 7 does not name it"
    );
    assert_eq!(judge(99, HOUR, &[8, 6], 0, Some((7, 5))), Verdict::Pinned);
    // Left behind: never sooner than an hour, whatever the grace is.
    assert_eq!(judge(1, Duration::ZERO, &[3], 0, None), Verdict::Remove);
    assert_eq!(judge(1, Duration::ZERO, &[], 1, None), Verdict::Waiting);
    assert_eq!(judge(1, HOUR * 2, &[], 0, None), Verdict::Waiting);
    assert_eq!(
        judge(0, Duration::ZERO, &[], 1, None),
        Verdict::Waiting,
        "written after the clock was read"
    );
}

async fn merged(store: &Store) -> (MasterDataset, u64) {
    let dataset = MasterDataset::open(store, &clicks(), "the log").await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    let mut version = 0;
    for at in 0..4 {
        version = landed_version(&dataset, &landing(&dataset, 0, at * 5..at * 5 + 5, epoch).await).await;
    }
    let compaction = Compaction {
        min_files: 2,
        target_file_bytes: 1 << 20,
        memory_bytes: 1 << 30,
        compression: parquet::basic::Compression::UNCOMPRESSED,
    };
    dataset.compact(&compaction).await.unwrap().unwrap();
    (dataset, version)
}

#[tokio::test]
async fn merged_files_go_when_nobody_can_read_them() {
    let (store, _folder) = local();
    let (dataset, before) = merged(&store).await;
    let none = Vacuumed::default();
    assert_eq!(
        dataset.vacuum(&vacuum(0, &[])).await.unwrap(),
        Vacuumed { waiting: 4, ..none }
    );
    assert_eq!(
        dataset.vacuum(&vacuum(2, &[before])).await.unwrap(),
        Vacuumed { pinned: 4, ..none }
    );
    let dry = Vacuum {
        dry_run: true,
        ..vacuum(2, &[before + 1])
    };
    let said = dataset.vacuum(&dry).await.unwrap();
    assert_eq!(dataset.data_objects().await.unwrap().len(), 5);
    // Another process, which knows the files only from the log.
    let other = MasterDataset::open_existing(&store, &clicks()).await.unwrap().unwrap();
    let done = other.vacuum(&vacuum(2, &[before + 1])).await.unwrap();
    assert_eq!((done, done.files, done.left_behind), (said, 4, 0));
    assert_eq!(dataset.data_objects().await.unwrap().len(), 1);
    assert_eq!(landed_offsets(&dataset).await.len(), 20);
    assert_eq!(dataset.vacuum(&vacuum(9, &[])).await.unwrap(), none);
    assert_eq!(
        dataset.snapshot(None).await.unwrap().version,
        before + 1,
        "no fence was needed"
    );
}

/// A landing as it was uploaded some time ago.
async fn old_landing(dataset: &MasterDataset, minutes: i64) -> Landing {
    let mut landing = landing(dataset, 0, 20..25, 1).await;
    let made = uuid::Timestamp::from_unix(
        uuid::NoContext,
        (Utc::now() - TimeDelta::minutes(minutes))
            .timestamp()
            .try_into()
            .unwrap(),
        0,
    );
    let path = dataset
        .inner
        .root
        .clone()
        .join("_dead=false")
        .join(format!("{}.parquet", Uuid::new_v7(made)));
    let bytes = dataset.store().read(&landing.files[0].path).await.unwrap().unwrap();
    dataset.store().put(&path, bytes).await.unwrap();
    dataset.store().remove(landing.files[0].path.clone()).await.unwrap();
    landing.files[0] = DataFile {
        path,
        ..landing.files[0].clone()
    };
    landing
}

#[tokio::test]
async fn what_a_crash_left_behind_goes_and_its_landing_cannot_come_back() {
    let store = memory();
    let (dataset, _) = merged(&store).await;
    let late = old_landing(&dataset, 20).await;
    assert_eq!(dataset.vacuum(&vacuum(0, &[])).await.unwrap().waiting, 5);
    let before = dataset.snapshot(None).await.unwrap().version;
    let done = dataset.vacuum(&vacuum(2, &[])).await.unwrap();
    assert_eq!((done.files, done.left_behind), (5, 1));
    assert_eq!(dataset.snapshot(None).await.unwrap().version, before + 1, "the fence");
    // Whoever uploaded it wakes up.
    let error = dataset.land(&late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(matches!(error, crate::Error::StaleUpload { .. }), "{error}");
    assert_eq!(landed_offsets(&dataset).await.len(), 20);
    // Uploaded anew, it lands.
    landed_version(&dataset, &landing(&dataset, 0, 20..25, 1).await).await;
    assert_eq!(landed_offsets(&dataset).await.len(), 25);
}

#[tokio::test]
async fn a_landing_of_a_quarter_of_an_hour_ago_still_lands() {
    let store = memory();
    let (dataset, _) = merged(&store).await;
    let landing = old_landing(&dataset, 14).await;
    landed_version(&dataset, &landing).await;
    assert_eq!(landed_offsets(&dataset).await.len(), 25);
}

/// A landing that was decided before the fence, and whose commit is sent after it.
#[tokio::test]
async fn a_commit_that_was_decided_before_the_fence_is_decided_again() {
    let store = memory();
    let (dataset, _) = merged(&store).await;
    let late = old_landing(&dataset, 20).await;
    // The zombie knows the version before the fence, and does not look again.
    let zombie = MasterDataset::open_existing(&store, &clicks()).await.unwrap().unwrap();
    dataset.vacuum(&vacuum(2, &[])).await.unwrap();
    let next = zombie.with_state(|state| state.version) + 1;
    let taken = store
        .put_if_absent(&super::super::commit_path(&dataset.inner.root, next), "{}".into())
        .await
        .unwrap();
    assert!(!taken, "the version that the zombie would commit is there");
    assert!(zombie.land(&late).await.is_err());
}

#[tokio::test]
async fn other_objects_are_let_alone() {
    let store = memory();
    let (dataset, _) = merged(&store).await;
    let note = dataset.inner.root.clone().join("_dead=false").join("README.txt");
    store.put(&note, "by hand".into()).await.unwrap();
    dataset.vacuum(&vacuum(99, &[])).await.unwrap();
    store.objects().head(&note).await.unwrap();
    assert!(dataset.snapshot(Some(0)).await.is_ok(), "the log is whole");
}

#[tokio::test]
async fn a_table_that_is_not_for_vacuuming_remembers_nothing_that_was_taken_out() {
    let (store, _folder) = local();
    let reader = MasterDataset::open(&store, &clicks(), "the log").await.unwrap();
    let reader = reader.never_vacuuming();
    let (dataset, _) = merged(&store).await;
    let same = (dataset.size().await.unwrap(), reader.size().await.unwrap());
    assert_eq!(same.0, same.1, "what counts is the same");
    assert_eq!((same.0.files, same.0.events, same.0.dead_letters), (1, 20, 0));
    let taken_out = |dataset: &MasterDataset, path: &Path| dataset.with_state(|state| state.tombstone(path).is_some());
    let named = dataset.snapshot(None).await.unwrap().files;
    let objects = dataset.data_objects().await.unwrap();
    let others: Vec<Path> = objects.into_iter().map(|object| object.location).collect();
    let others = others
        .iter()
        .filter(|path| named.iter().all(|file| file.path != **path));
    for path in others {
        assert!(taken_out(&dataset, path) && !taken_out(&reader, path), "{path}");
    }
    let refused = reader.vacuum(&vacuum(2, &[])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert_eq!(dataset.vacuum(&vacuum(2, &[])).await.unwrap().files, 4);
}
