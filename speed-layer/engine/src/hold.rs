//! What is decided about a partition that the group has given to this worker and that is not being read. The spout carries
//! it out.
//!
//! ```text
//!   assigned ─► Claiming ─► reading ─┬─ a tuple failed, or its place is gone ─► Claiming (a look at what is recorded)
//!                  ▲                 └─ another worker has claimed it ─► Contested ─┐
//!                  └───────────────── the group confirms that it is still ours ◄────┘
//! ```
//!
//! A partition that is lost stays served: see `spout/lost.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anabranch_model::PartitionId;

/// How soon a partition is claimed again that somebody else has claimed; longer after each further time. Never for long: the
/// group is asked first, and nobody reads the partition meanwhile.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// A claim that has held this long was good: the next loss counts as the first.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// Why an assigned partition is not read.
#[derive(Debug)]
pub(crate) enum Hold {
    /// A claim, or a look at what is recorded, is under way.
    Claiming { wanted: Wanted, then: Then },
    /// Somebody else has claimed it, though the group gave it to us: the group is asked from `ask_at` on whether it still
    /// does. Without that, a worker that has slept through a rebalance would take it away from its owner.
    Contested { ask_at: Instant },
    /// The log does not continue what was landed; somebody has to decide.
    Stopped,
}

/// What follows when a claim is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Read,
    /// Revoked meanwhile: it may move on. Only when the claim is through: committed after the next owner's, it would take
    /// the partition away from it.
    Release,
    /// Lost meanwhile: it has moved already.
    Forget,
    /// It came back: whoever had it in between may have claimed it since.
    ClaimAgain,
}

/// Whether a claim under way is still wanted: a claim that waits for a store to answer must not be committed when the
/// partition has moved long since.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) partition: PartitionId,
    given_up: Arc<AtomicBool>,
}

impl Wanted {
    pub(crate) fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            given_up: Arc::default(),
        }
    }

    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        !self.given_up.load(Ordering::Acquire)
    }
}

/// How often partitions were claimed by others while the group said that they were ours.
#[derive(Debug, Default)]
pub(crate) struct Losses(BTreeMap<PartitionId, (u32, Instant)>);

impl Losses {
    /// Notes one more, and says how long to wait before claiming it again.
    pub(crate) fn lost(&mut self, partition: PartitionId, now: Instant) -> Duration {
        let (count, last) = self.0.entry(partition).or_insert((0, now));
        if now.saturating_duration_since(*last) >= FORGOTTEN_AFTER {
            *count = 0;
        }
        let wait = FIRST_WAIT.saturating_mul(1 << (*count).min(16)).min(LONGEST_WAIT);
        (*count, *last) = (*count + 1, now);
        wait
    }
}

#[cfg(test)]
mod tests;
