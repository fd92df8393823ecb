//! The simulated log: partitions of records, and a consumer group whose coordinator is at times mistaken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use anabranch_log::{Error, LogEvent, PartitionedLog, ReadLimits, Subscription};
use anabranch_model::{Offset, OffsetRange, OffsetVector, PartitionId, RawBatch, RawBatchBuilder, RawRecord};
use async_trait::async_trait;
use parking_lot::Mutex;

use crate::environment::wall_clock;
use crate::oracle::Record;
use crate::scheduler::{Micros, ProcessId, Scheduler};

pub const TOPIC: &str = "clicks";
/// How long a member may take to release a partition before it is given away all the same.
const RELEASE_TIMEOUT: Micros = 6_000_000;

/// The log's server: records, members, and who is told to read what.
pub struct Log {
    pub scheduler: Arc<Scheduler>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    partitions: Vec<Vec<Record>>,
    /// When each record was appended.
    times: Vec<Vec<Micros>>,
    members: BTreeMap<ProcessId, Member>,
    /// Partition → who is to read it.
    assigned: BTreeMap<PartitionId, ProcessId>,
    /// Partition → who is to give it up first, who gets it then, and since when.
    moving: BTreeMap<PartitionId, (ProcessId, Option<ProcessId>, Micros)>,
}

#[derive(Default)]
struct Member {
    events: VecDeque<LogEvent>,
    /// Assigned to it as far as it was told.
    held: BTreeSet<PartitionId>,
    /// Where it reads; present once started.
    positions: BTreeMap<PartitionId, Offset>,
    paused: BTreeSet<PartitionId>,
    /// Events and batches it got.
    delivered: u64,
}

impl Log {
    pub fn new(scheduler: &Arc<Scheduler>, partitions: usize) -> Arc<Self> {
        Arc::new(Self {
            scheduler: Arc::clone(scheduler),
            state: Mutex::new(State {
                partitions: vec![Vec::new(); partitions],
                times: vec![Vec::new(); partitions],
                ..State::default()
            }),
        })
    }

    pub fn partitions(&self) -> usize {
        self.state.lock().partitions.len()
    }

    pub fn append(&self, partition: usize, record: Record) {
        let now = self.scheduler.now();
        let mut state = self.state.lock();
        state.partitions[partition].push(record);
        state.times[partition].push(now);
    }

    /// When the last record before `offset` was appended. A marker is none.
    pub fn time_before(&self, partition: usize, offset: i64) -> Option<Micros> {
        let state = self.state.lock();
        let before = state.partitions.get(partition)?.get(..usize::try_from(offset).ok()?)?;
        let last = before.iter().rposition(|record| !matches!(record, Record::Marker))?;
        state.times[partition].get(last).copied()
    }

    pub fn ends(&self) -> Vec<i64> {
        let state = self.state.lock();
        state.partitions.iter().map(|records| records.len() as i64).collect()
    }

    /// How much a member got so far.
    pub fn delivered(&self, process: ProcessId) -> u64 {
        self.state
            .lock()
            .members
            .get(&process)
            .map_or(0, |member| member.delivered)
    }

    /// What the log holds.
    pub fn read_all<R>(&self, read: impl FnOnce(&[Vec<Record>]) -> R) -> R {
        read(&self.state.lock().partitions)
    }

    /// Gives the partitions to the living members anew, each to a member of chance, and tells those concerned.
    pub fn rebalance(&self) {
        let mut state = self.state.lock();
        let members: Vec<ProcessId> = state.members.keys().copied().collect();
        for partition in (0..state.partitions.len()).map(|p| PartitionId(p as i32)) {
            let wanted = match members.len() {
                0 => None,
                count => Some(members[self.scheduler.draw(|random| random.index(count))]),
            };
            self.assign(&mut state, partition, wanted);
        }
    }

