use std::sync::Arc;
use std::time::Duration;

use anabranch_log::{Error as LogError, PartitionedLog, ReadLimits, Subscription};
use anabranch_model::{Offset, OffsetVector, PartitionId, RawBatch, RawRecord};

use crate::harness::*;

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

/// A log whose readers all believe they are alone: what a worker that was stalled, or cut off from its group, believes.
struct Split {
    log: Arc<dyn PartitionedLog>,
    group: &'static str,
}

#[async_trait::async_trait]
impl PartitionedLog for Split {
    async fn identity(&self) -> Result<String, LogError> {
        self.log.identity().await
    }
    fn topic(&self) -> &str {
        self.log.topic()
    }
    async fn partitions(&self) -> Result<Vec<PartitionId>, LogError> {
        self.log.partitions().await
    }
    async fn begins(&self) -> Result<OffsetVector, LogError> {
        self.log.begins().await
    }
    async fn ends(&self) -> Result<OffsetVector, LogError> {
        self.log.ends().await
    }
    async fn offsets_at(&self, timestamp_ms: i64) -> Result<OffsetVector, LogError> {
        self.log.offsets_at(timestamp_ms).await
    }
    async fn append(&self, records: Vec<RawRecord>) -> Result<OffsetVector, LogError> {
        self.log.append(records).await
    }
    async fn read(
        &self,
        partition: PartitionId,
        from: Offset,
        limits: ReadLimits,
    ) -> Result<Option<RawBatch>, LogError> {
        self.log.read(partition, from, limits).await
    }
    async fn subscribe(&self, _group: &str) -> Result<Box<dyn Subscription>, LogError> {
        self.log.subscribe(self.group).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_former_owner_of_a_partition_is_refused() {
    let mut world = World::new();
    world.settings.landing.max_age = Duration::from_millis(700).into();
    let all = events(0..9_000);
    let from_start = OffsetVector::new();
    let zombie = world
        .start_on(
            "zombie",
            Arc::new(Split {
                log: Arc::clone(&world.log),
                group: "one",
            }),
        )
        .await
        .unwrap();
    let through = world.append(&all[..3_000]).await;
    world.landed().await;
    zombie.reader().await.covering(&from_start, &through).await;

    let owner = world
        .start_on(
            "owner",
            Arc::new(Split {
                log: Arc::clone(&world.log),
                group: "two",
            }),
        )
        .await
        .unwrap();
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

/// A log that forgot its newest records.
struct Shorter(Split);

#[async_trait::async_trait]
impl PartitionedLog for Shorter {
    async fn identity(&self) -> Result<String, LogError> {
        self.0.identity().await
    }
    fn topic(&self) -> &str {
        self.0.topic()
    }
    async fn partitions(&self) -> Result<Vec<PartitionId>, LogError> {
        self.0.partitions().await
    }
    async fn begins(&self) -> Result<OffsetVector, LogError> {
        self.0.begins().await
    }
    async fn ends(&self) -> Result<OffsetVector, LogError> {
        let ends = self.0.ends().await?;
        Ok(ends
            .iter()
            .map(|(partition, end)| (partition, Offset(end.0 - 1)))
            .collect())
    }
    async fn offsets_at(&self, timestamp_ms: i64) -> Result<OffsetVector, LogError> {
        self.0.offsets_at(timestamp_ms).await
    }
    async fn append(&self, records: Vec<RawRecord>) -> Result<OffsetVector, LogError> {
        self.0.append(records).await
    }
    async fn read(
        &self,
        partition: PartitionId,
        from: Offset,
        limits: ReadLimits,
    ) -> Result<Option<RawBatch>, LogError> {
        self.0.read(partition, from, limits).await
    }
    async fn subscribe(&self, group: &str) -> Result<Box<dyn Subscription>, LogError> {
        self.0.log.subscribe(group).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_shorter_than_what_was_landed_is_refused() {
    let world = World::new();
    let worker = world.start("a").await;
    world.append(&events(0..1_000)).await;
    world.landed().await;
    worker.stop().await.unwrap();

    let log = Shorter(Split {
        log: Arc::clone(&world.log),
        group: "shorter",
    });
    let worker = world.start_on("b", Arc::new(log)).await.unwrap();
    let error = worker.handle.stopped().await.unwrap_err();
    assert_eq!(error.kind(), anabranch_model::ErrorKind::Invalid);
    assert!(matches!(error, anabranch_speed::Error::LogShorter { .. }), "{error}");
}
