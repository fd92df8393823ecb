use std::time::Duration;

use anabranch_model::{Offset, OffsetVector, PartitionId};

use crate::group::Group;
use crate::harness::*;
use crate::publications::publish;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_lands_what_was_consumed() {
    let world = World::never_landing();
    let all = events(0..5_000);
    let through = world.append(&all).await;
    let worker = world.start("a").await;
    worker.reader().await.covering(&OffsetVector::new(), &through).await;
    assert!(world.dataset().await.snapshot(None).await.unwrap().files.is_empty());
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_loses_nothing_and_counts_nothing_twice() {
    let mut world = World::new();
    let all = events(0..30_000);
    let from_start = OffsetVector::new();
    // Landed, then killed with unlanded events in every stage, several times.
    for round in 0..4 {
        let from = round * 7_000;
        let worker = world.start("a").await;
        world.append(&all[from..from + 4_000]).await;
        world.landed().await;
        let through = world.append(&all[from + 4_000..from + 7_000]).await;
        let mut reader = worker.reader().await;
        assert_eq!(
            reader.answers(&from_start, &through).await,
            truth(&all[..from + 7_000]),
            "round {round}"
        );
        worker.kill().await;
    }
    world.settings.speed.view_bolts = 1;
    world.settings.speed.decoders = 1;
    let worker = world.start("b").await;
    let through = world.append(&all[28_000..]).await;
    let mut reader = worker.reader().await;
    assert_eq!(
        reader.answers(&from_start, &through).await,
        truth(&all),
        "with another parallelism"
    );
    let status = worker.status().await;
    assert_eq!(
        status["sources"]["clicks"]["partitions"]["0"]["epoch"], 5,
        "each start takes the partitions over anew"
    );
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

/// Kills and stops at moments that a seed chooses, while events come, landings commit and runs are published.
async fn survives(seed: u64) {
    let mut world = World::new();
    world.settings.landing.max_age = Duration::from_millis(20).into();
    world.settings.speed.micro_batch_records = 300;
    let all = events(0..20_000);
    let mut random = seed;
    let mut next = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let (mut published, mut cut) = (0, OffsetVector::new());
    let feed = async {
        for chunk in all.chunks(500) {
            world.append(chunk).await;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    let chaos = async {
        for round in 0..12 {
            let worker = world.start(&format!("worker-{round}")).await;
            tokio::time::sleep(Duration::from_millis(20 + next(120))).await;
            if next(3) == 0 {
                let snapshot = world.dataset().await.snapshot(None).await.unwrap();
                // Only partitions that were claimed have a place in a cut.
                if snapshot.next.len() == PARTITIONS as usize {
                    publish(&world, published, &snapshot).await;
                    published += 1;
                    cut = snapshot.next;
                }
            }
            if next(4) == 0 {
                worker.stop().await.unwrap();
            } else {
                worker.kill().await;
            }
        }
    };
    tokio::join!(feed, chaos);
    let worker = world.start("last").await;
    let ends = world.log.ends().await.unwrap();
    let mut reader = worker.reader().await;
    let answers = reader.answers(&cut, &ends).await;
    let behind_cut: i64 = ends
        .iter()
        .map(|(p, end)| end.0 - cut.get(p).unwrap_or_default().0)
        .sum();
    assert_eq!(
        answers["total"].first().unwrap()[0],
        behind_cut.to_string(),
        "seed {seed}"
    );
    if published == 0 {
        assert_eq!(answers, truth(&all), "seed {seed}");
    }
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_any_moment_lose_nothing_and_count_nothing_twice() {
    for seed in [1, 2, 3, 4] {
        survives(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_former_owner_of_a_partition_is_refused() {
    let mut world = World::new();
    world.settings.landing.max_age = Duration::from_millis(700).into();
    let group = Group::new(&world.log);
    let all = events(0..9_000);
    let from_start = OffsetVector::new();
    group.assign("zombie", &[0, 1, 2]);
    let zombie = world.start_on("zombie", group.member("zombie")).await.unwrap();
    let through = world.append(&all[..3_000]).await;
    world.landed().await;
    zombie.reader().await.covering(&from_start, &through).await;

    // It does not hear that its partitions have moved.
    group.take_silently("zombie", &[0, 1, 2]);
    group.assign("owner", &[0, 1, 2]);
    let owner = world.start_on("owner", group.member("owner")).await.unwrap();
    owner.reader().await.covering(&from_start, &through).await;
    let through = world.append(&all[3_000..]).await;
    let mut reader = owner.reader().await;
    assert_eq!(reader.answers(&from_start, &through).await, truth(&all));
    eventually("the zombie was refused every partition", async || {
        let status = zombie.status().await;
        let source = &status["sources"]["clicks"];
        let owned = source["partitions"]
            .as_object()
            .unwrap()
            .values()
            .filter(|partition| partition["owned"] == true)
            .count();
        (owned == 0 && source["refused_total"] == u64::from(PARTITIONS)).then_some(())
    })
    .await;
    assert!(
        zombie.reader().await.snapshot(&from_start).await.views["total"]
            .partitions
            .is_empty(),
        "it serves nothing"
    );
    world.landed().await;
    world.assert_each_offset_landed_once().await;
    eventually(
        "the zombie has asked whether they are its own, more than once each",
        async || (group.asked("zombie") > 2 * PARTITIONS as usize).then_some(()),
    )
    .await;
    let epochs = world.dataset().await.snapshot(None).await.unwrap().epochs;
    assert_eq!(
        epochs.values().collect::<Vec<_>>(),
        [&2, &2, &2],
        "it has not taken back what the group gave to another"
    );
    group.tell_lost("zombie", &[0, 1, 2]);
    zombie.stop().await.unwrap();
    owner.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_member_of_the_group_takes_the_partitions_over() {
    let world = World::never_landing();
    let all = events(0..8_000);
    let from_start = OffsetVector::new();
    let first = world.start("first").await;
    let through = world.append(&all[..4_000]).await;
    first.reader().await.covering(&from_start, &through).await;
    // Its unlanded events are read again by the second.
    let second = world.start("second").await;
    let through = world.append(&all[4_000..]).await;
    let mut reader = second.reader().await;
    assert_eq!(reader.answers(&from_start, &through).await, truth(&all));
    eventually("the first has let go", async || {
        let snapshot = first.reader().await.snapshot(&from_start).await;
        snapshot.views["total"].partitions.is_empty().then_some(())
    })
    .await;
    first.stop().await.unwrap();
    second.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_not_the_recorded_one_is_refused() {
    let world = World::new();
    let worker = world.start("a").await;
    world.append(&events(0..100)).await;
    world.landed().await;
    worker.stop().await.unwrap();

    let other = anabranch_log::IngestLog::open(world.folder.path().join("other")).unwrap();
    let other = other
        .topic("clicks", PARTITIONS, anabranch_log::Retention::default())
        .unwrap();
    let error = world.start_on("b", other).await.err().expect("another log is refused");
    assert_eq!(error.kind(), anabranch_model::ErrorKind::Invalid, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_shorter_than_what_was_landed_is_refused() {
    let world = World::new();
    let worker = world.start("a").await;
    world.append(&events(0..1_000)).await;
    world.landed().await;
    worker.stop().await.unwrap();

    // Not a partition that this worker reads: a log that was replaced is not to be trusted in any.
    let group = Group::new(&world.log);
    group.end_at(
        2,
        Offset(world.log.ends().await.unwrap().get(PartitionId(2)).unwrap().0 - 1),
    );
    group.assign("b", &[0]);
    let worker = world.start_on("b", group.member("b")).await.unwrap();
    let error = worker.handle.stopped().await.unwrap_err();
    assert_eq!(error.kind(), anabranch_model::ErrorKind::Invalid);
    assert!(matches!(error, anabranch_speed::Error::LogShorter { .. }), "{error}");
    assert!(error.to_string().contains("created again"), "{error}");
}
