//! The surroundings of one simulated process.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anabranch_dataset::{Rule, Simulated};
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::mutation::Mutation;
use crate::scheduler::{Micros, ProcessId, Scheduler};

/// Time, chance and tasks of one incarnation of a process.
pub struct Surroundings {
    pub scheduler: Arc<Scheduler>,
    pub process: ProcessId,
    /// How far its wall clock is ahead of the world's.
    pub skew: TimeDelta,
    pub mutation: Option<Mutation>,
}

/// A moment by the wall clock of the store and of producers, which is right.
pub fn wall_clock(moment: Micros) -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000, 0).expect("a time in 2025") + TimeDelta::microseconds(moment.cast_signed())
}

/// What virtual time counts from, by the monotonic clock. Only differences of instants mean anything.
fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(Instant::now)
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

impl Simulated for Surroundings {
    fn now(&self) -> DateTime<Utc> {
        wall_clock(self.scheduler.now()) + self.skew
    }

    fn instant(&self) -> Instant {
        beginning() + Duration::from_micros(self.scheduler.now())
    }

    fn random(&self) -> u64 {
        self.scheduler.draw(crate::random::Random::next)
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.scheduler.sleep(wait).boxed()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.scheduler.spawn(self.process, task);
    }

    fn offload(&self, work: &mut dyn FnMut()) {
        self.scheduler.offload(work);
    }

    fn leaves_out(&self, rule: Rule) -> bool {
        self.mutation.is_some_and(|mutation| mutation.leaves_out(rule))
    }
}
