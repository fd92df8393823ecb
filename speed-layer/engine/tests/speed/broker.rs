//! A broker that goes away, is slow, or has no space: what is held goes on being served, and everything is read later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_log::{Error as LogError, LogEvent, PartitionedLog, ReadLimits, Subscription};
use anabranch_model::{Offset, OffsetVector, PartitionId, RawBatch, RawRecord};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::json;

use crate::harness::*;

/// A log whose broker is in one mood or another.
#[derive(Clone)]
struct Moody {
    log: Arc<dyn PartitionedLog>,
    mood: Arc<Mood>,
}

#[derive(Default)]
struct Mood {
    /// Nobody answers: calls fail.
    away: AtomicBool,
    /// Nobody answers: questions about the topic hang.
    hangs: AtomicBool,
    /// No space for records.
    full: AtomicBool,
}

impl Moody {
    fn new(log: &Arc<dyn PartitionedLog>) -> Self {
        let log = Arc::clone(log);
        let mood = Arc::default();
        Self { log, mood }
    }

    fn set(&self, of: fn(&Mood) -> &AtomicBool, on: bool) {
        of(&self.mood).store(on, Ordering::SeqCst);
    }

    async fn answer(&self) -> Result<(), LogError> {
        if self.mood.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.mood.answer()
    }
}

