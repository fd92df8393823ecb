use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Counters of one component, shared by its tasks. They only ever grow.
#[derive(Default)]
pub(crate) struct Counters {
    emitted: AtomicU64,
    executed: AtomicU64,
    acked: AtomicU64,
    failed: AtomicU64,
    blocked_nanos: AtomicU64,
    busy_nanos: AtomicU64,
}

impl Counters {
    pub(crate) fn add_emitted(&self) {
        self.emitted.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn add_executed(&self, busy: Duration) {
        self.executed.fetch_add(1, Ordering::Relaxed);
        self.busy_nanos.fetch_add(nanos(busy), Ordering::Relaxed);
    }
    pub(crate) fn add_acked(&self) {
        self.acked.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn add_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn add_blocked(&self, blocked: Duration) {
        if !blocked.is_zero() {
            self.blocked_nanos.fetch_add(nanos(blocked), Ordering::Relaxed);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentKind {
    Spout,
    Bolt,
}

/// What one component has done since the topology started, over all its tasks.
#[derive(Clone, Debug, Serialize)]
pub struct ComponentStats {
    pub component: String,
    pub kind: ComponentKind,
    pub tasks: usize,
    /// Tuples put into inboxes.
    pub emitted: u64,
    /// Calls of `execute` (bolt) or of `next_tuple` that were busy (spout).
    pub executed: u64,
    /// Tuples acked (bolt), messages whose tree completed (spout).
    pub acked: u64,
    /// Tuples failed (bolt), messages whose tree failed (spout).
    pub failed: u64,
    /// Tuples waiting in the fullest inbox of its tasks now.
    pub queue_fill: usize,
    /// Capacity of each inbox; 0 for a spout.
    pub queue_capacity: usize,
    /// Messages not yet acked or failed; 0 for a bolt.
    pub pending: usize,
    /// Time its tasks have waited to send, in milliseconds.
    pub blocked_ms: u64,
    /// Time its tasks have spent in `execute` or busy `next_tuple`, waiting to send included, in milliseconds.
    pub busy_ms: u64,
}

impl ComponentStats {
    pub(crate) fn new(
        component: &Arc<str>,
        kind: ComponentKind,
        tasks: usize,
        counters: &Counters,
        (queue_fill, queue_capacity): (usize, usize),
        pending: usize,
    ) -> Self {
        Self {
            component: component.to_string(),
            kind,
            tasks,
            emitted: counters.emitted.load(Ordering::Relaxed),
            executed: counters.executed.load(Ordering::Relaxed),
            acked: counters.acked.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
            queue_fill,
            queue_capacity,
            pending,
            blocked_ms: counters.blocked_nanos.load(Ordering::Relaxed) / 1_000_000,
            busy_ms: counters.busy_nanos.load(Ordering::Relaxed) / 1_000_000,
        }
    }
}
