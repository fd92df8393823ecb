//! The acker: which messages of one spout task are still being worked on.

use std::collections::VecDeque;
use std::time::Duration;

use ahash::HashMap;
use parking_lot::{Condvar, Mutex};

use crate::MessageId;

/// How a message's tree ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acked,
    Failed,
}

/// Storm's XOR ledger. Memory per open message is constant, however many tuples its tree has: the XOR of the ids of the
/// tuples that are out. Ids are a bijection of a counter, so they never repeat; a XOR of several that happens to be zero
/// has a chance of 2^-64 per message.
pub(crate) struct Ledger {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    trees: HashMap<u64, Tree>,
    next_root: u64,
    next_edge: u64,
    /// Ended trees the spout has not heard of. Never more than were open, so it needs no bound of its own.
    ended: VecDeque<(MessageId, Outcome)>,
    closed: bool,
}

struct Tree {
    message: MessageId,
    out: u64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// Opens a tree with one id out. Returns root and id; the caller acks that id when it has emitted the first tuples.
    pub(crate) fn begin(&self, message: MessageId) -> (u64, u64) {
        let mut state = self.state.lock();
        let root = state.next_root;
        state.next_root += 1;
        let id = state.edge_id();
        state.trees.insert(root, Tree { message, out: id });
        (root, id)
    }

    /// Adds a tuple to a tree; returns its id. Must happen before the tuple it is anchored to is acked.
    pub(crate) fn add(&self, root: u64) -> u64 {
        let mut state = self.state.lock();
        let id = state.edge_id();
        if let Some(tree) = state.trees.get_mut(&root) {
            tree.out ^= id;
        }
        id
    }

    /// A tuple is done. A tree that has failed already stays failed.
    pub(crate) fn ack(&self, root: u64, id: u64) {
        let mut state = self.state.lock();
        let Some(tree) = state.trees.get_mut(&root) else { return };
        tree.out ^= id;
        if tree.out == 0 {
            state.end(root, Outcome::Acked);
            drop(state);
            self.ended.notify_one();
        }
    }

    /// Gives the whole tree up.
    pub(crate) fn fail(&self, root: u64) {
        let mut state = self.state.lock();
        if state.trees.contains_key(&root) {
            state.end(root, Outcome::Failed);
            drop(state);
            self.ended.notify_one();
        }
    }

    /// The next ended tree, waiting up to `wait` for one.
    pub(crate) fn poll(&self, wait: Duration) -> Option<(MessageId, Outcome)> {
        let mut state = self.state.lock();
        if state.ended.is_empty() && !wait.is_zero() && !state.closed {
            self.ended.wait_for(&mut state, wait);
        }
        state.ended.pop_front()
    }

    /// The next ended tree, waiting until one ends. `None` when nothing is left to wait for: every tree has ended, or the
    /// ledger is closed because nobody is left who could end one.
    pub(crate) fn drain(&self) -> Option<(MessageId, Outcome)> {
        let mut state = self.state.lock();
        loop {
            if let Some(ended) = state.ended.pop_front() {
                return Some(ended);
            }
            if state.closed || state.trees.is_empty() {
                return None;
            }
            self.ended.wait(&mut state);
        }
    }

    /// Open trees.
    pub(crate) fn open(&self) -> usize {
        self.state.lock().trees.len()
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.ended.notify_all();
    }
}

impl State {
    fn edge_id(&mut self) -> u64 {
        self.next_edge += 1;
        mix(self.next_edge)
    }

    fn end(&mut self, root: u64, outcome: Outcome) {
        if let Some(tree) = self.trees.remove(&root) {
            self.ended.push_back((tree.message, outcome));
        }
    }
}

/// The finaliser of SplitMix64: a bijection that spreads a counter over all 64 bits (Steele, Lea, Flood, 2014).
fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
