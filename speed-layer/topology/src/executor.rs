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
    pub(crate) fn run(mut self, control: &Control) -> Result<(), BoxError> {
        self.spout.open(&self.context)?;
        while !control.stopping.load(Ordering::Acquire) {
            while let Some(ended) = self.ledger.poll(Duration::ZERO) {
                tell(&mut *self.spout, &self.counters, ended)?;
            }
            let wait = if self.ledger.open() >= self.max_pending {
                HELD_BACK
            } else {
                let since = Instant::now();
                match self.spout.next_tuple(&mut self.output)? {
                    Activity::Busy => {
                        self.counters.add_executed(since.elapsed());
                        continue;
                    }
                    Activity::Idle(wait) => wait,
                    Activity::Done => break,
                }
            };
            if let Some(ended) = self.ledger.poll(wait) {
                tell(&mut *self.spout, &self.counters, ended)?;
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
    pub(crate) fn run(mut self) -> Result<(), BoxError> {
        self.bolt.prepare(&self.context)?;
        loop {
            let wake_at = self.bolt.wake_at();
            if wake_at.is_some_and(|at| at <= Instant::now()) {
                self.bolt.wake(&mut self.output)?;
            }
            match self.inbox.receive(wake_at) {
                Received::Message(tuple) => {
                    let since = Instant::now();
                    self.bolt.execute(tuple, &mut self.output)?;
                    self.counters.add_executed(since.elapsed());
                }
                Received::TimedOut => {}
                Received::Closed => return self.bolt.finish(&mut self.output),
                Received::Killed => return Ok(()),
            }
        }
    }
}