    /// Gives away what nobody living has.
    fn fill(&self, state: &mut State) {
        let members: Vec<ProcessId> = state.members.keys().copied().collect();
        if members.is_empty() {
            return;
        }
        for partition in (0..state.partitions.len()).map(|p| PartitionId(p as i32)) {
            let living = |process: &ProcessId| state.members.contains_key(process);
            let taken = state.assigned.get(&partition).is_some_and(living)
                || state
                    .moving
                    .get(&partition)
                    .is_some_and(|(from, to, _)| living(from) || to.is_some_and(|to| living(&to)));
            if !taken {
                let to = members[self.scheduler.draw(|random| random.index(members.len()))];
                state.moving.remove(&partition);
                self.assign(state, partition, Some(to));
            }
        }
    }

    fn assign(&self, state: &mut State, partition: PartitionId, to: Option<ProcessId>) {
        let now = self.scheduler.now();
        if let Some((_, wanted, _)) = state.moving.get_mut(&partition) {
            *wanted = to;
            return;
        }
        let from = state.assigned.get(&partition).copied();
        if from == to
            && to.is_some_and(|to| {
                state
                    .members
                    .get(&to)
                    .is_some_and(|member| member.held.contains(&partition))
            })
        {
            return;
        }
        match from.and_then(|from| Some((from, state.members.get_mut(&from)?))) {
            Some((from, member)) => {
                member.events.push_back(LogEvent::Revoked {
                    partitions: vec![partition],
                    lost: false,
                });
                state.assigned.remove(&partition);
                state.moving.insert(partition, (from, to, now));
            }
            None => Self::give(state, partition, to),
        }
    }

    fn give(state: &mut State, partition: PartitionId, to: Option<ProcessId>) {
        state.assigned.remove(&partition);
        if let Some((to, member)) = to.and_then(|to| Some((to, state.members.get_mut(&to)?))) {
            member.held.insert(partition);
            member.events.push_back(LogEvent::Assigned(vec![partition]));
            state.assigned.insert(partition, to);
        }
    }

    /// Gives a partition to another member without asking, or telling, the one that has it: it learns `lost` when it next
    /// looks, if `tell`.
    pub fn give_to_two(&self, tell: bool) -> bool {
        let mut state = self.state.lock();
        let members: Vec<ProcessId> = state.members.keys().copied().collect();
        let count = state.partitions.len();
        let partition = PartitionId(self.scheduler.draw(|random| random.index(count)) as i32);
        let others: Vec<ProcessId> = members
            .into_iter()
            .filter(|member| state.assigned.get(&partition) != Some(member))
            .collect();
        if others.is_empty() || state.moving.contains_key(&partition) || !state.assigned.contains_key(&partition) {
            return false;
        }
        let to = others[self.scheduler.draw(|random| random.index(others.len()))];
        let from = state.assigned.get(&partition).copied();
        if tell && let Some(member) = from.and_then(|from| state.members.get_mut(&from)) {
            Self::lose(member, partition);
        }
        Self::give(&mut state, partition, Some(to));
        true
    }

    fn lose(member: &mut Member, partition: PartitionId) {
        member.held.remove(&partition);
        member.positions.remove(&partition);
        member.paused.remove(&partition);
        member.events.push_back(LogEvent::Revoked {
            partitions: vec![partition],
            lost: true,
        });
    }

    /// Ends the membership of a process that is gone, or that was silent for too long; the latter is told when it looks
    /// again.
    pub fn expel(&self, process: ProcessId, gone: bool) {
        let mut state = self.state.lock();
        let held: Vec<PartitionId> = state
            .assigned
            .iter()
            .filter(|(_, owner)| **owner == process)
            .map(|(partition, _)| *partition)
            .chain(
                state
                    .moving
                    .iter()
                    .filter(|(_, (from, ..))| *from == process)
                    .map(|(partition, _)| *partition),
            )
            .collect();
        if gone {
            state.members.remove(&process);
        } else if let Some(member) = state.members.get_mut(&process) {
            for partition in &held {
                Self::lose(member, *partition);
            }
        }
        for partition in held {
            let to = state.moving.remove(&partition).and_then(|(_, to, _)| to);
            Self::give(&mut state, partition, to.filter(|to| *to != process));
        }
        self.fill_without(&mut state, process);
    }

