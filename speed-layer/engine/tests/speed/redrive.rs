//! Dead letters that are produced again: each once, whoever is killed meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anabranch_dataset::{Letters, RedriveDone, RedriveLog, Store, WhichLetters, dead_letters};
use anabranch_model::{OffsetVector, RawRecord};
use futures::TryStreamExt;

use crate::harness::*;
use crate::outage::Flaky;

/// What was good enough only after the column had become nullable.
fn lacking_time(count: i64) -> Vec<RawRecord> {
    let record = |i| bad(format!(r#"{{"url":"/page/{i}","ms":{i}}}"#).as_bytes());
    (0..count).map(record).collect()
}

/// A world with 300 events and 40 records without a time, landed.
async fn with_dead_letters() -> World {
    let mut world = World::new();
    let worker = world.start("before").await;
    world.append(&events(0..300)).await;
    world.append_raw(lacking_time(40)).await;
    world.landed().await;
    worker.stop().await.unwrap();
    world.redefine(&VIEWS.replace("ts TIMESTAMP NOT NULL", "ts TIMESTAMP"));
    world
}

async fn letters(world: &World) -> (Letters, OffsetVector) {
    let snapshot = world.dataset().await.snapshot(None).await.unwrap();
    let found: Vec<_> = dead_letters(&world.store, &snapshot, WhichLetters::default())
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    let letters = found.concat();
    let letters = letters.iter().map(|letter| (letter.partition, letter.offset));
    (letters.collect(), snapshot.next)
}

async fn done(log: &RedriveLog, number: u64) -> RedriveDone {
    eventually("the redrive is through", async || log.done(number).await.unwrap()).await
}

/// Events in the views, from the beginning of the log.
async fn total(world: &World, worker: &Worker) -> String {
    let ends = world.log.ends().await.unwrap();
    let answers = worker.reader().await.answers(&OffsetVector::new(), &ends).await;
    answers["total"].first().unwrap()[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redriven_letters_are_counted_once() {
    let world = with_dead_letters().await;
    let (letters, next) = letters(&world).await;
    assert_eq!(letters.count(), 40);
    let worker = world.start("a").await;
    assert_eq!(
        total(&world, &worker).await,
        "300",
        "a letter stays one until it is redriven"
    );
    let log = RedriveLog::new(&world.store, "clicks");
    log.append(0, letters, next, "ada").await.unwrap();
    let done = done(&log, 1).await;
    assert_eq!((done.produced, done.found, done.gone), (40, 0, 0));
    assert_eq!(done.worker, "a");
    assert_eq!(total(&world, &worker).await, "340");
    let snapshot = world.landed().await;
    assert_eq!(snapshot.rows(), (340, 40), "the letters themselves stay where they are");
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_whose_worker_dies_before_it_could_say_so_is_not_repeated() {
    let mut world = with_dead_letters().await;
    let (letters, next) = letters(&world).await;
    let log = RedriveLog::new(&world.store, "clicks");
    log.append(0, letters, next, "ada").await.unwrap();

    // Its records are produced, and that it is through cannot be written.
    let plain = world.store.clone();
    let (flaky, down) = Flaky::over(&plain, Some(".done"));
    let refused = Arc::clone(&flaky.refused);
    world.store = Store::with_objects(plain.url(), Arc::new(flaky));
    down.store(true, Ordering::SeqCst);
    let worker = world.start("a").await;
    eventually("it tries to say that it is through", async || {
        (refused.load(Ordering::SeqCst) > 0).then_some(())
    })
    .await;
    worker.kill().await;
    assert_eq!(log.done(1).await.unwrap(), None);

    world.store = plain;
    let worker = world.start("b").await;
    let done = done(&log, 1).await;
    assert_eq!(
        (done.worker.as_str(), done.produced, done.found, done.gone),
        ("b", 0, 40, 0)
    );
    assert_eq!(total(&world, &worker).await, "340");
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_die_again_can_be_redriven_as_what_they_are_now() {
    let world = with_dead_letters().await;
    let worker = world.start("a").await;
    let log = RedriveLog::new(&world.store, "clicks");
    world.append_raw(vec![bad(b"{ not json")]).await;
    world.landed().await;
    let (first, next) = letters(&world).await;
    log.append(0, first.clone(), next, "ada").await.unwrap();
    assert_eq!(done(&log, 1).await.produced, 41);
    world.landed().await;
    let (all, next) = letters(&world).await;
    let second = all.minus(&first);
    assert_eq!(second.count(), 1, "the one that is no JSON");
    log.append(1, second.clone(), next, "ada").await.unwrap();
    assert_eq!(done(&log, 2).await.produced, 1);
    world.landed().await;
    let (all, _) = letters(&world).await;
    assert_eq!(all.minus(&first).minus(&second).count(), 1, "and again");
    assert_eq!(total(&world, &worker).await, "340");
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}
