//! A reader group whose coordinator is the test: it says who has which partition, what the log holds, and whether anybody
//! answers at all. The records are those of the log behind it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anabranch_log::{Error as LogError, LogEvent, PartitionedLog, ReadLimits, Subscription};
use anabranch_model::{Offset, OffsetVector, PartitionId, RawBatch, RawRecord};

/// The coordinator of a group, and the broker.
#[derive(Clone)]
pub struct Group {
    log: Arc<dyn PartitionedLog>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    members: BTreeMap<String, Member>,
    /// Where partitions pretend to begin and to end.
    begins: OffsetVector,
    ends: OffsetVector,
    /// Partitions that the topic does not have yet.
    absent: BTreeSet<PartitionId>,
}

/// What one member is told, and has told.
#[derive(Default)]
struct Member {
    says: VecDeque<LogEvent>,
    /// By the coordinator's word.
    owned: BTreeSet<PartitionId>,
    released: Vec<PartitionId>,
    /// Asked whether a partition is still its own.
    asked: usize,
}

impl Group {
    pub fn new(log: &Arc<dyn PartitionedLog>) -> Self {
        Self {
            log: Arc::clone(log),
            inner: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// The log as one member sees it.
    pub fn member(&self, name: &str) -> Arc<dyn PartitionedLog> {
        Arc::new(Seat {
            group: self.clone(),
            name: name.to_owned(),
        })
    }

    /// Gives partitions to a member.
    pub fn assign(&self, name: &str, partitions: &[i32]) {
        let partitions: Vec<_> = partitions.iter().copied().map(PartitionId).collect();
        let mut inner = self.lock();
        let member = inner.members.entry(name.to_owned()).or_default();
        member.owned.extend(&partitions);
        member.says.push_back(LogEvent::Assigned(partitions));
    }

    /// Asks a member to give partitions back.
    pub fn revoke(&self, name: &str, partitions: &[i32]) {
        self.take(name, partitions, false);
    }

    /// Tells a member that partitions have moved already.
    pub fn tell_lost(&self, name: &str, partitions: &[i32]) {
        self.take(name, partitions, true);
    }

    /// Takes partitions from a member that does not hear of it yet, as one that is stopped does not.
    pub fn take_silently(&self, name: &str, partitions: &[i32]) {
        let mut inner = self.lock();
        let member = inner.members.entry(name.to_owned()).or_default();
        partitions.iter().for_each(|partition| {
            member.owned.remove(&PartitionId(*partition));
        });
    }

    fn take(&self, name: &str, partitions: &[i32], lost: bool) {
        self.take_silently(name, partitions);
        let partitions: Vec<_> = partitions.iter().copied().map(PartitionId).collect();
        let event = LogEvent::Revoked { partitions, lost };
        self.tell(name, event);
    }

    /// Has a member's next poll return this.
    pub fn tell(&self, name: &str, event: LogEvent) {
        let mut inner = self.lock();
        inner.members.entry(name.to_owned()).or_default().says.push_back(event);
    }

    pub fn released(&self, name: &str) -> Vec<PartitionId> {
        self.lock()
            .members
            .get(name)
            .map(|member| member.released.clone())
            .unwrap_or_default()
    }

    /// How often a member has asked whether a partition is still its own.
    pub fn asked(&self, name: &str) -> usize {
        self.lock().members.get(name).map_or(0, |member| member.asked)
    }

    /// The partition pretends to begin here: retention has removed what was before.
    pub fn begin_at(&self, partition: i32, begin: Offset) {
        self.lock().begins.set(PartitionId(partition), begin);
    }

    /// Whether the topic has the partition.
    pub fn set_absent(&self, partition: i32, absent: bool) {
        let mut inner = self.lock();
        if absent {
            inner.absent.insert(PartitionId(partition));
        } else {
            inner.absent.remove(&PartitionId(partition));
        }
    }

    /// What the log says, with what is pretended.
    fn pretend(&self, real: &OffsetVector, pretended: impl Fn(&Inner) -> &OffsetVector) -> OffsetVector {
        let inner = self.lock();
        let pretended = pretended(&inner);
        let present = real.iter().filter(|(partition, _)| !inner.absent.contains(partition));
        present
            .map(|(partition, offset)| (partition, pretended.get(partition).unwrap_or(offset)))
            .collect()
    }

    /// The partition pretends to end here.
    pub fn end_at(&self, partition: i32, end: Offset) {
        self.lock().ends.set(PartitionId(partition), end);
    }
}

/// One member's view of the log.
struct Seat {
    group: Group,
    name: String,
}

#[async_trait::async_trait]
impl PartitionedLog for Seat {
    async fn identity(&self) -> Result<String, LogError> {
        self.group.log.identity().await
    }
    fn topic(&self) -> &str {
        self.group.log.topic()
    }
    async fn partitions(&self) -> Result<Vec<PartitionId>, LogError> {
        Ok(self.ends().await?.partitions().collect())
    }
    async fn begins(&self) -> Result<OffsetVector, LogError> {
        let begins = self.group.log.begins().await?;
        Ok(self.group.pretend(&begins, |inner| &inner.begins))
    }
    async fn ends(&self) -> Result<OffsetVector, LogError> {
        let ends = self.group.log.ends().await?;
        Ok(self.group.pretend(&ends, |inner| &inner.ends))
    }
    async fn offsets_at(&self, timestamp_ms: i64) -> Result<OffsetVector, LogError> {
        self.group.log.offsets_at(timestamp_ms).await
    }
    async fn append(&self, records: Vec<RawRecord>) -> Result<OffsetVector, LogError> {
        self.group.log.append(records).await
    }
    async fn read(
        &self,
        partition: PartitionId,
        from: Offset,
        limits: ReadLimits,
    ) -> Result<Option<RawBatch>, LogError> {
        self.group.log.read(partition, from, limits).await
    }
    async fn subscribe(&self, _group: &str) -> Result<Box<dyn Subscription>, LogError> {
        // A reader group of its own, which gives it every partition: who has which is decided here.
        let mut inner = self
            .group
            .log
            .subscribe(&format!("seat-{}-{}", self.name, rand_name()))
            .await?;
        let limits = ReadLimits {
            max_records: 1,
            max_bytes: 1,
            wait: Duration::from_secs(5),
        };
        // It must know its partitions before any of them is started.
        let first = inner.poll(limits)?;
        assert!(matches!(first, Some(LogEvent::Assigned(_))), "{first:?}");
        Ok(Box::new(Reader {
            group: self.group.clone(),
            name: self.name.clone(),
            inner,
            assigned: BTreeSet::new(),
        }))
    }
}

/// Unique within this process.
fn rand_name() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

struct Reader {
    group: Group,
    name: String,
    inner: Box<dyn Subscription>,
    /// As far as this member has heard.
    assigned: BTreeSet<PartitionId>,
}

impl Reader {
    fn check_assigned(&self, partition: PartitionId) -> Result<(), LogError> {
        if self.assigned.contains(&partition) {
            return Ok(());
        }
        Err(LogError::NotAssigned {
            topic: self.group.log.topic().to_owned(),
            partition,
        })
    }
}

impl Subscription for Reader {
    fn poll(&mut self, limits: ReadLimits) -> Result<Option<LogEvent>, LogError> {
        let said = {
            let mut inner = self.group.lock();
            let member = inner.members.entry(self.name.clone()).or_default();
            member.says.pop_front()
        };
        match &said {
            Some(LogEvent::Assigned(partitions)) => self.assigned.extend(partitions),
            Some(LogEvent::Revoked { partitions, .. }) => {
                for partition in partitions {
                    self.assigned.remove(partition);
                    self.inner.pause(*partition)?;
                }
            }
            _ => {}
        }
        if said.is_some() {
            return Ok(said);
        }
        match self.inner.poll(limits)? {
            // Decided here.
            Some(LogEvent::Assigned(_) | LogEvent::Revoked { .. }) => Ok(None),
            event => Ok(event),
        }
    }
    fn start(&mut self, partition: PartitionId, from: Offset) -> Result<(), LogError> {
        self.check_assigned(partition)?;
        let first = self.group.lock().begins.get(partition);
        if let Some(first) = first.filter(|first| from < *first) {
            return Err(LogError::OutOfRange {
                topic: self.group.log.topic().to_owned(),
                partition,
                wanted: from,
                first,
                next: first,
            });
        }
        self.inner.start(partition, from)
    }
    fn pause(&mut self, partition: PartitionId) -> Result<(), LogError> {
        self.check_assigned(partition)?;
        self.inner.pause(partition)
    }
    fn resume(&mut self, partition: PartitionId) -> Result<(), LogError> {
        self.check_assigned(partition)?;
        self.inner.resume(partition)
    }
    fn release(&mut self, partitions: &[PartitionId]) -> Result<(), LogError> {
        let mut inner = self.group.lock();
        let member = inner.members.entry(self.name.clone()).or_default();
        member.released.extend(partitions);
        Ok(())
    }
    fn confirm(&mut self, partition: PartitionId) -> Result<Option<bool>, LogError> {
        let mut inner = self.group.lock();
        let member = inner.members.entry(self.name.clone()).or_default();
        member.asked += 1;
        Ok(Some(member.owned.contains(&partition)))
    }
}