    /// As [`fill`](Self::fill), but leaves out a member that has just been expelled if there are others.
    fn fill_without(&self, state: &mut State, process: ProcessId) {
        let away = if state.members.len() > 1 {
            state.members.remove(&process)
        } else {
            None
        };
        self.fill(state);
        if let Some(member) = away {
            state.members.insert(process, member);
        }
    }

    /// Gives on what was not released in time.
    pub fn tick(&self) {
        let now = self.scheduler.now();
        let mut state = self.state.lock();
        let late: Vec<PartitionId> = state
            .moving
            .iter()
            .filter(|(_, (.., since))| now.saturating_sub(*since) > RELEASE_TIMEOUT)
            .map(|(partition, _)| *partition)
            .collect();
        for partition in late {
            if let Some((from, to, _)) = state.moving.remove(&partition) {
                if let Some(member) = state.members.get_mut(&from) {
                    Self::lose(member, partition);
                }
                Self::give(&mut state, partition, to);
            }
        }
        self.fill(&mut state);
    }

    fn not_assigned(partition: PartitionId) -> Error {
        Error::NotAssigned {
            topic: TOPIC.to_owned(),
            partition,
        }
    }

    fn poll(&self, process: ProcessId, limits: ReadLimits) -> Option<LogEvent> {
        let mut state = self.state.lock();
        let State {
            partitions,
            times,
            members,
            ..
        } = &mut *state;
        let member = members.get_mut(&process)?;
        if let Some(event) = member.events.pop_front() {
            member.delivered += 1;
            return Some(event);
        }
        let readable: Vec<(PartitionId, Offset)> = member
            .positions
            .iter()
            .filter(|(partition, position)| {
                !member.paused.contains(partition) && (position.0 as usize) < partitions[partition.0 as usize].len()
            })
            .map(|(partition, position)| (*partition, *position))
            .collect();
        if readable.is_empty() {
            return None;
        }
        let (choice, count) = self
            .scheduler
            .draw(|random| (random.index(readable.len()), 1 + random.index(limits.max_records)));
        let (partition, from) = readable[choice];
        let place = partition.0 as usize;
        let batch = batch((&partitions[place], &times[place]), partition, from, count);
        member.positions.insert(partition, batch.range.end);
        member.delivered += 1;
        Some(LogEvent::Batch(batch))
    }
}

fn batch((records, times): (&[Record], &[Micros]), partition: PartitionId, from: Offset, count: usize) -> RawBatch {
    let mut builder = RawBatchBuilder::new();
    let start = from.0 as usize;
    let end = (start + count).min(records.len());
    for (offset, record) in records.iter().enumerate().take(end).skip(start) {
        // A marker takes an offset and is no record.
        if let Some(payload) = record.payload() {
            let at = wall_clock(times[offset]).timestamp_micros();
            builder.push(offset as i64, Some(at), None, Some(&payload), []);
        }
    }
    builder.finish(partition, OffsetRange::new(from, Offset(end as i64)))
}

fn concerns(event: &LogEvent, partition: PartitionId) -> bool {
    match event {
        LogEvent::Assigned(partitions) | LogEvent::Revoked { partitions, .. } => partitions.contains(&partition),
        LogEvent::Batch(_) | LogEvent::OutOfRange { .. } => false,
    }
}

/// One process's way to the log.
pub struct LogClient {
    pub log: Arc<Log>,
    pub process: ProcessId,
}

#[async_trait]
impl PartitionedLog for LogClient {
    async fn identity(&self) -> Result<String, Error> {
        Ok("the simulated log".to_owned())
    }

    fn topic(&self) -> &str {
        TOPIC
    }

    async fn partitions(&self) -> Result<Vec<PartitionId>, Error> {
        Ok((0..self.log.partitions()).map(|p| PartitionId(p as i32)).collect())
    }

    async fn begins(&self) -> Result<OffsetVector, Error> {
        Ok((0..self.log.partitions())
            .map(|p| (PartitionId(p as i32), Offset(0)))
            .collect())
    }

    async fn ends(&self) -> Result<OffsetVector, Error> {
        let ends = self.log.ends().into_iter().enumerate();
        Ok(ends.map(|(p, end)| (PartitionId(p as i32), Offset(end))).collect())
    }

