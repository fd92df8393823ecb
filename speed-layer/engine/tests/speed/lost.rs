//! Partitions that the group has taken away while nobody else has them: they are served as far as they were read, and read on
//! when they come back.

use std::time::Duration;

use anabranch_dataset::Claim;
use anabranch_model::realtime::{Piece, SnapshotReply};
use anabranch_model::{Offset, OffsetRange, OffsetVector, PartitionId};
use serde_json::{Value, json};

use crate::group::Group;
use crate::harness::*;
use crate::publications::publish;

const ALL: [i32; PARTITIONS as usize] = [0, 1, 2];

/// A worker that has all partitions and has read what there is.
struct Reading {
    group: Group,
    worker: Worker,
    reader: Reader,
    through: OffsetVector,
}

impl Reading {
    async fn start(world: &World, name: &str, events: &[Event]) -> Self {
        let group = Group::new(&world.log);
        group.assign(name, &ALL);
        let worker = world.start_on(name, group.member(name)).await.unwrap();
        let mut reader = worker.reader().await;
        let through = world.append(events).await;
        reader.covering(&OffsetVector::new(), &through).await;
        Self {
            group,
            worker,
            reader,
            through,
        }
    }
}

/// A world that lands soon.
fn landing_soon() -> World {
    let mut world = World::new();
    world.settings.landing.max_age = Duration::from_millis(500).into();
    world
}

async fn source(worker: &Worker) -> Value {
    worker.status().await["sources"]["clicks"].clone()
}

/// The worker says that it serves these partitions without reading them, and no others.
async fn says_lost(worker: &Worker, partitions: &[i32]) {
    eventually(&format!("the worker says that {partitions:?} are lost"), async || {
        let source = source(worker).await;
        let lost = |partition: &i32| {
            let told = &source["partitions"][partition.to_string()];
            told["lost_since"].is_string() && told["owned"] == false
        };
        let lost: Vec<i32> = ALL.into_iter().filter(lost).collect();
        (lost == partitions).then_some(())
    })
    .await;
}

