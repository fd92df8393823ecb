//! A log that does not continue what was landed, and partitions that come, go and come back.

use anabranch_dataset::{Claim, MasterDataset};
use anabranch_log::LogEvent;
use anabranch_model::{ErrorKind, Offset, OffsetRange, OffsetVector, PartitionId};

use crate::group::Group;
use crate::harness::*;

const MOVED: PartitionId = PartitionId(1);

/// A world whose events are landed up to some place, beyond which retention has removed 50 events of partition 1; and the
/// events that are left.
async fn with_a_gap(on_gap: &str) -> (World, Group, OffsetRange) {
    let world = World::of(&VIEWS.replace("format = 'json'", &format!("format = 'json', on_gap = '{on_gap}'")));
    let group = Group::new(&world.log);
    group.assign("before", &[0, 1, 2]);
    let worker = world.start_on("before", group.member("before")).await.unwrap();
    world.append(&events(0..3_000)).await;
    let landed = world.landed().await.next.get(MOVED).unwrap();
    worker.stop().await.unwrap();
    world.append(&events(3_000..6_000)).await;
    let lost = OffsetRange::new(landed, Offset(landed.0 + 50));
    group.begin_at(MOVED.0, lost.end);
    (world, group, lost)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_whose_next_events_are_lost_stops_alone_and_names_them() {
    let (world, group, lost) = with_a_gap("stop").await;
    group.assign("after", &[0, 1, 2]);
    let worker = world.start_on("after", group.member("after")).await.unwrap();
    let stopped = eventually("the partition is stopped", async || {
        let status = worker.status().await;
        let stopped = &status["sources"]["clicks"]["partitions"]["1"]["stopped"];
        stopped.is_object().then(|| stopped.clone())
    })
    .await;
    assert_eq!(stopped["lost"], serde_json::json!([lost.start.0, lost.end.0]));
    let error = stopped["error"].as_str().unwrap();
    assert!(error.contains("on_gap = 'record'"), "{error}");

    let ends = world.log.ends().await.unwrap();
    let dataset = world.dataset().await;
    let snapshot = eventually("the others go on", async || {
        let snapshot = dataset.snapshot(None).await.unwrap();
        let landed = |partition| snapshot.next.get(PartitionId(partition)) == ends.get(PartitionId(partition));
        (landed(0) && landed(2)).then_some(snapshot)
    })
    .await;
    assert_eq!(snapshot.next.get(MOVED), Some(lost.start), "nothing is skipped unasked");
    assert!(snapshot.notes.gaps.is_empty());
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_on_gap_record_what_is_lost_is_recorded_and_the_rest_is_read() {
    let (world, group, lost) = with_a_gap("record").await;
    group.assign("after", &[0, 1, 2]);
    let worker = world.start_on("after", group.member("after")).await.unwrap();
    let snapshot = world.landed().await;
    let gaps: Vec<_> = snapshot.notes.gaps[&MOVED].iter().collect();
    assert_eq!(gaps, [lost], "the lost range and nothing else");
    assert_eq!(snapshot.notes.gaps.len(), 1);

    let ends = world.log.ends().await.unwrap();
    let expected: Vec<_> = ends
        .iter()
        .flat_map(|(p, end)| (0..end.0).map(move |offset| (p, Offset(offset))))
        .filter(|(p, offset)| *p != MOVED || !(lost.start..lost.end).contains(offset))
        .map(|(p, offset)| (p.0, offset.0))
        .collect();
    assert_eq!(world.landed_rows().await, expected, "every other offset is landed once");
    let mut reader = worker.reader().await;
    let answers = reader.answers(&OffsetVector::new(), &ends).await;
    assert_eq!(
        answers["total"].first().unwrap()[0],
        (6_000 - lost.len()).to_string(),
        "state reaches over the gap"
    );
    worker.stop().await.unwrap();

    // Recorded once: the next owner finds nothing to record.
    group.assign("again", &[0, 1, 2]);
    let worker = world.start_on("again", group.member("again")).await.unwrap();
    let mut reader = worker.reader().await;
    assert_eq!(reader.answers(&OffsetVector::new(), &ends).await, answers);
    let notes = world.dataset().await.snapshot(None).await.unwrap().notes;
    assert_eq!(notes.gaps, snapshot.notes.gaps);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_added_later_is_read_from_its_beginning() {
    let world = World::of(&VIEWS.replace("format = 'json'", "format = 'json', start = 'latest'"));
    let group = Group::new(&world.log);
    // Before anybody reads: skipped, since the table starts at the latest event.
    let before = world.append(&events(0..1_500)).await;
    group.set_absent(2, true);
    group.assign("a", &[0, 1]);
    let worker = world.start_on("a", group.member("a")).await.unwrap();
    let dataset = eventually("the partitions are claimed", async || {
        let dataset = MasterDataset::open_existing(&world.store, &world.catalog.sources["clicks"])
            .await
            .unwrap()?;
        (dataset.snapshot(None).await.unwrap().epochs.len() == 2).then_some(dataset)
    })
    .await;

    group.set_absent(2, false);
    group.assign("a", &[2]);
    let ends = world.append(&events(1_500..4_500)).await;
    let snapshot = world.landed().await;
    assert_eq!(
        snapshot.starts,
        OffsetVector::from_iter([
            (PartitionId(0), before.get(PartitionId(0)).unwrap()),
            (PartitionId(1), before.get(PartitionId(1)).unwrap()),
            (PartitionId(2), Offset(0)),
        ]),
        "what was there at the first use starts at its end, what came since at its beginning"
    );
    let rows = ends.iter().map(|(_, end)| end.0).sum::<i64>() - snapshot.starts.iter().map(|(_, at)| at.0).sum::<i64>();
    assert_eq!(world.landed_rows().await.len() as i64, rows);
    let mut reader = worker.reader().await;
    let answers = reader.answers(&snapshot.starts, &ends).await;
    assert_eq!(answers["total"].first().unwrap()[0], rows.to_string());
    assert_eq!(dataset.snapshot(None).await.unwrap().next, ends);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_displaced_by_a_former_one_takes_its_partitions_back() {
    let mut world = World::new();
    world.settings.landing.max_age = std::time::Duration::from_millis(100).into();
    let group = Group::new(&world.log);
    group.assign("owner", &[0, 1, 2]);
    let worker = world.start_on("owner", group.member("owner")).await.unwrap();
    let all = events(0..6_000);
    let through = world.append(&all[..3_000]).await;
    world.landed().await;
    let mut reader = worker.reader().await;
    reader.covering(&OffsetVector::new(), &through).await;

    // A worker that slept through its loss of a partition claims it when it wakes up, and dies.
    let claim = Claim {
        partition: MOVED,
        start: Offset(0),
    };
    world.dataset().await.claim(&[claim], "zombie").await.unwrap();
    let through = world.append(&all[3_000..]).await;
    world.landed().await;
    assert_eq!(reader.answers(&OffsetVector::new(), &through).await, truth(&all));
    let status = worker.status().await;
    let source = &status["sources"]["clicks"];
    assert_eq!(source["refused_total"], 1, "{status}");
    assert!(group.asked("owner") >= 1, "not without asking the group");
    let epochs = world.dataset().await.snapshot(None).await.unwrap().epochs;
    assert_eq!(
        epochs.values().collect::<Vec<_>>(),
        [&1, &3, &1],
        "only what was taken is claimed again"
    );
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_created_again_while_it_is_read_is_refused_with_what_to_do() {
    let world = World::new();
    let group = Group::new(&world.log);
    group.assign("a", &[0, 1, 2]);
    let worker = world.start_on("a", group.member("a")).await.unwrap();
    world.append(&events(0..1_000)).await;
    let landed = world.landed().await;
    // A broker's answer after the topic was deleted and created again, with three events so far.
    group.end_at(MOVED.0, Offset(3));
    group.tell(
        "a",
        LogEvent::OutOfRange {
            partition: MOVED,
            wanted: landed.next.get(MOVED).unwrap(),
            first: Offset(0),
            next: Offset(3),
        },
    );
    let error = worker.handle.stopped().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("deleted and created again"), "{error}");
    assert!(error.to_string().contains("another table name"), "{error}");
    world.assert_each_offset_landed_once().await;
}