    async fn offsets_at(&self, _: i64) -> Result<OffsetVector, Error> {
        self.begins().await
    }

    async fn append(&self, _: Vec<RawRecord>) -> Result<OffsetVector, Error> {
        Err(Error::Invalid("workers do not write to the simulated log".to_owned()))
    }

    async fn read(&self, partition: PartitionId, from: Offset, limits: ReadLimits) -> Result<Option<RawBatch>, Error> {
        let state = self.log.state.lock();
        let place = partition.0 as usize;
        let (records, times) = (&state.partitions[place], &state.times[place]);
        Ok(((from.0 as usize) < records.len()).then(|| batch((records, times), partition, from, limits.max_records)))
    }

    async fn subscribe(&self, _: &str) -> Result<Box<dyn Subscription>, Error> {
        let mut state = self.log.state.lock();
        state.members.insert(self.process, Member::default());
        drop(state);
        self.log.rebalance();
        Ok(Box::new(Reader {
            log: Arc::clone(&self.log),
            process: self.process,
        }))
    }
}

struct Reader {
    log: Arc<Log>,
    process: ProcessId,
}

impl Reader {
    fn with_held<R>(&self, partition: PartitionId, change: impl FnOnce(&mut Member) -> R) -> Result<R, Error> {
        let mut state = self.log.state.lock();
        match state.members.get_mut(&self.process) {
            Some(member) if member.held.contains(&partition) => Ok(change(member)),
            _ => Err(Log::not_assigned(partition)),
        }
    }
}

impl Subscription for Reader {
    fn poll(&mut self, limits: ReadLimits) -> Result<Option<LogEvent>, Error> {
        let event = self.log.poll(self.process, limits);
        if let Some(event) = &event {
            let scheduler = &self.log.scheduler;
            scheduler.trace(&self.process.0.to_le_bytes());
            match event {
                LogEvent::Assigned(partitions) => scheduler.trace(format!("assigned {partitions:?}").as_bytes()),
                LogEvent::Revoked { partitions, lost } => {
                    scheduler.trace(format!("revoked {partitions:?} {lost}").as_bytes());
                }
                LogEvent::OutOfRange { partition, .. } => {
                    scheduler.trace(format!("out of range {partition}").as_bytes());
                }
                LogEvent::Batch(batch) => {
                    scheduler.trace(format!("batch {} {}", batch.partition, batch.range).as_bytes());
                }
            }
        }
        Ok(event)
    }

    fn start(&mut self, partition: PartitionId, from: Offset) -> Result<(), Error> {
        self.with_held(partition, |member| {
            member.positions.insert(partition, from);
            member.paused.remove(&partition);
        })
    }

    fn pause(&mut self, partition: PartitionId) -> Result<(), Error> {
        self.with_held(partition, |member| {
            member.paused.insert(partition);
        })
    }

    fn resume(&mut self, partition: PartitionId) -> Result<(), Error> {
        self.with_held(partition, |member| {
            member.paused.remove(&partition);
        })
    }

    fn confirm(&mut self, partition: PartitionId) -> Result<Option<bool>, Error> {
        let state = self.log.state.lock();
        Ok(Some(state.assigned.get(&partition) == Some(&self.process)))
    }

    fn release(&mut self, partitions: &[PartitionId]) -> Result<(), Error> {
        let mut state = self.log.state.lock();
        for partition in partitions {
            if let Some(member) = state.members.get_mut(&self.process) {
                // What it lets go of is what it knows of. It has lost that, or got it anew, and has still to be told.
                if member.events.iter().any(|event| concerns(event, *partition)) {
                    continue;
                }
                member.held.remove(partition);
                member.positions.remove(partition);
                member.paused.remove(partition);
            }
            if state
                .moving
                .get(partition)
                .is_some_and(|(from, ..)| *from == self.process)
                && let Some((_, to, _)) = state.moving.remove(partition)
            {
                Log::give(&mut state, *partition, to);
            }
        }
        self.log.fill(&mut state);
        Ok(())
    }
}
