//! Reads a partitioned log: one tuple is one micro-batch and the range of positions it covers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anabranch_log::{Error as LogError, LogEvent, ReadLimits, Subscription};
use anabranch_model::{ErrorKind, Offset, PartitionId, RawBatch};
use anabranch_topology::{Activity, BoxError, MessageId, Spout, SpoutOutput};
use tokio::sync::mpsc;

use crate::Error;
use crate::message::{Adopt, Message, Raw};
use crate::ownership::{self, Command};
use crate::program::Program;
use crate::source::SourceLayer;
use crate::state::PartitionState;

/// How long one poll waits for a record: also how late the spout may notice that it should stop.
const POLL_WAIT: Duration = Duration::from_millis(10);
/// How soon a spout that is held back looks again.
const HELD_WAIT: Duration = Duration::from_millis(1);
/// A spout that is held back longer pauses its partitions and keeps polling, so that it stays a member of its group.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// Wait after the log did not answer.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// How often the log is told how far events are landed.
const TELL_LANDED_EVERY: Duration = Duration::from_secs(1);
/// Messages that may wait for their landing.
const MAX_PENDING: usize = 50_000;

/// LogSpout and KafkaSpout in one: which log it reads is the subscription's business.
pub(crate) struct LogSpout {
    layer: Arc<SourceLayer>,
    subscription: Box<dyn Subscription>,
    commands: mpsc::Receiver<Command>,
    answers: mpsc::Sender<Command>,
    limits: ReadLimits,
    /// The newest one seen; each partition is read under its own until it has been told.
    program: Arc<Program>,
    reading: BTreeMap<PartitionId, Reading>,
    /// Assigned, and on their way through `claim`.
    claiming: BTreeMap<PartitionId, Claiming>,
    pending: HashMap<MessageId, Arc<PartitionState>>,
    next_message: u64,
    held_since: Option<Instant>,
    paused: bool,
    said_over_budget: bool,
    /// When the log was last told how far events are landed.
    told_landed: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claiming {
    /// Reading starts when it is claimed.
    Wanted,
    /// Revoked meanwhile. Released only when the claim is through: committed after the next owner's, it would take the
    /// partition away from it.
    Revoked,
}

struct Reading {
    state: Arc<PartitionState>,
    program: Arc<Program>,
    next: Offset,
    pending: usize,
    /// Revoked: released when nothing is pending.
    draining: bool,
}

impl LogSpout {
    pub(crate) fn new(
        layer: Arc<SourceLayer>,
        subscription: Box<dyn Subscription>,
        (answers, commands): (mpsc::Sender<Command>, mpsc::Receiver<Command>),
    ) -> Self {
        let layer_program = layer.program();
        let speed = &layer.settings.speed;
        let limits = ReadLimits {
            max_records: speed.micro_batch_records,
            max_bytes: usize::try_from(speed.micro_batch_bytes.get()).unwrap_or(usize::MAX),
            wait: POLL_WAIT,
        };
        let now = layer.environment().instant();
        Self {
            layer,
            subscription,
            commands,
            answers,
            limits,
            program: layer_program,
            reading: BTreeMap::new(),
            claiming: BTreeMap::new(),
            pending: HashMap::new(),
            next_message: 0,
            held_since: None,
            paused: false,
            said_over_budget: false,
            told_landed: now,
        }
    }

    fn apply_commands(&mut self) -> Result<(), Error> {
        while let Ok(command) = self.commands.try_recv() {
            let (partition, started) = match command {
                Command::Start { state, program } => (state.partition, Some((state, program))),
                Command::NotOurs { partition } => (partition, None),
            };
            let claiming = self.claiming.remove(&partition);
            let Some((state, program)) = started.filter(|(state, _)| {
                let wanted = claiming == Some(Claiming::Wanted);
                if !wanted {
                    self.layer.remove_partition(state);
                }
                wanted
            }) else {
                if claiming == Some(Claiming::Revoked) {
                    self.subscription.release(&[partition])?;
                }
                continue;
            };
            let next = state.from;
            tracing::info!(table = self.layer.name(), %partition, epoch = state.epoch, %next, "reading");
            if !unless_revoked(self.subscription.start(partition, next))? {
                self.layer.remove_partition(&state);
                continue;
            }
            if self.paused {
                unless_revoked(self.subscription.pause(partition))?;
            }
            self.reading.insert(
                partition,
                Reading {
                    state,
                    program,
                    next,
                    pending: 0,
                    draining: false,
                },
            );
        }
        Ok(())
    }

