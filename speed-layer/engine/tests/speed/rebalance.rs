//! A partition that is asked back in good order: drained, landed, and only then released.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use anabranch_dataset::{Advance, Landing};
use anabranch_log::{Error as LogError, LogEvent, PartitionedLog, ReadLimits, Subscription};
use anabranch_model::{Offset, OffsetRange, OffsetVector, PartitionId, RawBatch, RawRecord};

use crate::harness::*;

/// What the coordinator says, and what it is told.
#[derive(Default)]
struct Coordinator {
    says: Mutex<VecDeque<LogEvent>>,
    released: Mutex<Vec<PartitionId>>,
}

struct Coordinated {
    log: Arc<dyn PartitionedLog>,
    coordinator: Arc<Coordinator>,
}

struct Member {
    inner: Box<dyn Subscription>,
    coordinator: Arc<Coordinator>,
}

impl Subscription for Member {
    fn poll(&mut self, limits: ReadLimits) -> Result<Option<LogEvent>, LogError> {
        let event = self.coordinator.says.lock().unwrap().pop_front();
        if let Some(LogEvent::Revoked { partitions, .. }) = &event {
            partitions
                .iter()
                .try_for_each(|partition| self.inner.pause(*partition))?;
        }
        match event {
            Some(event) => Ok(Some(event)),
            None => self.inner.poll(limits),
        }
    }
    fn start(&mut self, partition: PartitionId, from: Offset) -> Result<(), LogError> {
        self.inner.start(partition, from)
    }
    fn pause(&mut self, partition: PartitionId) -> Result<(), LogError> {
        self.inner.pause(partition)
    }
    fn resume(&mut self, partition: PartitionId) -> Result<(), LogError> {
        self.inner.resume(partition)
    }
    fn release(&mut self, partitions: &[PartitionId]) -> Result<(), LogError> {
        self.coordinator.released.lock().unwrap().extend(partitions);
        self.inner.release(partitions)
    }
}

#[async_trait::async_trait]
impl PartitionedLog for Coordinated {
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
    async fn subscribe(&self, group: &str) -> Result<Box<dyn Subscription>, LogError> {
        let inner = self.log.subscribe(group).await?;
        Ok(Box::new(Member {
            inner,
            coordinator: Arc::clone(&self.coordinator),
        }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_partition_is_landed_before_it_is_released() {
    let world = World::never_landing();
    let coordinator = Arc::<Coordinator>::default();
    let log = Coordinated {
        log: Arc::clone(&world.log),
        coordinator: Arc::clone(&coordinator),
    };
    let worker = world.start_on("a", Arc::new(log)).await.unwrap();
    let mut reader = worker.reader().await;
    let from_start = OffsetVector::new();
    let all = events(0..6_000);
    let through = world.append(&all[..3_000]).await;
    reader.covering(&from_start, &through).await;

    let moving = PartitionId(1);
    let revoked = LogEvent::Revoked {
        partitions: vec![moving],
        lost: false,
    };
    coordinator.says.lock().unwrap().push_back(revoked);
    eventually("the partition is released", async || {
        (*coordinator.released.lock().unwrap() == [moving]).then_some(())
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
    coordinator
        .says
        .lock()
        .unwrap()
        .push_back(LogEvent::Assigned(vec![moving]));
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
    let coordinator = Arc::<Coordinator>::default();
    let log = Coordinated {
        log: Arc::clone(&world.log),
        coordinator: Arc::clone(&coordinator),
    };
    let worker = world.start_on("a", Arc::new(log)).await.unwrap();
    let all = events(0..300);
    let through = world.append(&all).await;
    let before = world.landed().await;
    // Transaction markers, as a Kafka partition has them: positions without records.
    let partition = PartitionId(0);
    let start = through.get(partition).unwrap();
    let range = OffsetRange::new(start, Offset(start.0 + 7));
    let markers = anabranch_model::RawBatchBuilder::new().finish(partition, range);
    coordinator.says.lock().unwrap().push_back(LogEvent::Batch(markers));
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
