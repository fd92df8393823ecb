use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_dataset::{BatchView, Manifest, Publication, Publications, Snapshot};
use anabranch_model::OffsetVector;
use anabranch_model::realtime::Piece;

use crate::harness::*;

/// Publishes a run over `snapshot`, as the batch layer would; its files are of no interest here.
pub async fn publish(world: &World, based_on: u64, snapshot: &Snapshot) -> Publication {
    let view = |view: &anabranch_view::View| {
        let batch_view = BatchView {
            hash: view.hash().clone(),
            source: "clicks".into(),
            files: vec![],
            groups: 0,
            rows: 0,
        };
        (view.name().to_owned(), batch_view)
    };
    let manifest = Manifest {
        run_id: format!("run-{based_on}"),
        started_at: "2024-05-01T00:00:00Z".into(),
        finished_at: "2024-05-01T00:00:01Z".into(),
        cuts: BTreeMap::from([("clicks".to_owned(), snapshot.cut())]),
        views: world.views.iter().map(view).collect(),
        notes: Default::default(),
        mode: Default::default(),
        base: None,
        chain: 0,
    };
    Publications::new(&world.store)
        .publish(based_on, manifest)
        .await
        .unwrap()
}

/// The lease of a serving process that answers from this publication.
fn serving(publication: u64) -> anabranch_dataset::Lease {
    anabranch_dataset::Lease {
        kind: "serve".into(),
        id: "s".into(),
        address: "http://nowhere".into(),
        facts: serde_json::json!({"publication": publication}),
        ttl: Duration::from_secs(600),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_before_a_published_cut_is_dropped_and_the_rest_is_served_from_there() {
    let world = World::new();
    let all = events(0..6_000);
    // As long as somebody has not moved on, however slow the machine is.
    let leases = anabranch_dataset::Leases::new(&world.store);
    leases.renew(&serving(0)).await.unwrap();
    let worker = world.start("a").await;
    world.append(&all[..4_000]).await;
    let snapshot = world.landed().await;
    let through = world.append(&all[4_000..]).await;
    publish(&world, 0, &snapshot).await;

    let mut reader = worker.reader().await;
    let cut = snapshot.next.clone();
    assert_eq!(
        reader.answers(&cut, &through).await,
        truth(&all[4_000..]),
        "both cuts are served for now"
    );
    assert_eq!(reader.answers(&OffsetVector::new(), &through).await, truth(&all));
    leases.renew(&serving(1)).await.unwrap();
    eventually("the replaced state is dropped", async || {
        let snapshot = reader.snapshot(&OffsetVector::new()).await;
        let pieces: Vec<_> = snapshot
            .views
            .values()
            .flat_map(|view| view.partitions.values())
            .collect();
        pieces
            .iter()
            .all(|piece| matches!(piece, Piece::CutTooOld { .. }))
            .then_some(())
    })
    .await;
    assert_eq!(reader.answers(&cut, &through).await, truth(&all[4_000..]));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_worker_folds_only_what_lies_behind_the_cut() {
    let world = World::new();
    let all = events(0..6_000);
    let worker = world.start("a").await;
    world.append(&all[..3_000]).await;
    let snapshot = world.landed().await;
    publish(&world, 0, &snapshot).await;
    world.append(&all[3_000..5_000]).await;
    world.landed().await;
    worker.kill().await;
    let through = world.append(&all[5_000..]).await;
    let worker = world.start("b").await;
    let mut reader = worker.reader().await;
    assert_eq!(reader.answers(&snapshot.next, &through).await, truth(&all[3_000..]));
    let pieces = reader.snapshot(&OffsetVector::new()).await;
    assert!(matches!(
        pieces.views["total"].partitions.values().next(),
        Some(Piece::CutTooOld { .. })
    ));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_inside_merged_state_is_rebuilt_from_landed_rows() {
    let world = World::new();
    let all = events(0..6_000);
    let worker = world.start("a").await;
    world.append(&all[..2_000]).await;
    let early = world.landed().await;
    world.append(&all[2_000..5_000]).await;
    world.landed().await;
    worker.stop().await.unwrap();
    // Rebuilt as one run from the start: the early cut lies inside it.
    let worker = world.start("b").await;
    let through = world.append(&all[5_000..]).await;
    let mut reader = worker.reader().await;
    assert_eq!(reader.answers(&OffsetVector::new(), &through).await, truth(&all));
    publish(&world, 0, &early).await;
    assert_eq!(reader.answers(&early.next, &through).await, truth(&all[2_000..]));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_rollback_state_is_rebuilt_from_the_lower_cut() {
    let world = World::new();
    let all = events(0..6_000);
    let worker = world.start("a").await;
    world.append(&all[..2_000]).await;
    let early = world.landed().await;
    publish(&world, 0, &early).await;
    world.append(&all[2_000..5_000]).await;
    let late = world.landed().await;
    publish(&world, 1, &late).await;
    let through = world.append(&all[5_000..]).await;
    let mut reader = worker.reader().await;
    eventually("state before the later cut is dropped", async || {
        let pieces = reader.snapshot(&early.next).await;
        let total = &pieces.views["total"].partitions;
        total
            .values()
            .all(|piece| matches!(piece, Piece::CutTooOld { .. }))
            .then_some(())
    })
    .await;
    Publications::new(&world.store).roll_back(2, 1).await.unwrap();
    assert_eq!(reader.answers(&early.next, &through).await, truth(&all[2_000..]));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_twice_its_state_budget_a_worker_pauses_until_a_publication_relieves_it() {
    let mut world = World::new();
    world.settings.speed.state_budget = anabranch_runtime::ByteSize(2_000);
    let all = events(0..3_000);
    world.append(&all).await;
    let worker = world.start("a").await;
    // With everything landed that it has read.
    let landed = |status: &serde_json::Value| {
        let partitions = status["sources"]["clicks"]["partitions"].as_object().unwrap();
        let landed = partitions.values().all(|p| p["next_landed"] == p["next_consumed"]);
        status["landing_bytes"] == 0 && landed
    };
    let feed = async || drop(world.append(&all).await);
    world.paused_for_good(&worker, landed, feed).await;
    let snapshot = world.dataset().await.snapshot(None).await.unwrap();
    let through = world.log.ends().await.unwrap();
    publish(&world, 0, &snapshot).await;
    let mut reader = worker.reader().await;
    let answers = reader.answers(&snapshot.next, &through).await;
    let rest = through
        .iter()
        .map(|(partition, end)| end.0 - snapshot.next.get(partition).unwrap().0);
    assert_eq!(answers["total"].first().unwrap()[0], rest.sum::<i64>().to_string());
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_pins_an_old_publication_keeps_its_state() {
    let world = World::new();
    let all = events(0..4_000);
    let leases = anabranch_dataset::Leases::new(&world.store);
    leases.renew(&serving(0)).await.unwrap();
    let worker = world.start("a").await;
    world.append(&all[..2_000]).await;
    let snapshot = world.landed().await;
    publish(&world, 0, &snapshot).await;
    let through = world.append(&all[2_000..]).await;
    let mut reader = worker.reader().await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(
        reader.answers(&OffsetVector::new(), &through).await,
        truth(&all),
        "longer than the grace"
    );
    leases.renew(&serving(1)).await.unwrap();
    eventually("the state is dropped once the reader has moved on", async || {
        let pieces = reader.snapshot(&OffsetVector::new()).await;
        let total = &pieces.views["total"].partitions;
        total
            .values()
            .all(|piece| matches!(piece, Piece::CutTooOld { .. }))
            .then_some(())
    })
    .await;
    worker.stop().await.unwrap();
}
