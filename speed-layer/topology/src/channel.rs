//! A task's inbox: a bounded queue of many senders and one receiver that can be closed (drain) or killed (drop).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Tuples are batches, so one lock per send is not on any event's path; in return fill and blocked time come for free.
pub(crate) struct Inbox<M> {
    state: Mutex<State<M>>,
    not_empty: Condvar,
    not_full: Condvar,
    capacity: usize,
}

struct State<M> {
    queue: VecDeque<M>,
    senders: usize,
    killed: bool,
}

/// What a receiver got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<M> {
    Message(M),
    TimedOut,
    /// Every sender is gone and the queue is empty.
    Closed,
    Killed,
}

/// The inbox was killed; the message is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Killed;

/// One sender's handle; the inbox closes when the last one is dropped.
pub(crate) struct Sender<M> {
    inbox: Arc<Inbox<M>>,
}

impl<M> Inbox<M> {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                queue: VecDeque::with_capacity(capacity),
                senders: 0,
                killed: false,
            }),
            not_empty: Condvar::new(),
            not_full: Condvar::new(),
            capacity,
        })
    }

    pub(crate) fn sender(self: &Arc<Self>) -> Sender<M> {
        self.state.lock().senders += 1;
        Sender {
            inbox: Arc::clone(self),
        }
    }

    /// Waits for the next message, no longer than until `deadline`.
    pub(crate) fn receive(&self, deadline: Option<Instant>) -> Received<M> {
        let mut state = self.state.lock();
        loop {
            if state.killed {
                return Received::Killed;
            }
            if let Some(message) = state.queue.pop_front() {
                drop(state);
                self.not_full.notify_one();
                return Received::Message(message);
            }
            if state.senders == 0 {
                return Received::Closed;
            }
            match deadline {
                None => self.not_empty.wait(&mut state),
                Some(deadline) => {
                    if self.not_empty.wait_until(&mut state, deadline).timed_out() && state.queue.is_empty() {
                        return if state.killed {
                            Received::Killed
                        } else {
                            Received::TimedOut
                        };
                    }
                }
            }
        }
    }

    /// The next message, if one is there.
    pub(crate) fn take(&self) -> Option<M> {
        let message = self.state.lock().queue.pop_front();
        if message.is_some() {
            self.not_full.notify_one();
        }
        message
    }

    /// Drops what is queued and refuses everything from now on.
    pub(crate) fn kill(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.killed = true;
            std::mem::take(&mut state.queue)
        };
        self.not_empty.notify_all();
        self.not_full.notify_all();
        // Dropping tuples fails their trees, which takes other locks: not under ours.
        drop(dropped);
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().queue.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }
}

impl<M> Sender<M> {
    /// Enqueues, waiting while the inbox is full; returns how long that was.
    pub(crate) fn send(&self, message: M) -> Result<Duration, Killed> {
        let inbox = &self.inbox;
        let mut state = inbox.state.lock();
        let mut blocked = Duration::ZERO;
        if state.queue.len() >= inbox.capacity && !state.killed {
            let since = Instant::now();
            while state.queue.len() >= inbox.capacity && !state.killed {
                inbox.not_full.wait(&mut state);
            }
            blocked = since.elapsed();
        }
        if state.killed {
            drop(state);
            return Err(Killed);
        }
        state.queue.push_back(message);
        drop(state);
        inbox.not_empty.notify_one();
        Ok(blocked)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.inbox.len() < self.inbox.capacity
    }
}

impl<M> Drop for Sender<M> {
    fn drop(&mut self) {
        let last = {
            let mut state = self.inbox.state.lock();
            state.senders -= 1;
            state.senders == 0
        };
        if last {
            self.inbox.not_empty.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
