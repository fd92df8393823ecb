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
use crate::hold::{Hold, Losses, Then, Wanted};
use crate::message::{Adopt, Message, Raw};
use crate::ownership::{self, Command};
use crate::program::Program;
use crate::source::SourceLayer;
use crate::state::PartitionState;

mod lost;

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
/// How soon the group is asked again whether a contested partition is ours, after it said no.
const ASK_AGAIN: Duration = Duration::from_secs(1);
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
    /// Assigned, and not read (yet).
    holds: BTreeMap<PartitionId, Hold>,
    losses: Losses,
    pending: HashMap<MessageId, Arc<PartitionState>>,
    next_message: u64,
    held_since: Option<Instant>,
    paused: bool,
    said_over_budget: bool,
    /// When the log was last told how far events are landed.
    told_landed: Instant,
}

struct Reading {
    state: Arc<PartitionState>,
    program: Arc<Program>,
    next: Offset,
    pending: usize,
    /// Set when nothing more is read of it: what to do when nothing is pending.
    ending: Option<Ending>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Revoked: it may move on.
    Release,
    /// Its place in the log is not held: look at what is recorded, and at what the log holds.
    Look,
    /// Lost: it stays served as far as it was read, and what was read goes on being landed, until somebody else has claimed
    /// it, or the group gives it back.
    Keep,
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
            holds: BTreeMap::new(),
            losses: Losses::default(),
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
            let (partition, started) = match &command {
                Command::Start { state, program } => (state.partition, Some((Arc::clone(state), Arc::clone(program)))),
                Command::ReadOn { partition }
                | Command::NotOurs { partition }
                | Command::NotClaimed { partition }
                | Command::Stopped { partition } => (*partition, None),
            };
            let then = match self.holds.remove(&partition) {
                Some(Hold::Claiming { then, .. }) => then,
                // Nobody waits for it.
                Some(hold) => {
                    self.holds.insert(partition, hold);
                    Then::Forget
                }
                None => Then::Forget,
            };
            if then != Then::Read {
                if let Some((state, _)) = &started {
                    self.layer.remove_partition(state);
                }
                self.layer.forget_stopped(partition);
            }
            match then {
                Then::Forget => {}
                Then::Release => self.subscription.release(&[partition])?,
                Then::ClaimAgain => self.assigned(vec![partition]),
                Then::Read => match (command, started) {
                    (_, Some((state, program))) => self.start(state, program)?,
                    (Command::Stopped { .. }, None) => {
                        self.holds.insert(partition, Hold::Stopped);
                    }
                    (Command::ReadOn { .. }, None) => self.read_on(partition)?,
                    (Command::NotClaimed { .. }, None) => {
                        self.forget(partition);
                        self.claim(vec![partition]);
                    }
                    (_, None) => self.contested(partition),
                },
            }
        }
        Ok(())
    }

    /// Begins to read a partition that is ours.
    fn start(&mut self, state: Arc<PartitionState>, program: Arc<Program>) -> Result<(), Error> {
        let (partition, next) = (state.partition, state.from);
        tracing::info!(table = self.layer.name(), %partition, epoch = state.epoch, %next, "reading");
        match self.subscription.start(partition, next) {
            Ok(()) => {}
            Err(LogError::NotAssigned { .. }) => {
                self.layer.remove_partition(&state);
                return Ok(());
            }
            // Retention has passed it just now, or nobody answers: what is recorded and what is held is looked at again.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Unavailable) => {
                tracing::warn!(table = self.layer.name(), %partition, %error, "a partition could not be started");
                self.layer.remove_partition(&state);
                self.look(partition, state.epoch);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
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
                ending: None,
            },
        );
        Ok(())
    }

    fn assigned(&mut self, partitions: Vec<PartitionId>) {
        let mut fresh = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let kept = self.kept(partition).map(|reading| reading.state.epoch);
            if kept.is_none() {
                self.forget(partition);
            }
            match (self.holds.get_mut(&partition), kept) {
                (Some(Hold::Claiming { then, .. }), _) => *then = Then::ClaimAgain,
                (_, Some(epoch)) => self.ask_to_read_on(partition, epoch),
                (_, None) => fresh.push(partition),
            }
        }
        self.claim(fresh);
    }

    /// Claims partitions in the background.
    fn claim(&mut self, partitions: Vec<PartitionId>) {
        if partitions.is_empty() {
            return;
        }
        let wanted: Vec<Wanted> = partitions
            .into_iter()
            .map(|partition| self.wait_for(partition))
            .collect();
        let claim = ownership::claim(Arc::clone(&self.layer), wanted, self.answers.clone());
        self.layer.spawn(claim);
    }

    /// Looks in the background where to read on under an epoch that is ours.
    fn look(&mut self, partition: PartitionId, epoch: i64) {
        let wanted = self.wait_for(partition);
        let look = ownership::resume(Arc::clone(&self.layer), wanted, epoch, self.answers.clone());
        self.layer.spawn(look);
    }

    /// Notes that an answer about a partition will come.
    fn wait_for(&mut self, partition: PartitionId) -> Wanted {
        let wanted = Wanted::new(partition);
        let hold = Hold::Claiming {
            wanted: wanted.clone(),
            then: Then::Read,
        };
        self.holds.insert(partition, hold);
        wanted
    }

    /// Somebody else has claimed a partition that the group gave to us.
    fn contested(&mut self, partition: PartitionId) {
        let now = self.layer.environment().instant();
        let wait = self.losses.lost(partition, now);
        tracing::error!(
            table = self.layer.name(), %partition, ?wait,
            "another worker has claimed the partition; it is claimed again if the group still gives it to us then"
        );
        self.holds.insert(partition, Hold::Contested { ask_at: now + wait });
    }

    /// Claims contested partitions again that the group still gives to us.
    fn claim_contested(&mut self, now: Instant) -> Result<(), Error> {
        let due = |(partition, hold): (&PartitionId, &Hold)| match hold {
            Hold::Contested { ask_at } if *ask_at <= now => Some(*partition),
            _ => None,
        };
        let due: Vec<_> = self.holds.iter().filter_map(due).collect();
        let mut ours = Vec::new();
        for partition in due {
            match self.subscription.confirm(partition)? {
                None => {}
                Some(true) => ours.push(partition),
                Some(false) => {
                    let ask_at = now + ASK_AGAIN;
                    self.holds.insert(partition, Hold::Contested { ask_at });
                }
            }
        }
        self.claim(ours);
        Ok(())
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
            if let Some(Hold::Claiming { wanted, then }) = self.holds.get_mut(&partition) {
                wanted.give_up();
                *then = if lost { Then::Forget } else { Then::Release };
                // One that was to be read on stays kept.
                continue;
            }
            self.holds.remove(&partition);
            self.layer.forget_stopped(partition);
            match self.reading.get_mut(&partition) {
                Some(reading) if lost && reading.state.is_live() => self.keep(partition),
                Some(reading) if !lost && reading.pending > 0 => {
                    reading.ending = Some(Ending::Release);
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

    /// The log does not hold the place where a partition is read: what was read before it is landed first.
    fn out_of_range(&mut self, partition: PartitionId, out: &mut SpoutOutput<Message>) -> Result<(), BoxError> {
        let Some(reading) = self
            .reading
            .get_mut(&partition)
            .filter(|reading| reading.ending.is_none())
        else {
            return Ok(());
        };
        reading.ending = Some(Ending::Look);
        if reading.pending > 0 {
            out.emit_unanchored(Message::Flush(partition))?;
        } else {
            self.end(partition, Ending::Look);
        }
        Ok(())
    }

    /// Nothing is pending of a partition that is not read on.
    fn end(&mut self, partition: PartitionId, ending: Ending) {
        if ending == Ending::Keep {
            return;
        }
        let epoch = self.reading.get(&partition).map(|reading| reading.state.epoch);
        self.forget(partition);
        match ending {
            Ending::Keep => {}
            Ending::Release => {
                if let Err(error) = self.subscription.release(&[partition]) {
                    tracing::warn!(table = self.layer.name(), %partition, %error, "cannot release a drained partition");
                }
            }
            Ending::Look => {
                if let Some(epoch) = epoch {
                    self.look(partition, epoch);
                }
            }
        }
    }

    fn forget(&mut self, partition: PartitionId) {
        if let Some(reading) = self.reading.remove(&partition) {
            self.layer.remove_partition(&reading.state);
        }
    }

    fn batch(&mut self, batch: RawBatch, out: &mut SpoutOutput<Message>) -> Result<(), BoxError> {
        let partition = batch.partition;
        let Some(reading) = self
            .reading
            .get_mut(&partition)
            .filter(|reading| reading.ending.is_none())
        else {
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
        // One that is kept answers for views that are new as well, once they are folded from what it has landed.
        let outdated = |reading: &&mut Reading| {
            matches!(reading.ending, None | Some(Ending::Keep)) && reading.program.generation < self.program.generation
        };
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
            if let (Some(ending), 0) = (reading.ending, reading.pending) {
                self.end(state.partition, ending);
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
                    state_bytes = self.layer.state_bytes(),
                    landing_bytes = self.layer.landing_bytes(),
                    "realtime state and what waits to be landed are at twice the budget: reading pauses until a batch run is \
                     published or the store takes the landings"
                );
            } else {
                tracing::info!(table, "memory is below twice its budget: reading goes on");
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
        if self.layer.ending.is_cancelled() {
            return Ok(Activity::Done);
        }
        self.apply_commands()?;
        let now = self.layer.environment().instant();
        if now.saturating_duration_since(self.told_landed) >= TELL_LANDED_EVERY {
            self.tell_landed();
            self.forget_claimed();
        }
        self.claim_contested(now)?;
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
            Ok(Some(LogEvent::OutOfRange {
                partition,
                wanted,
                first,
                next,
            })) => {
                tracing::error!(table = self.layer.name(), %partition, %wanted, %first, %next, "the log does not hold the partition's place");
                self.out_of_range(partition, out)?;
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
            let ending = reading.ending;
            if ending == Some(Ending::Keep) {
                // Somebody else has claimed it. Nothing is left to be served, or to be read on from.
                self.forget(partition);
                return Ok(());
            }
            unless_revoked(self.subscription.pause(partition))?;
            self.forget(partition);
            if ending == Some(Ending::Release) {
                self.subscription.release(&[partition])?;
            } else if state.is_given_up() {
                self.contested(partition);
            } else {
                tracing::warn!(table = self.layer.name(), %partition, "a tuple failed: reading resumes at the recorded next offset");
                self.look(partition, state.epoch);
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
