//! A partition that is asked back in good order: drained, landed, and only then released.

use std::collections::BTreeMap;

use anabranch_dataset::{Advance, Landing};
use anabranch_log::LogEvent;
use anabranch_model::{Offset, OffsetRange, OffsetVector, PartitionId};

use crate::group::Group;
use crate::harness::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_partition_is_landed_before_it_is_released() {
    let world = World::never_landing();
    let group = Group::new(&world.log);
    group.assign("a", &[0, 1, 2]);
    let worker = world.start_on("a", group.member("a")).await.unwrap();
    let mut reader = worker.reader().await;
    let from_start = OffsetVector::new();
    let all = events(0..6_000);
    let through = world.append(&all[..3_000]).await;
    reader.covering(&from_start, &through).await;

    let moving = PartitionId(1);
    group.revoke("a", &[1]);
    eventually("the partition is released", async || {
        (group.released("a") == [moving]).then_some(())
    })
    .await;
    let snapshot = world.dataset().await.snapshot(None).await.unwrap();
    assert_eq!(
        snapshot.next.get(moving),
        through.get(moving),
        "what it had consumed is landed"
    );
    let held = reader.snapshot(&from_start).await;
    assert!(
        !held.views["total"].partitions.contains_key(&moving),
        "it serves the partition no longer"
    );

    let through = world.append(&all[3_000..]).await;
    group.assign("a", &[1]);
    assert_eq!(
        reader.answers(&from_start, &through).await,
        truth(&all),
        "back again, from where it was landed"
    );
    let status = worker.status().await;
    let partitions = &status["sources"]["clicks"]["partitions"];
    assert_eq!(
        (&partitions["1"]["epoch"], &partitions["0"]["epoch"]),
        (&2.into(), &1.into())
    );
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_landing_that_does_not_fit_discards_the_partitions_state_and_resumes_at_what_is_recorded() {
    let world = World::never_landing();
    let worker = world.start("a").await;
    let mut reader = worker.reader().await;
    let all = events(0..3_000);
    let through = world.append(&all).await;
    reader.covering(&OffsetVector::new(), &through).await;

    // Somebody recorded ten more offsets under this worker's epoch, as an unclear commit of its own could have.
    let range = OffsetRange::new(Offset(0), Offset(10));
    let landing = Landing {
        commit_id: uuid::Uuid::new_v4(),
        files: Vec::new(),
        partitions: BTreeMap::from([(PartitionId(0), Advance { range, epoch: 1 })]),
    };
    world.dataset().await.land(&landing).await.unwrap();
    worker.stop().await.unwrap();
    let recorded = world.dataset().await.snapshot(None).await.unwrap();
    assert_eq!(
        recorded.next.get(PartitionId(0)),
        Some(Offset(10)),
        "its landing of partition 0 was refused"
    );
    assert_eq!(
        recorded.next.get(PartitionId(1)),
        through.get(PartitionId(1)),
        "the rest was landed"
    );

    // The same while it runs on: the partition is read again from there.
    let mut world = world;
    world.settings.landing.max_age = std::time::Duration::from_millis(100).into();
    let worker = world.start("b").await;
    world.landed().await;
    let range = OffsetRange::new(
        through.get(PartitionId(0)).unwrap(),
        Offset(through.get(PartitionId(0)).unwrap().0 + 5),
    );
    let landing = Landing {
        commit_id: uuid::Uuid::new_v4(),
        files: Vec::new(),
        partitions: BTreeMap::from([(PartitionId(0), Advance { range, epoch: 2 })]),
    };
    world.dataset().await.land(&landing).await.unwrap();
    world.append(&events(3_000..6_000)).await;
    world.landed().await;
    let status = worker.status().await;
    let source = &status["sources"]["clicks"];
    assert_eq!(
        (&source["refused_total"], &source["partitions"]["0"]["owned"]),
        (&1.into(), &true.into())
    );
    let missing =
        |landed: &(i32, i64)| landed.0 == 0 && (landed.1 < 10 || (range.start.0..range.end.0).contains(&landed.1));
    let rows = world.landed_rows().await;
    assert!(
        !rows.iter().any(missing),
        "what was recorded as landed is not landed again"
    );
    let ends = world.log.ends().await.unwrap();
    assert_eq!(rows.len() as i64, ends.iter().map(|(_, end)| end.0).sum::<i64>() - 15);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_without_records_advances_without_files() {
    let world = World::new();
    let group = Group::new(&world.log);
    group.assign("a", &[0, 1, 2]);
    let worker = world.start_on("a", group.member("a")).await.unwrap();
    let all = events(0..300);
    let through = world.append(&all).await;
    let before = world.landed().await;
    // Transaction markers, as a Kafka partition has them: positions without records.
    let partition = PartitionId(0);
    let start = through.get(partition).unwrap();
    let range = OffsetRange::new(start, Offset(start.0 + 7));
    let markers = anabranch_model::RawBatchBuilder::new().finish(partition, range);
    group.tell("a", LogEvent::Batch(markers));
    let dataset = world.dataset().await;
    let after = eventually("the markers are landed", async || {
        let snapshot = dataset.snapshot(None).await.unwrap();
        (snapshot.next.get(partition) == Some(range.end)).then_some(snapshot)
    })
    .await;
    assert_eq!(after.files, before.files);
    let mut through = through;
    through.set(partition, range.end);
    let mut reader = worker.reader().await;
    assert_eq!(reader.answers(&OffsetVector::new(), &through).await, truth(&all));
    worker.stop().await.unwrap();
}
