//! A topology without threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::executor::{BoltTask, SpoutTask};
use crate::topology::chain;
use crate::{Activity, BoxError, Error, TaskContext};

/// A topology whose tasks work when they are told to, one step at a time: spouts, bolts, groupings, inboxes and acking are
/// those of a [`Topology`](crate::Topology); only the threads are left out. Dropping it drops what is in flight, as a
/// crash would.
pub struct SteppedTopology<T> {
    name: Arc<str>,
    tasks: Vec<Task<T>>,
}

enum Task<T> {
    Spout(SpoutTask<T>),
    Bolt(BoltTask<T>),
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something was done.
    Worked,
    /// There was nothing to do; there may be after this long, or when another task has worked.
    Idle(Option<Duration>),
    /// An inbox downstream is full: that task must work first.
    Blocked,
    /// The spout has nothing ever again.
    Done,
}

impl<T: Clone + Send + 'static> SteppedTopology<T> {
    pub(crate) fn start(name: Arc<str>, spouts: Vec<SpoutTask<T>>, bolts: Vec<BoltTask<T>>) -> Result<Self, Error> {
        let mut tasks: Vec<Task<T>> = spouts.into_iter().map(Task::Spout).collect();
        tasks.extend(bolts.into_iter().map(Task::Bolt));
        for task in &mut tasks {
            let prepared = match task {
                Task::Spout(spout) => spout.open(),
                Task::Bolt(bolt) => bolt.prepare(),
            };
            prepared.map_err(|error| failed(&name, task.context(), &error))?;
        }
        Ok(Self { name, tasks })
    }

    /// Number of tasks; spouts come first, then bolts in the order of their declaration.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Which task `task` is.
    pub fn context(&self, task: usize) -> &TaskContext {
        self.tasks[task].context()
    }

    /// Lets one task do one thing: a spout is told what has ended and asked for a tuple, a bolt is woken if that is due at
    /// `now` and given one tuple.
    ///
    /// # Errors
    /// Names the component that failed.
    pub fn step(&mut self, task: usize, now: Instant) -> Result<Step, Error> {
        let task = &mut self.tasks[task];
        let stepped = match task {
            Task::Spout(spout) => step_spout(spout),
            Task::Bolt(bolt) => step_bolt(bolt, now),
        };
        stepped.map_err(|error| failed(&self.name, task.context(), &error))
    }
}

fn step_spout<T: Clone + 'static>(spout: &mut SpoutTask<T>) -> Result<Step, BoxError> {
    Ok(match spout.step()? {
        Activity::Busy => Step::Worked,
        Activity::Idle(wait) => Step::Idle(Some(wait)),
        Activity::Done => Step::Done,
    })
}

fn step_bolt<T: Clone + 'static>(bolt: &mut BoltTask<T>, now: Instant) -> Result<Step, BoxError> {
    // A bolt that emits into a full inbox waits for another thread to empty it.
    if !bolt.output.has_room() {
        return Ok(Step::Blocked);
    }
    let woken = bolt.wake_if_due(now)?.is_some_and(|at| at <= now);
    match bolt.inbox.take() {
        Some(tuple) => {
            bolt.execute(tuple)?;
            Ok(Step::Worked)
        }
        None if woken => Ok(Step::Worked),
        None => Ok(Step::Idle(bolt.next_wake().map(|at| at.saturating_duration_since(now)))),
    }
}

impl<T> Task<T> {
    fn context(&self) -> &TaskContext {
        match self {
            Self::Spout(spout) => &spout.context,
            Self::Bolt(bolt) => &bolt.context,
        }
    }
}

fn failed(topology: &str, context: &TaskContext, error: &BoxError) -> Error {
    Error::Failed {
        topology: topology.to_owned(),
        component: context.component.clone(),
        task: context.task,
        message: chain(&**error),
    }
}
