use anabranch_model::{ErrorKind, Offset};

use super::*;
use crate::testing::{Fault, Faulty, clicks, landing, memory, source};
use crate::{Claim, Refusal};

const LOG: &str = "the log";

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end))
}

async fn owned(dataset: &MasterDataset, partition: i32) -> i64 {
    let claim = Claim {
        partition: PartitionId(partition),
        start: Offset(0),
    };
    dataset.claim(&[claim], "a").await.unwrap()[&PartitionId(partition)].epoch
}

#[tokio::test]
async fn an_exclusion_is_named_by_the_version_that_recorded_it_and_can_be_undone() {
    let store = memory();
    let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let before = dataset.snapshot(None).await.unwrap();
    let first = dataset
        .exclude(PartitionId(0), range(5, 9), "a bad release", "ada")
        .await
        .unwrap();
    let second = dataset
        .exclude(PartitionId(1), range(0, 2), "a test", "bob")
        .await
        .unwrap();
    assert_eq!((first.id, second.id), (before.version + 1, before.version + 2));

    // Another process, through the kernel, reads the same; so does a reader of the version in between.
    let other = MasterDataset::open_existing(&store, &clicks()).await.unwrap().unwrap();
    assert_eq!(other.notes().await.unwrap().exclusions, [first.clone(), second.clone()]);
    let between = other.snapshot(Some(first.id)).await.unwrap();
    assert_eq!(between.notes.exclusions, std::slice::from_ref(&first));

    assert_eq!(other.include(first.id, "ada").await.unwrap(), first);
    let snapshot = dataset.snapshot(None).await.unwrap();
    assert_eq!(snapshot.notes.exclusions, [second]);
    assert_eq!(snapshot.files, before.files);
    let again = dataset.include(first.id, "ada").await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound, "{again}");
}

#[tokio::test]
async fn unchanged_notes_stay_the_same_object() {
    let dataset = MasterDataset::open(&memory(), &clicks(), LOG).await.unwrap();
    dataset.exclude(PartitionId(0), range(5, 9), "r", "b").await.unwrap();
    let notes = dataset.known_notes();
    let epoch = owned(&dataset, 0).await;
    dataset.land(&landing(&dataset, 0, 0..3, epoch).await).await.unwrap();
    assert!(Arc::ptr_eq(&notes, &dataset.notes().await.unwrap()));
}

#[tokio::test]
async fn notes_survive_a_column_that_is_added() {
    let store = memory();
    let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    dataset.exclude(PartitionId(0), range(5, 9), "r", "b").await.unwrap();
    let grown = MasterDataset::open(&store, &source("page TEXT, n BIGINT, more TEXT"), LOG)
        .await
        .unwrap();
    assert_eq!(grown.known_notes(), dataset.known_notes());
    assert!(!grown.known_notes().is_empty());
}

#[tokio::test]
async fn what_names_no_events_is_refused() {
    let dataset = MasterDataset::open(&memory(), &clicks(), LOG).await.unwrap();
    for (partition, offsets) in [(0, range(5, 5)), (0, range(-1, 4)), (-1, range(0, 4))] {
        let error = dataset
            .exclude(PartitionId(partition), offsets, "r", "b")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    assert_eq!(dataset.snapshot(None).await.unwrap().version, 0);
}

#[tokio::test]
async fn an_unclear_answer_excludes_and_includes_once() {
    for fault in [Fault::Lost, Fault::DoneButUnclear, Fault::Repeated, Fault::Late] {
        let (faulty, store) = Faulty::store();
        let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
        faulty.next_put("_delta_log", fault);
        let exclusion = dataset.exclude(PartitionId(0), range(5, 9), "r", "b").await.unwrap();
        let recorded = dataset.snapshot(None).await.unwrap();
        assert_eq!(
            (recorded.version, &recorded.notes.exclusions[..]),
            (exclusion.id, &[exclusion.clone()][..])
        );

        faulty.next_put("_delta_log", fault);
        assert_eq!(
            dataset.include(exclusion.id, "b").await.unwrap(),
            exclusion,
            "{fault:?}"
        );
        assert_eq!(dataset.snapshot(None).await.unwrap().version, 2, "{fault:?}");
        assert!(dataset.known_notes().is_empty());
        assert_eq!(faulty.outstanding(), 0);
    }
}

#[tokio::test]
async fn a_gap_moves_the_next_offset_under_the_checks_of_a_landing() {
    let dataset = MasterDataset::open(&memory(), &clicks(), LOG).await.unwrap();
    let epoch = owned(&dataset, 0).await;
    dataset.land(&landing(&dataset, 0, 0..3, epoch).await).await.unwrap();

    let elsewhere = dataset.record_gap(PartitionId(0), range(4, 9), epoch).await.unwrap();
    let refusal = Refusal::Next {
        ours: Offset(4),
        recorded: Offset(3),
    };
    assert_eq!(
        elsewhere,
        LandOutcome::Refused {
            partitions: [(PartitionId(0), refusal)].into()
        }
    );
    let zombie = dataset
        .record_gap(PartitionId(0), range(3, 9), epoch - 1)
        .await
        .unwrap();
    assert!(matches!(zombie, LandOutcome::Refused { .. }), "{zombie:?}");

    let recorded = dataset.record_gap(PartitionId(0), range(3, 9), epoch).await.unwrap();
    assert_eq!(recorded, LandOutcome::Landed { version: 3 });
    let snapshot = dataset.snapshot(None).await.unwrap();
    assert_eq!(snapshot.next.get(PartitionId(0)), Some(Offset(9)));
    assert_eq!(
        snapshot.notes.gaps,
        [(PartitionId(0), [range(3, 9)].into_iter().collect())].into()
    );
    dataset.land(&landing(&dataset, 0, 9..11, epoch).await).await.unwrap();
    assert_eq!(dataset.cut().await.unwrap().next.get(PartitionId(0)), Some(Offset(11)));
}

#[tokio::test]
async fn since_never_moves_back() {
    let dataset = MasterDataset::open(&memory(), &clicks(), LOG).await.unwrap();
    let since = |offset| [(PartitionId(0), Offset(offset))].into_iter().collect::<OffsetVector>();
    assert_eq!(dataset.advance_since(&since(7)).await.unwrap().since, since(7));
    assert_eq!(dataset.advance_since(&since(4)).await.unwrap().since, since(7));
    let snapshot = dataset.snapshot(None).await.unwrap();
    assert_eq!((snapshot.version, snapshot.notes.since.clone()), (1, since(7)));
}

#[test]
fn a_property_that_cannot_be_read_is_named() {
    let configuration = BTreeMap::from([(EXCLUSIONS.to_owned(), "[{}]".to_owned())]);
    let reason = Notes::read(&configuration).unwrap_err();
    assert!(reason.contains(EXCLUSIONS), "{reason}");
}
