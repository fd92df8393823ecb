//! What runs on a task's thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::channel::{Inbox, Received};
use crate::ledger::{Ledger, Outcome};
use crate::output::{Output, SpoutOutput};
use crate::stats::Counters;
use crate::topology::Control;
use crate::{Activity, Bolt, BoxError, MessageId, Spout, TaskContext, Tuple};

/// How long a spout that may not emit waits before it looks at its stop flag again.
const HELD_BACK: Duration = Duration::from_millis(20);

pub(crate) struct SpoutTask<T> {
    pub(crate) context: TaskContext,
    pub(crate) spout: Box<dyn Spout<T>>,
    pub(crate) output: SpoutOutput<T>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) max_pending: usize,
    pub(crate) counters: Arc<Counters>,
}

impl<T: Clone + 'static> SpoutTask<T> {
    pub(crate) fn open(&mut self) -> Result<(), BoxError> {
        self.spout.open(&self.context)
    }

    /// Tells the spout what has ended, then asks it for a tuple unless too many messages are open.
    pub(crate) fn step(&mut self) -> Result<Activity, BoxError> {
        while let Some(ended) = self.ledger.poll(Duration::ZERO) {
            tell(&mut *self.spout, &self.counters, ended)?;
        }
        if self.ledger.open() >= self.max_pending {
            return Ok(Activity::Idle(HELD_BACK));
        }
        let since = Instant::now();
        let activity = self.spout.next_tuple(&mut self.output)?;
        if activity == Activity::Busy {
            self.counters.add_executed(since.elapsed());
        }
        Ok(activity)
    }

    pub(crate) fn run(mut self, control: &Control) -> Result<(), BoxError> {
        self.open()?;
        while !control.stopping.load(Ordering::Acquire) {
            match self.step()? {
                Activity::Busy => {}
                Activity::Idle(wait) => {
                    if let Some(ended) = self.ledger.poll(wait) {
                        tell(&mut *self.spout, &self.counters, ended)?;
                    }
                }
                Activity::Done => break,
            }
        }
        let Self {
            mut spout,
            output,
            ledger,
            counters,
            ..
        } = self;
        // Closes the inboxes downstream, so that bolts finish and end the trees that are still open.
        drop(output);
        while let Some(ended) = ledger.drain() {
            tell(&mut *spout, &counters, ended)?;
        }
        spout.close();
        Ok(())
    }
}

fn tell<T: 'static>(
    spout: &mut dyn Spout<T>,
    counters: &Counters,
    ended: (MessageId, Outcome),
) -> Result<(), BoxError> {
    match ended {
        (message, Outcome::Acked) => {
            counters.add_acked();
            spout.ack(message)
        }
        (message, Outcome::Failed) => {
            counters.add_failed();
            spout.fail(message)
        }
    }
}

pub(crate) struct BoltTask<T> {
    pub(crate) context: TaskContext,
    pub(crate) bolt: Box<dyn Bolt<T>>,
    pub(crate) inbox: Arc<Inbox<Tuple<T>>>,
    pub(crate) output: Output<T>,
    pub(crate) counters: Arc<Counters>,
}

impl<T: Clone + 'static> BoltTask<T> {
    pub(crate) fn prepare(&mut self) -> Result<(), BoxError> {
        self.bolt.prepare(&self.context)
    }

    /// Wakes the bolt if that is due at `now`; returns when it was due.
    pub(crate) fn wake_if_due(&mut self, now: Instant) -> Result<Option<Instant>, BoxError> {
        let wake_at = self.bolt.wake_at();
        if wake_at.is_some_and(|at| at <= now) {
            self.bolt.wake(&mut self.output)?;
        }
        Ok(wake_at)
    }

    pub(crate) fn execute(&mut self, tuple: Tuple<T>) -> Result<(), BoxError> {
        let since = Instant::now();
        self.bolt.execute(tuple, &mut self.output)?;
        self.counters.add_executed(since.elapsed());
        Ok(())
    }

    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.bolt.wake_at()
    }

    pub(crate) fn run(mut self) -> Result<(), BoxError> {
        self.prepare()?;
        loop {
            let wake_at = self.wake_if_due(Instant::now())?;
            match self.inbox.receive(wake_at) {
                Received::Message(tuple) => self.execute(tuple)?,
                Received::TimedOut => {}
                Received::Closed => return self.bolt.finish(&mut self.output),
                Received::Killed => return Ok(()),
            }
        }
    }
}