/// Every view has state of exactly these ranges, under the first epoch.
fn assert_held(snapshot: &SnapshotReply, through: &OffsetVector) {
    assert!(!snapshot.views.is_empty());
    for (view, pieces) in &snapshot.views {
        for (partition, end) in through.iter() {
            let range = OffsetRange::new(Offset(0), end);
            let held = Piece::Ready { epoch: 1, range };
            assert_eq!(pieces.partitions.get(&partition), Some(&held), "{view}/{partition}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_partition_stays_served_and_is_read_on_when_it_comes_back() {
    // What was read is still to be landed when the partitions come back.
    let world = World::never_landing();
    let (all, from_start) = (events(0..9_000), OffsetVector::new());
    let Reading {
        group,
        worker,
        mut reader,
        mut through,
    } = Reading::start(&world, "a", &all[..3_000]).await;
    let rebuilds = source(&worker).await["rebuilds"].clone();

    // Twice, for what happens once may happen again.
    for (before, after) in [(3_000, 6_000), (6_000, 9_000)] {
        group.tell_lost("a", &ALL);
        says_lost(&worker, &ALL).await;
        let held = through.clone();
        through = world.append(&all[before..after]).await;
        let snapshot = reader.snapshot(&from_start).await;
        assert_held(&snapshot, &held);
        assert_eq!(reader.answers_of(&snapshot).await, truth(&all[..before]));

        group.assign("a", &ALL);
        assert_eq!(reader.answers(&from_start, &through).await, truth(&all[..after]));
        says_lost(&worker, &[]).await;
    }
    assert_eq!(
        source(&worker).await["rebuilds"],
        rebuilds,
        "nothing had to be folded again"
    );
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
    let epochs = world.dataset().await.snapshot(None).await.unwrap().epochs;
    assert_eq!(
        epochs.into_values().collect::<Vec<_>>(),
        [1, 1, 1],
        "nobody had to claim"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_of_a_lost_partition_is_landed_and_follows_publications() {
    let world = landing_soon();
    let (all, from_start) = (events(0..6_000), OffsetVector::new());
    let Reading {
        group,
        worker,
        mut reader,
        ..
    } = Reading::start(&world, "a", &all[..3_000]).await;
    group.tell_lost("a", &ALL);
    says_lost(&worker, &ALL).await;

    let landed = world.landed().await;
    publish(&world, 0, &landed).await;
    let cut = landed.next.clone();
    reader.covering(&cut, &cut).await;
    eventually("what the publication holds is dropped", async || {
        let snapshot = reader.snapshot(&from_start).await;
        let mut pieces = snapshot.views.values().flat_map(|view| view.partitions.values());
        pieces
            .all(|piece| matches!(piece, Piece::CutTooOld { .. }))
            .then_some(())
    })
    .await;

    let through = world.append(&all[3_000..]).await;
    group.assign("a", &ALL);
    assert_eq!(reader.answers(&cut, &through).await, truth(&all[3_000..]));
    world.landed().await;
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_of_a_lost_partition_goes_when_somebody_else_has_claimed_it() {
    let world = World::never_landing();
    let (all, from_start) = (events(0..6_000), OffsetVector::new());
    let Reading {
        group,
        worker,
        mut reader,
        through: held,
    } = Reading::start(&world, "a", &all[..3_000]).await;
    group.tell_lost("a", &ALL);
    says_lost(&worker, &ALL).await;

    let claimed = PartitionId(1);
    let claim = Claim {
        partition: claimed,
        start: Offset(0),
    };
    world.dataset().await.claim(&[claim], "another").await.unwrap();
    says_lost(&worker, &[0, 2]).await;
    let snapshot = reader.snapshot(&from_start).await;
    assert!(
        snapshot
            .views
            .values()
            .all(|view| !view.partitions.contains_key(&claimed)),
        "{snapshot:?}"
    );
    let others = held.iter().filter(|(partition, _)| *partition != claimed).collect();
    assert_held(&snapshot, &others);

    // The other one is never heard of again. What is held of the rest is read on; this is claimed, and read anew.
    let through = world.append(&all[3_000..]).await;
    group.assign("a", &ALL);
    assert_eq!(reader.answers(&from_start, &through).await, truth(&all));
    assert_eq!(source(&worker).await["partitions"]["1"]["epoch"], json!(3));
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
    let epochs = world.dataset().await.snapshot(None).await.unwrap().epochs;
    assert_eq!(epochs.into_values().collect::<Vec<_>>(), [1, 3, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_partition_that_another_worker_takes_over_is_answered_for_by_that_one() {
    let world = landing_soon();
    let (all, from_start) = (events(0..6_000), OffsetVector::new());
    let Reading {
        group, worker: former, ..
    } = Reading::start(&world, "former", &all[..3_000]).await;
    group.tell_lost("former", &ALL);
    says_lost(&former, &ALL).await;

    group.assign("next", &ALL);
    let next = world.start_on("next", group.member("next")).await.unwrap();
    let through = world.append(&all[3_000..]).await;
    let mut reader = next.reader().await;
    let snapshot = reader.covering(&from_start, &through).await;
    assert_eq!(reader.answers_of(&snapshot).await, truth(&all));
    let mut pieces = snapshot.views.values().flat_map(|view| view.partitions.values());
    assert!(
        pieces.all(|piece| piece.epoch() == 2),
        "readers take the highest epoch: {snapshot:?}"
    );
    eventually("the former owner has let go", async || {
        let snapshot = former.reader().await.snapshot(&from_start).await;
        let mut views = snapshot.views.values();
        views.all(|view| view.partitions.is_empty()).then_some(())
    })
    .await;
    world.landed().await;
    former.stop().await.unwrap();
    next.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_partition_of_which_retention_has_removed_the_rest_is_stopped_when_it_comes_back() {
    let world = landing_soon();
    let all = events(0..6_000);
    let Reading {
        group,
        worker,
        through: held,
        ..
    } = Reading::start(&world, "a", &all[..3_000]).await;
    group.tell_lost("a", &ALL);
    says_lost(&worker, &ALL).await;

    let (gone, next) = (PartitionId(2), held.get(PartitionId(2)).unwrap());
    world.append(&all[3_000..]).await;
    group.begin_at(gone.0, Offset(next.0 + 50));
    group.assign("a", &ALL);
    let stopped = eventually("it is stopped", async || {
        let stopped = source(&worker).await["partitions"][gone.to_string()]["stopped"].clone();
        stopped.is_object().then_some(stopped)
    })
    .await;
    assert_eq!(stopped["lost"], json!([next.0, next.0 + 50]));
    worker.stop().await.unwrap();
}
