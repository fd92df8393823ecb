use std::time::Instant;

use anabranch_model::{ErrorKind, Offset, PartitionId};
use chrono::TimeDelta;

use super::*;
use crate::master::commit::read_commit;
use crate::master::tests::{epoch_of, landed_offsets, landed_version};
use crate::testing::{clicks, landing, memory};
use crate::{LandOutcome, Store};

fn cleaning(pinned: &[u64]) -> LogCleaning {
    LogCleaning {
        now: Utc::now() + TimeDelta::hours(2),
        keep: Duration::from_secs(3600),
        pinned: pinned.iter().copied().collect(),
        dry_run: false,
    }
}

#[test]
fn the_cutoff_is_an_old_checkpoint_that_nobody_reads_behind() {
    let now = Utc::now();
    let entry = |version: u64, checkpoint: bool, hours: i64| Entry {
        version,
        checkpoint,
        written_at: now - TimeDelta::hours(hours),
        path: Path::from("x"),
    };
    let entries = [
        entry(100, true, 9),
        entry(150, false, 8),
        entry(200, true, 7),
        entry(300, true, 1),
        entry(400, true, 8),
    ];
    let cutoff = |keep_hours: u64, pinned: &[u64], hint: u64| {
        let keep = Duration::from_secs(keep_hours * 3600);
        let (pinned, dry_run) = (pinned.iter().copied().collect(), true);
        LogCleaning {
            now,
            keep,
            pinned,
            dry_run,
        }
        .cutoff(&entries, hint)
    };
    assert_eq!(cutoff(2, &[], 300), Some(200));
    assert_eq!(cutoff(0, &[], 300), Some(300));
    assert_eq!(cutoff(2, &[], 500), Some(400));
    assert_eq!(cutoff(2, &[250, 199], 300), Some(100));
    assert_eq!(cutoff(2, &[99], 300), None);
    assert_eq!(cutoff(10, &[], 300), None);
}

/// Ten rows in ten landings, and a checkpoint of the last version but three.
async fn with_checkpoint(store: &Store) -> (MasterDataset, u64) {
    let dataset = MasterDataset::open(store, &clicks(), "the log").await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    for at in 0..7 {
        landed_version(&dataset, &landing(&dataset, 0, at..at + 1, epoch).await).await;
    }
    let version = dataset.snapshot(None).await.unwrap().version;
    kernel::checkpoint(store, "clicks", &dataset.inner.root, version)
        .await
        .unwrap();
    for at in 7..10 {
        landed_version(&dataset, &landing(&dataset, 0, at..at + 1, epoch).await).await;
    }
    (dataset, version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_before_an_old_checkpoint_go() {
    let store = memory();
    let (dataset, checkpoint) = with_checkpoint(&store).await;
    assert_eq!(dataset.clean_log(&cleaning(&[2])).await.unwrap(), CleanedLog::default());
    let dry = LogCleaning {
        dry_run: true,
        ..cleaning(&[])
    };
    let said = dataset.clean_log(&dry).await.unwrap();
    assert_eq!(dataset.commit_times().await.unwrap().len() as u64, checkpoint + 4);
    let done = dataset.clean_log(&cleaning(&[])).await.unwrap();
    assert_eq!((done, done.commits), (said, checkpoint));
    assert_eq!(dataset.commit_times().await.unwrap().keys().next(), Some(&checkpoint));

    let reopened = MasterDataset::open(&store, &clicks(), "the log").await.unwrap();
    assert_eq!(
        reopened.snapshot(None).await.unwrap(),
        dataset.snapshot(None).await.unwrap()
    );
    assert_eq!(landed_offsets(&reopened).await.len(), 10);
    let then = reopened.snapshot(Some(checkpoint)).await.unwrap();
    assert_eq!(then.next.get(PartitionId(0)), Some(Offset(7)));
    let gone = reopened.snapshot(Some(checkpoint - 1)).await.unwrap_err();
    assert!(matches!(gone.kind(), ErrorKind::NotFound | ErrorKind::Data), "{gone}");
    assert_eq!(dataset.clean_log(&cleaning(&[])).await.unwrap(), CleanedLog::default());
}

#[tokio::test]
async fn without_a_checkpoint_everything_stays() {
    let store = memory();
    let dataset = MasterDataset::open(&store, &clicks(), "the log").await.unwrap();
    epoch_of(&dataset, 0, "a").await;
    assert_eq!(dataset.clean_log(&cleaning(&[])).await.unwrap(), CleanedLog::default());
    assert_eq!(dataset.commit_times().await.unwrap().len(), 2);
}

/// A process that slept while the log was cleaned up.
async fn asleep(store: &Store) -> MasterDataset {
    let sleeper = MasterDataset::open_existing(store, &clicks()).await.unwrap().unwrap();
    let long_ago = Instant::now().checked_sub(Duration::from_secs(7200)).unwrap();
    *sleeper.inner.confirmed.lock().unwrap() = long_ago;
    sleeper
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_slept_through_a_clean_up_reads_the_table_anew() {
    let store = memory();
    let dataset = MasterDataset::open(&store, &clicks(), "the log").await.unwrap();
    let sleeper = asleep(&store).await;
    let (dataset, _) = {
        drop(dataset);
        with_checkpoint(&store).await
    };
    dataset.clean_log(&cleaning(&[])).await.unwrap();
    assert_eq!(
        sleeper.snapshot(None).await.unwrap(),
        dataset.snapshot(None).await.unwrap()
    );
    // One that slept and missed nothing finds that out too.
    let sleeper = asleep(&store).await;
    assert_eq!(
        sleeper.snapshot(None).await.unwrap(),
        dataset.snapshot(None).await.unwrap()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_landing_into_the_cleaned_part_of_the_log_is_void() {
    let store = memory();
    let dataset = MasterDataset::open(&store, &clicks(), "the log").await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    landed_version(&dataset, &landing(&dataset, 0, 0..1, epoch).await).await;
    let sleeper = asleep(&store).await;
    let stale = landing(&sleeper, 0, 1..4, epoch).await;
    // Meanwhile the partition is another's, and goes on.
    let epoch = epoch_of(&dataset, 0, "b").await;
    for at in 1..6 {
        landed_version(&dataset, &landing(&dataset, 0, at..at + 1, epoch).await).await;
    }
    let version = dataset.snapshot(None).await.unwrap().version;
    kernel::checkpoint(&store, "clicks", &dataset.inner.root, version)
        .await
        .unwrap();
    dataset.clean_log(&cleaning(&[])).await.unwrap();
    // Its next version does not exist, so creating it succeeds, where nobody reads it.
    assert!(read_commit(&store, &dataset.inner.root, 3).await.unwrap().is_none());
    assert!(matches!(
        sleeper.land(&stale).await.unwrap(),
        LandOutcome::Refused { .. }
    ));
    assert!(
        read_commit(&store, &dataset.inner.root, 3).await.unwrap().is_none(),
        "the void commit is gone"
    );
    let offsets = landed_offsets(&dataset).await;
    assert_eq!(
        offsets.keys().map(|(_, offset)| *offset).collect::<Vec<_>>(),
        (0..6).collect::<Vec<_>>()
    );
    assert!(offsets.values().all(|times| *times == 1));
}