    fn assigned(&mut self, partitions: Vec<PartitionId>) {
        self.claiming
            .extend(partitions.iter().map(|partition| (*partition, Claiming::Wanted)));
        let claim = ownership::claim(Arc::clone(&self.layer), partitions, self.answers.clone());
        self.layer.spawn(claim);
    }

    fn revoked(
        &mut self,
        partitions: Vec<PartitionId>,
        lost: bool,
        out: &mut SpoutOutput<Message>,
    ) -> Result<(), BoxError> {
        tracing::info!(table = self.layer.name(), ?partitions, lost, "partitions revoked");
        let mut idle = Vec::new();
        for partition in partitions {
            if let Some(claiming) = self.claiming.get_mut(&partition) {
                *claiming = Claiming::Revoked;
                continue;
            }
            match self.reading.get_mut(&partition) {
                Some(reading) if !lost && reading.pending > 0 => {
                    reading.draining = true;
                    out.emit_unanchored(Message::Flush(partition))?;
                }
                Some(_) => {
                    self.forget(partition);
                    idle.push(partition);
                }
                None => idle.push(partition),
            }
        }
        if !lost && !idle.is_empty() {
            self.subscription.release(&idle)?;
        }
        Ok(())
    }

    fn forget(&mut self, partition: PartitionId) {
        if let Some(reading) = self.reading.remove(&partition) {
            self.layer.remove_partition(&reading.state);
        }
    }

    fn batch(&mut self, batch: RawBatch, out: &mut SpoutOutput<Message>) -> Result<(), BoxError> {
        let partition = batch.partition;
        let Some(reading) = self.reading.get_mut(&partition).filter(|reading| !reading.draining) else {
            // On its way when the partition was taken away; whoever reads it next starts before it.
            return Ok(());
        };
        if batch.range.start != reading.next {
            return Err(Box::new(Error::LogGap {
                table: self.layer.source.name.clone(),
                partition,
                delivered: batch.range.start,
                expected: reading.next,
            }));
        }
        reading.next = batch.range.end;
        reading.pending += 1;
        reading.state.set_consumed(batch.range.end);
        let message = MessageId(self.next_message);
        self.next_message += 1;
        self.pending.insert(message, Arc::clone(&reading.state));
        self.layer.facts.events.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let raw = Raw {
            state: Arc::clone(&reading.state),
            program: Arc::clone(&reading.program),
            batch,
            consumed_at: self.layer.environment().instant(),
        };
        Ok(out.emit(message, Message::Raw(Box::new(raw)))?)
    }

    /// Tells one partition of a new program, between two micro-batches; says whether there was one to tell.
    fn announce(&mut self, out: &mut SpoutOutput<Message>) -> Result<bool, BoxError> {
        let newest = self.layer.program();
        if newest.generation > self.program.generation {
            self.program = newest;
        }
        let outdated =
            |reading: &&mut Reading| !reading.draining && reading.program.generation < self.program.generation;
        let Some(reading) = self.reading.values_mut().find(outdated) else {
            return Ok(false);
        };
        reading.program = Arc::clone(&self.program);
        let adopt = Adopt {
            state: Arc::clone(&reading.state),
            at: reading.next,
            program: Arc::clone(&self.program),
        };
        out.emit_unanchored(Message::Adopt(adopt))?;
        Ok(true)
    }

    /// Takes a message off the books. Returns its state, and whether that is still what the partition is read into.
    fn ended(&mut self, message: MessageId) -> Option<(Arc<PartitionState>, bool)> {
        let state = self.pending.remove(&message)?;
        let reading = self
            .reading
            .get_mut(&state.partition)
            .filter(|reading| Arc::ptr_eq(&reading.state, &state));
        let current = reading.is_some();
        if let Some(reading) = reading {
            reading.pending -= 1;
            if reading.draining && reading.pending == 0 {
                self.forget(state.partition);
                if let Err(error) = self.subscription.release(&[state.partition]) {
                    tracing::warn!(table = self.layer.name(), partition = %state.partition, %error, "cannot release a drained partition");
                }
            }
        }
        Some((state, current))
    }

    /// Tells the log how far events are landed, for those who watch lag there.
    fn tell_landed(&mut self) {
        self.told_landed = self.layer.environment().instant();
        let landed = self
            .reading
            .values()
            .map(|reading| (reading.state.partition, reading.state.landed()))
            .collect();
        self.subscription.landed(&landed);
    }

