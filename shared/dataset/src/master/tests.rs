use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_model::{ErrorKind, Offset, PartitionId};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;

use super::*;
use crate::read_columns;
use crate::testing::{Fault, Faulty, clicks, landing, local, memory, rows, source, upload};

mod interleaving;
mod simulation;

const LOG: &str = "the log";

fn claim(partition: i32, start: i64) -> Claim {
    Claim {
        partition: PartitionId(partition),
        start: Offset(start),
    }
}

pub(super) async fn epoch_of(dataset: &MasterDataset, partition: i32, owner: &str) -> i64 {
    dataset.claim(&[claim(partition, 0)], owner).await.unwrap()[&PartitionId(partition)].epoch
}

pub(super) async fn landed_version(dataset: &MasterDataset, landing: &Landing) -> u64 {
    match dataset.land(landing).await.unwrap() {
        LandOutcome::Landed { version } => version,
        refused => panic!("{refused:?}"),
    }
}

fn refusals(outcome: LandOutcome) -> BTreeMap<PartitionId, Refusal> {
    match outcome {
        LandOutcome::Refused { partitions } => partitions,
        landed => panic!("{landed:?}"),
    }
}

/// Every `(partition, offset)` in the files of a snapshot, with how often it is there.
pub(super) async fn landed_offsets(dataset: &MasterDataset) -> BTreeMap<(i32, i64), usize> {
    let mut seen = BTreeMap::new();
    for file in dataset.snapshot(None).await.unwrap().files {
        let batches: Vec<_> = read_columns(dataset.store(), &file, &dataset.file_schema())
            .try_collect()
            .await
            .unwrap();
        for batch in batches {
            let partitions = batch
                .column_by_name("_partition")
                .unwrap()
                .as_primitive::<Int32Type>()
                .clone();
            let offsets = batch
                .column_by_name("_offset")
                .unwrap()
                .as_primitive::<Int64Type>()
                .clone();
            for row in 0..batch.num_rows() {
                *seen.entry((partitions.value(row), offsets.value(row))).or_default() += 1;
            }
        }
    }
    seen
}

#[tokio::test]
async fn lands_files_and_offsets_in_one_version() {
    let (store, _folder) = local();
    let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let owned = dataset.claim(&[claim(0, 0), claim(3, 70)], "a").await.unwrap();
    assert_eq!(
        owned[&PartitionId(3)],
        Owned {
            epoch: 1,
            next: Offset(70),
            start: Offset(70)
        }
    );

    let mut both = landing(&dataset, 0, 0..10, 1).await;
    let dead = upload(&dataset, &rows(&dataset, 3, 70..72), true).await;
    both.files.push(dead.clone());
    both.partitions.insert(
        PartitionId(3),
        Advance {
            range: OffsetRange::new(Offset(70), Offset(75)),
            epoch: 1,
        },
    );
    assert_eq!(landed_version(&dataset, &both).await, 2);

    let reopened = MasterDataset::open_existing(&store, &clicks()).await.unwrap().unwrap();
    let snapshot = reopened.snapshot(None).await.unwrap();
    assert_eq!(snapshot, dataset.snapshot(None).await.unwrap());
    assert_eq!(snapshot.version, 2);
    assert_eq!(
        snapshot.next,
        [(PartitionId(0), Offset(10)), (PartitionId(3), Offset(75))]
            .into_iter()
            .collect()
    );
    assert_eq!(
        snapshot.starts,
        [(PartitionId(0), Offset(0)), (PartitionId(3), Offset(70))]
            .into_iter()
            .collect()
    );
    assert_eq!(snapshot.rows(), (10, 2));
    assert_eq!(snapshot.files.iter().find(|file| file.dead), Some(&dead));
    assert!(snapshot.files.is_sorted_by_key(|file| file.path.clone()));
    assert_eq!(snapshot.cut(), reopened.cut().await.unwrap());
}

#[tokio::test]
async fn an_old_version_keeps_its_files_and_offsets() {
    let store = memory();
    let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    let first = landing(&dataset, 0, 0..5, epoch).await;
    let version = landed_version(&dataset, &first).await;
    landed_version(&dataset, &landing(&dataset, 0, 5..9, epoch).await).await;

    let then = dataset.snapshot(Some(version)).await.unwrap();
    assert_eq!((then.version, &then.files), (version, &first.files));
    assert_eq!(then.next.get(PartitionId(0)), Some(Offset(5)));
    // What a batch run with this cut leaves to realtime: files now minus files then.
    let now = dataset.snapshot(None).await.unwrap();
    assert_eq!(now.files.iter().filter(|file| !then.files.contains(file)).count(), 1);

    let missing = dataset.snapshot(Some(version + 2)).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
}