impl Mood {
    fn answer(&self) -> Result<(), LogError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(LogError::Write("the broker is away".into()));
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl PartitionedLog for Moody {
    async fn identity(&self) -> Result<String, LogError> {
        self.answer().await?;
        self.log.identity().await
    }
    fn topic(&self) -> &str {
        self.log.topic()
    }
    async fn partitions(&self) -> Result<Vec<PartitionId>, LogError> {
        self.answer().await?;
        self.log.partitions().await
    }
    async fn begins(&self) -> Result<OffsetVector, LogError> {
        self.answer().await?;
        self.log.begins().await
    }
    async fn ends(&self) -> Result<OffsetVector, LogError> {
        self.answer().await?;
        self.log.ends().await
    }
    async fn offsets_at(&self, timestamp_ms: i64) -> Result<OffsetVector, LogError> {
        self.answer().await?;
        self.log.offsets_at(timestamp_ms).await
    }
    async fn append(&self, records: Vec<RawRecord>) -> Result<OffsetVector, LogError> {
        if self.mood.full.load(Ordering::SeqCst) {
            return Err(LogError::DiskFull {
                dir: "/var/log/anabranch".into(),
                free_bytes: 1,
                reserve_bytes: 2,
            });
        }
        self.log.append(records).await
    }
    async fn read(
        &self,
        partition: PartitionId,
        from: Offset,
        limits: ReadLimits,
    ) -> Result<Option<RawBatch>, LogError> {
        self.answer().await?;
        self.log.read(partition, from, limits).await
    }
    async fn subscribe(&self, group: &str) -> Result<Box<dyn Subscription>, LogError> {
        let (inner, mood) = (self.log.subscribe(group).await?, Arc::clone(&self.mood));
        Ok(Box::new(MoodySubscription { inner, mood }))
    }
}

struct MoodySubscription {
    inner: Box<dyn Subscription>,
    mood: Arc<Mood>,
}

impl Subscription for MoodySubscription {
    fn poll(&mut self, limits: ReadLimits) -> Result<Option<LogEvent>, LogError> {
        self.mood.answer()?;
        self.inner.poll(limits)
    }
    fn start(&mut self, partition: PartitionId, from: Offset) -> Result<(), LogError> {
        self.mood.answer()?;
        self.inner.start(partition, from)
    }
    fn pause(&mut self, partition: PartitionId) -> Result<(), LogError> {
        self.inner.pause(partition)
    }
    fn resume(&mut self, partition: PartitionId) -> Result<(), LogError> {
        self.inner.resume(partition)
    }
    fn release(&mut self, partitions: &[PartitionId]) -> Result<(), LogError> {
        self.inner.release(partitions)
    }
    fn confirm(&mut self, partition: PartitionId) -> Result<Option<bool>, LogError> {
        self.mood.answer()?;
        self.inner.confirm(partition)
    }
}

async fn connected(worker: &Worker) -> Option<bool> {
    worker.status().await["sources"]["clicks"]["log"]["connected"].as_bool()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_hangs_lets_no_lease_expire() {
    let world = World::new();
    let log = Moody::new(&world.log);
    let worker = world.start_on("a", Arc::new(log.clone())).await.unwrap();
    let all = events(0..900);
    let through = world.append(&all).await;
    worker.reader().await.covering(&OffsetVector::new(), &through).await;
    eventually("it is connected", async || {
        connected(&worker).await.filter(|connected| *connected)
    })
    .await;

    log.set(|mood| &mood.hangs, true);
    // Three renewals, each by its own time of writing: more than a lease's time to live of not one would be its end.
    let path = Path::from("services/speed/a.json");
    let written = async || world.store.objects().head(&path).await.unwrap().last_modified;
    let mut last = written().await;
    for _ in 0..3 {
        last = eventually("the lease is renewed", async || {
            let now = written().await;
            (now > last).then_some(now)
        })
        .await;
    }
    eventually("it says that the broker does not answer", async || {
        connected(&worker).await.filter(|connected| !connected)
    })
    .await;
    assert_eq!(
        worker.reader().await.answers(&OffsetVector::new(), &through).await,
        truth(&all)
    );
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_started_while_the_broker_is_away_waits_and_says_so() {
    let world = World::new();
    let log = Moody::new(&world.log);
    log.set(|mood| &mood.away, true);
    let all = events(0..2_000);
    let through = world.append(&all).await;
    let worker = world.start_on("a", Arc::new(log.clone())).await.unwrap();
    let status = worker.status().await;
    let waiting = &status["waiting"]["clicks"];
    assert!(
        waiting["error"].as_str().unwrap().contains("the broker is away"),
        "{status}"
    );
    let ready = reqwest::get(worker.url("/readyz")).await.unwrap();
    assert_eq!(ready.status().as_u16(), 503);
    assert!(ready.text().await.unwrap().contains("the broker is away"));
    let ingest = reqwest::Client::new().post(worker.url("/v1/ingest/clicks")).send();
    assert_eq!(ingest.await.unwrap().status().as_u16(), 503);

    log.set(|mood| &mood.away, false);
    let mut reader = worker.reader().await;
    assert_eq!(reader.answers(&OffsetVector::new(), &through).await, truth(&all));
    let status = worker.status().await;
    assert!(status.get("waiting").is_none(), "{status}");
    assert_eq!(
        reqwest::get(worker.url("/readyz")).await.unwrap().status().as_u16(),
        200
    );
    world.landed().await;
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_waits_for_its_broker_can_be_stopped() {
    let world = World::new();
    let log = Moody::new(&world.log);
    log.set(|mood| &mood.away, true);
    let worker = world.start_on("a", Arc::new(log)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(120), worker.stop())
        .await
        .expect("it does not wait for the broker to end")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_broker_is_away_what_is_held_is_served_and_reading_goes_on_afterwards() {
    let world = World::new();
    let log = Moody::new(&world.log);
    let worker = world.start_on("a", Arc::new(log.clone())).await.unwrap();
    let all = events(0..6_000);
    let from_start = OffsetVector::new();
    let through = world.append(&all[..3_000]).await;
    let mut reader = worker.reader().await;
    assert_eq!(reader.answers(&from_start, &through).await, truth(&all[..3_000]));

    log.set(|mood| &mood.away, true);
    let status = eventually("it says so", async || {
        let status = worker.status().await;
        (status["sources"]["clicks"]["log"]["connected"] == false).then_some(status)
    })
    .await;
    let error = &status["sources"]["clicks"]["log"]["error"];
    assert!(error.as_str().unwrap().contains("the broker is away"), "{status}");
    let metrics = reqwest::get(worker.url("/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains("anabranch_source_connected{table=\"clicks\"}"),
        "{metrics}"
    );
    assert_eq!(
        reader.answers(&from_start, &through).await,
        truth(&all[..3_000]),
        "what is held goes on being served"
    );

    let through = world.append(&all[3_000..]).await;
    log.set(|mood| &mood.away, false);
    assert_eq!(reader.answers(&from_start, &through).await, truth(&all));
    eventually("it is connected again", async || {
        connected(&worker).await.filter(|connected| *connected)
    })
    .await;
    world.landed().await;
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingest_into_a_full_log_answers_507_and_goes_on_later() {
    let world = World::new();
    let log = Moody::new(&world.log);
    let worker = world.start_on("a", Arc::new(log.clone())).await.unwrap();
    let event = events(0..1)[0].json();
    let ingest = async || {
        let request = reqwest::Client::new().post(worker.url("/v1/ingest/clicks"));
        let answer = request.body(event.clone()).send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.json::<serde_json::Value>().await.unwrap(),
        )
    };
    log.set(|mood| &mood.full, true);
    let (status, answer) = ingest().await;
    assert_eq!((status, &answer["error"]["code"]), (507, &json!("disk_full")));
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("Free some space"), "{message}");
    log.set(|mood| &mood.full, false);
    let (status, answer) = ingest().await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)));
    worker.stop().await.unwrap();
}