    /// Whether nothing may be emitted now.
    fn held(&mut self, out: &SpoutOutput<Message>) -> bool {
        let over_budget = self.layer.paused.load(Ordering::Relaxed);
        if over_budget != self.said_over_budget {
            self.said_over_budget = over_budget;
            let table = self.layer.name();
            if over_budget {
                tracing::warn!(
                    table,
                    "realtime state is at twice its budget: reading pauses until a batch run is published"
                );
            } else {
                tracing::info!(table, "realtime state is below twice its budget: reading goes on");
            }
        }
        over_budget || self.pending.len() >= MAX_PENDING || !out.has_room()
    }

    fn set_paused(&mut self, paused: bool) -> Result<(), Error> {
        if self.paused == paused {
            return Ok(());
        }
        self.paused = paused;
        for partition in self.reading.keys() {
            if paused {
                unless_revoked(self.subscription.pause(*partition))?;
            } else {
                unless_revoked(self.subscription.resume(*partition))?;
            }
        }
        Ok(())
    }
}

/// Whether a call took effect. It did not when the partition was taken away and the event that says so is still to come.
fn unless_revoked(result: Result<(), LogError>) -> Result<bool, LogError> {
    match result {
        Ok(()) => Ok(true),
        Err(LogError::NotAssigned { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Spout<Message> for LogSpout {
    fn next_tuple(&mut self, out: &mut SpoutOutput<Message>) -> Result<Activity, BoxError> {
        if self.layer.shutdown.is_cancelled() {
            return Ok(Activity::Done);
        }
        self.apply_commands()?;
        let now = self.layer.environment().instant();
        if now.saturating_duration_since(self.told_landed) >= TELL_LANDED_EVERY {
            self.tell_landed();
        }
        if self.held(out) {
            if now.saturating_duration_since(*self.held_since.get_or_insert(now)) < PAUSE_AFTER {
                return Ok(Activity::Idle(HELD_WAIT));
            }
            self.set_paused(true)?;
        } else {
            self.held_since = None;
            self.set_paused(false)?;
        }
        if !self.paused && self.announce(out)? {
            return Ok(Activity::Busy);
        }
        match self.subscription.poll(self.limits) {
            Ok(None) => Ok(Activity::Busy),
            Ok(Some(LogEvent::Assigned(partitions))) => {
                self.assigned(partitions);
                Ok(Activity::Busy)
            }
            Ok(Some(LogEvent::Revoked { partitions, lost })) => {
                self.revoked(partitions, lost, out)?;
                Ok(Activity::Busy)
            }
            Ok(Some(LogEvent::Batch(batch))) => {
                self.batch(batch, out)?;
                Ok(Activity::Busy)
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::warn!(table = self.layer.name(), %error, "the log does not answer");
                Ok(Activity::Idle(RETRY_WAIT))
            }
            Err(error) => Err(Box::new(error)),
        }
    }

    fn ack(&mut self, message: MessageId) -> Result<(), BoxError> {
        self.ended(message);
        Ok(())
    }

    /// Never replays: the partition's unlanded state is discarded as a whole, and reading resumes at what is recorded.
    fn fail(&mut self, message: MessageId) -> Result<(), BoxError> {
        let Some((state, current)) = self.ended(message) else {
            return Ok(());
        };
        if !current {
            return Ok(());
        }
        let partition = state.partition;
        if let Some(reading) = self.reading.get(&partition) {
            unless_revoked(self.subscription.pause(partition))?;
            let draining = reading.draining;
            self.forget(partition);
            if draining {
                self.subscription.release(&[partition])?;
            } else if !state.is_given_up() {
                tracing::warn!(table = self.layer.name(), %partition, "a tuple failed: reading resumes at the recorded next offset");
                self.claiming.insert(partition, Claiming::Wanted);
                let epoch = state.epoch;
                self.layer.spawn(ownership::resume(
                    Arc::clone(&self.layer),
                    partition,
                    epoch,
                    self.answers.clone(),
                ));
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        self.tell_landed();
        let partitions: Vec<_> = self.reading.keys().copied().collect();
        for partition in &partitions {
            self.forget(*partition);
        }
        if let Err(error) = self.subscription.release(&partitions) {
            tracing::debug!(table = self.layer.name(), %error, "partitions were not released");
        }
    }
}