#[tokio::test]
async fn nothing_was_ever_landed() {
    assert!(
        MasterDataset::open_existing(&memory(), &clicks())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_former_owner_is_refused_and_commits_nothing() {
    let store = memory();
    let former = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let later = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let first = epoch_of(&former, 0, "former").await;
    landed_version(&former, &landing(&former, 0, 0..5, first).await).await;

    let owned = later.claim(&[claim(0, 0)], "later").await.unwrap()[&PartitionId(0)];
    assert_eq!(
        owned,
        Owned {
            epoch: first + 1,
            next: Offset(5),
            start: Offset(0)
        }
    );
    // `former` has not read the log since: only the commit itself can tell it.
    let refused = refusals(former.land(&landing(&former, 0, 5..8, first).await).await.unwrap());
    assert_eq!(
        refused[&PartitionId(0)],
        Refusal::Epoch {
            ours: first,
            recorded: owned.epoch
        }
    );
    assert_eq!(
        later.snapshot(None).await.unwrap().next.get(PartitionId(0)),
        Some(Offset(5))
    );
    landed_version(&later, &landing(&later, 0, 5..8, owned.epoch).await).await;
}

#[tokio::test]
async fn a_refused_partition_is_named_and_the_rest_can_land() {
    let dataset = MasterDataset::open(&memory(), &clicks(), LOG).await.unwrap();
    dataset.claim(&[claim(0, 0), claim(1, 0)], "a").await.unwrap();
    let mut both = landing(&dataset, 0, 0..4, 1).await;
    both.partitions.insert(
        PartitionId(1),
        Advance {
            range: OffsetRange::new(Offset(2), Offset(4)),
            epoch: 1,
        },
    );
    let refused = refusals(dataset.land(&both).await.unwrap());
    let gap = Refusal::Next {
        ours: Offset(2),
        recorded: Offset(0),
    };
    assert_eq!(refused, BTreeMap::from([(PartitionId(1), gap)]));
    both.partitions.remove(&PartitionId(1));
    landed_version(&dataset, &both).await;
}

#[tokio::test]
async fn a_partition_that_nobody_claimed_is_refused() {
    let dataset = MasterDataset::open(&memory(), &clicks(), LOG).await.unwrap();
    let refused = refusals(dataset.land(&landing(&dataset, 7, 0..4, 1).await).await.unwrap());
    assert_eq!(refused[&PartitionId(7)], Refusal::Epoch { ours: 1, recorded: 0 });
}

#[tokio::test]
async fn a_landing_that_contradicts_itself_is_refused() {
    let dataset = MasterDataset::open(&memory(), &clicks(), LOG).await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    let mut elsewhere = landing(&dataset, 0, 0..4, epoch).await;
    elsewhere.files[0].path = Path::from("sources/other/x.parquet");
    assert_eq!(dataset.land(&elsewhere).await.unwrap_err().kind(), ErrorKind::Invalid);
    let mut orphaned = landing(&dataset, 0, 0..4, epoch).await;
    orphaned.partitions.clear();
    assert_eq!(dataset.land(&orphaned).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(dataset.snapshot(None).await.unwrap().files.is_empty());
}

#[tokio::test]
async fn offsets_may_advance_without_rows() {
    let dataset = MasterDataset::open(&memory(), &clicks(), LOG).await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    let mut markers = landing(&dataset, 0, 0..3, epoch).await;
    markers.files.clear();
    landed_version(&dataset, &markers).await;
    let snapshot = dataset.snapshot(None).await.unwrap();
    assert_eq!(
        (snapshot.next.get(PartitionId(0)), snapshot.files.len()),
        (Some(Offset(3)), 0)
    );
}

#[tokio::test]
async fn another_identity_is_refused() {
    let store = memory();
    MasterDataset::open(&store, &clicks(), "log 1").await.unwrap();
    MasterDataset::open(&store, &clicks(), "log 1").await.unwrap();
    let error = MasterDataset::open(&store, &clicks(), "log 2").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().contains("`log 1`") && error.to_string().contains("`log 2`"),
        "{error}"
    );
}

#[tokio::test]
async fn racing_openers_make_one_table() {
    let store = memory();
    let opened = futures::future::join_all((0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { MasterDataset::open(&store, &clicks(), LOG).await.unwrap() })
    }))
    .await;
    assert!(
        opened
            .into_iter()
            .all(|dataset| dataset.unwrap().with_state(|state| state.version) == 0)
    );
}

#[tokio::test]
async fn columns_declared_later_are_added_and_null_in_old_files() {
    let store = memory();
    let before = source("page TEXT, place STRUCT<city TEXT>");
    let dataset = MasterDataset::open(&store, &before, LOG).await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    landed_version(&dataset, &landing(&dataset, 0, 0..3, epoch).await).await;

    let after = source("page TEXT, place STRUCT<city TEXT, zip TEXT>, n BIGINT");
    let grown = MasterDataset::open(&store, &after, LOG).await.unwrap();
    // The older process goes on landing with fewer columns.
    landed_version(&dataset, &landing(&dataset, 0, 3..5, epoch).await).await;
    landed_version(&grown, &landing(&grown, 0, 5..6, epoch).await).await;

    let snapshot = grown.snapshot(None).await.unwrap();
    let mut counted = 0;
    for file in &snapshot.files {
        let batches: Vec<_> = read_columns(&store, file, &grown.file_schema())
            .try_collect()
            .await
            .unwrap();
        for batch in batches {
            assert_eq!(batch.schema(), grown.file_schema());
            assert_eq!(batch.column_by_name("n").unwrap().null_count(), batch.num_rows());
            counted += batch.num_rows();
        }
    }
    assert_eq!(counted, 6);
    let version = snapshot.version;
    let again = MasterDataset::open(&store, &after, LOG).await.unwrap();
    assert_eq!(
        again.snapshot(None).await.unwrap().version,
        version,
        "nothing to add, nothing to commit"
    );
    // A definition that dropped a column leaves the table as it is.
    let dropped = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    assert_eq!(dropped.snapshot(None).await.unwrap().version, version);
}

#[tokio::test]
async fn a_column_that_changed_its_type_is_refused() {
    let store = memory();
    MasterDataset::open(&store, &source("page TEXT, n BIGINT"), LOG)
        .await
        .unwrap();
    let error = MasterDataset::open(&store, &source("page TEXT, n TEXT"), LOG)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("column `n`"), "{error}");
}

#[tokio::test]
async fn every_column_type_survives_the_delta_log() {
    let store = memory();
    let all = source(
        "a BOOLEAN, b INT, c BIGINT, d DOUBLE, e DECIMAL(12, 3), f TEXT, g BYTES, h DATE, i TIMESTAMP, j TEXT[], \
         k STRUCT<x BIGINT, y STRUCT<z TEXT[]>>",
    );
    let dataset = MasterDataset::open(&store, &all, LOG).await.unwrap();
    assert_eq!(
        MasterDataset::open(&store, &all, LOG)
            .await
            .unwrap()
            .with_state(|state| state.version),
        0
    );
    let epoch = epoch_of(&dataset, 0, "a").await;
    landed_version(&dataset, &landing(&dataset, 0, 0..3, epoch).await).await;
    assert_eq!(landed_offsets(&dataset).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_column_names_can_be_landed_and_checkpointed() {
    let store = memory();
    let odd = source(r#""user" TEXT, "a.b" BIGINT, "größe" DOUBLE, "x/y%20:@" STRUCT<"in-side" TEXT>"#);
    let dataset = MasterDataset::open(&store, &odd, LOG).await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    landed_version(&dataset, &landing(&dataset, 0, 0..3, epoch).await).await;
    kernel::checkpoint(&store, "clicks", &dataset.inner.root, 2)
        .await
        .unwrap();
    let reopened = MasterDataset::open(&store, &odd, LOG).await.unwrap();
    assert_eq!(landed_offsets(&reopened).await.len(), 3);
    assert_eq!(reopened.snapshot(None).await.unwrap().version, 2);
}

#[tokio::test]
async fn an_unclear_commit_is_found_and_not_repeated() {
    for fault in [Fault::DoneButUnclear, Fault::Repeated, Fault::Lost, Fault::Late] {
        let (faulty, store) = Faulty::store();
        let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
        let epoch = epoch_of(&dataset, 0, "a").await;
        let first = landing(&dataset, 0, 0..5, epoch).await;
        faulty.next_put("_delta_log", fault);
        assert_eq!(landed_version(&dataset, &first).await, 2, "{fault:?}");
        // Handed in again, as a caller does that died before it heard.
        assert_eq!(landed_version(&dataset, &first).await, 2, "{fault:?}");
        landed_version(&dataset, &landing(&dataset, 0, 5..6, epoch).await).await;
        let offsets = landed_offsets(&dataset).await;
        assert_eq!(offsets.len(), 6, "{fault:?}");
        assert!(offsets.values().all(|times| *times == 1), "{fault:?}: {offsets:?}");
        assert_eq!(faulty.outstanding(), 0);
    }
}

#[tokio::test]
async fn an_unclear_claim_is_one_claim() {
    for fault in [Fault::DoneButUnclear, Fault::Repeated, Fault::Lost, Fault::Late] {
        let (faulty, store) = Faulty::store();
        let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
        faulty.next_put("_delta_log", fault);
        assert_eq!(epoch_of(&dataset, 0, "a").await, 1, "{fault:?}");
        assert_eq!(epoch_of(&dataset, 0, "b").await, 2, "{fault:?}");
    }
}

#[tokio::test]
async fn a_store_that_never_answers_is_given_up_on() {
    let (faulty, store) = Faulty::store();
    let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    let landing = landing(&dataset, 0, 0..5, epoch).await;
    (0..100).for_each(|_| faulty.next_put("_delta_log", Fault::Lost));
    let error = dataset.land(&landing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(faulty.outstanding() > 50, "the number of attempts is bounded");
}

#[tokio::test]
async fn a_crash_between_upload_and_commit_leaves_no_trace() {
    let (store, _folder) = local();
    let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    landed_version(&dataset, &landing(&dataset, 0, 0..5, epoch).await).await;
    // Uploaded, never committed.
    let lost = landing(&dataset, 0, 5..9, epoch).await;
    drop(dataset);

    let reopened = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let owned = reopened.claim(&[claim(0, 0)], "a again").await.unwrap()[&PartitionId(0)];
    assert_eq!(owned.next, Offset(5));
    landed_version(&reopened, &landing(&reopened, 0, 5..9, owned.epoch).await).await;
    // The dead process's commit arrives after all.
    assert_eq!(refusals(reopened.land(&lost).await.unwrap()).len(), 1);
    let offsets = landed_offsets(&reopened).await;
    assert_eq!(
        offsets.keys().copied().collect::<Vec<_>>(),
        (0..9).map(|offset| (0, offset)).collect::<Vec<_>>()
    );
    assert!(offsets.values().all(|times| *times == 1));
    assert!(
        store.objects().head(&lost.files[0].path).await.is_ok(),
        "the orphan is still there, outside the table"
    );
}

/// Workers that fight over the same partitions, each with a view of the table of its own.
async fn fight(store: Store) {
    const PARTITIONS: i32 = 3;
    const END: i64 = 40;
    let workers = (0..4).map(|worker| {
        let store = store.clone();
        tokio::spawn(async move {
            let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
            let mut epochs = BTreeSet::new();
            let mut refused = 0;
            loop {
                let claims: Vec<Claim> = (0..PARTITIONS).map(|partition| claim(partition, 0)).collect();
                let mut owned = dataset.claim(&claims, &format!("worker {worker}")).await.unwrap();
                epochs.extend(owned.iter().map(|(partition, owned)| (*partition, owned.epoch)));
                if owned.values().all(|owned| owned.next.0 >= END) {
                    return (epochs, refused);
                }
                // Lands until it is pushed out.
                'own: while !owned.is_empty() {
                    for (partition, Owned { epoch, next, .. }) in owned.clone() {
                        let end = (next.0 + 4).min(END);
                        if next.0 == end {
                            owned.remove(&partition);
                            continue;
                        }
                        let landing = landing(&dataset, partition.0, next.0..end, epoch).await;
                        match dataset.land(&landing).await.unwrap() {
                            LandOutcome::Landed { .. } => owned.get_mut(&partition).unwrap().next = Offset(end),
                            LandOutcome::Refused { .. } => {
                                refused += 1;
                                break 'own;
                            }
                        }
                        tokio::task::yield_now().await;
                    }
                }
            }
        })
    });
    let mut epochs = BTreeSet::new();
    let mut refused = 0;
    for worker in futures::future::join_all(workers).await {
        let (mine, mine_refused) = worker.unwrap();
        refused += mine_refused;
        for epoch in mine {
            assert!(epochs.insert(epoch), "{epoch:?} was given to two workers");
        }
    }
    let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let expected: BTreeMap<_, _> = (0..PARTITIONS)
        .flat_map(|partition| (0..END).map(move |offset| ((partition, offset), 1)))
        .collect();
    assert_eq!(landed_offsets(&dataset).await, expected);
    tracing::info!(refused, claims = epochs.len(), "fought");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_workers_land_each_offset_once_in_memory() {
    fight(memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_workers_land_each_offset_once_on_disk() {
    let (store, _folder) = local();
    fight(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_come_every_hundred_commits_and_carry_everything() {
    let store = memory();
    let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    for start in 0..120 {
        landed_version(&dataset, &landing(&dataset, 0, start..start + 1, epoch).await).await;
    }
    let checkpoint = Path::from(format!("sources/clicks/_delta_log/{:020}.checkpoint.parquet", 100));
    for _ in 0..6_000 {
        if kernel::last_checkpoint(&store, &dataset.inner.root).await.unwrap() == Some(100) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    store.objects().head(&checkpoint).await.unwrap();
    // From here on the first commits are not needed any more.
    for version in 0..=100 {
        store
            .objects()
            .delete(&commit_path(&dataset.inner.root, version))
            .await
            .unwrap();
    }
    let reopened = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    assert_eq!(
        reopened.snapshot(None).await.unwrap(),
        dataset.snapshot(None).await.unwrap()
    );
    assert_eq!(
        reopened.snapshot(Some(110)).await.unwrap().next.get(PartitionId(0)),
        Some(Offset(109))
    );
    let another = MasterDataset::open(&store, &clicks(), "another log").await.unwrap_err();
    assert_eq!(another.kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_a_dead_process_owed_is_written_at_the_next_start() {
    let store = memory();
    let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    for _ in 0..105 {
        epoch_of(&dataset, 0, "a").await;
    }
    let root = &dataset.inner.root;
    while kernel::last_checkpoint(&store, root).await.unwrap().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    store
        .objects()
        .delete(&kernel::log_path(root).join("_last_checkpoint"))
        .await
        .unwrap();
    MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let written = async {
        while kernel::last_checkpoint(&store, root).await.unwrap() != Some(100) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), written)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_reader_catches_up_with_many_commits() {
    let store = memory();
    let writer = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let reader = MasterDataset::open_existing(&store, &clicks()).await.unwrap().unwrap();
    let epoch = epoch_of(&writer, 0, "a").await;
    for start in 0..70 {
        landed_version(&writer, &landing(&writer, 0, start..start + 1, epoch).await).await;
    }
    assert_eq!(
        reader.snapshot(None).await.unwrap(),
        writer.snapshot(None).await.unwrap()
    );
}

#[tokio::test]
async fn a_table_that_another_tool_upgraded_is_refused() {
    let store = memory();
    let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let upgrade = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":[],"writerFeatures":[]}}"#;
    store
        .create(&commit_path(&dataset.inner.root, 1), upgrade.into())
        .await
        .unwrap();
    assert_eq!(dataset.snapshot(None).await.unwrap_err().kind(), ErrorKind::Invalid);
}

/// Landing must not get slower with history. Run by hand: `cargo test -p anabranch-dataset --release -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_thousand_landings() {
    let (store, _folder) = local();
    let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    let mut took = Vec::new();
    for start in 0..1000 {
        let landing = landing(&dataset, 0, start..start + 1, epoch).await;
        let begun = std::time::Instant::now();
        landed_version(&dataset, &landing).await;
        took.push(begun.elapsed());
    }
    let mean = |part: &[std::time::Duration]| part.iter().sum::<std::time::Duration>() / part.len() as u32;
    println!(
        "first 50: {:?}, last 50: {:?}, worst: {:?}",
        mean(&took[..50]),
        mean(&took[950..]),
        took.iter().max()
    );
    let begun = std::time::Instant::now();
    let reopened = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    println!("reopened in {:?}", begun.elapsed());
    assert_eq!(
        reopened.snapshot(None).await.unwrap(),
        dataset.snapshot(None).await.unwrap()
    );
}
