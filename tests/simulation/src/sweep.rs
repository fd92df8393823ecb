//! Runs many seeds, as many at once as there are threads.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::faults::Counts;
use crate::mutation::Mutation;
use crate::run::{Outcome, Stage};

/// Which seeds to run, and how.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    pub seeds: Range<u64>,
    /// Threads, each of which runs a seed of its own; 0 takes one per core.
    pub threads: usize,
    /// Breaks something on purpose.
    pub mutation: Option<Mutation>,
    /// Runs each seed a second time, and calls it failed if that goes another way.
    pub twice: bool,
}

/// What came of a sweep so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Seeds that have ended.
    pub seeds: u64,
    /// Over all of them.
    pub counts: Counts,
    /// Those that failed; in order of their seeds once the sweep has ended.
    pub failed: Vec<Outcome>,
    /// Virtual time that passed in all of them, in microseconds.
    pub virtual_micros: u64,
    /// Over the hashes of all, in whatever order they ended.
    pub hash: u64,
}

/// Hears of each seed while a sweep goes on, on whichever thread runs it.
pub trait Watcher: Sync {
    /// A seed begins.
    fn began(&self, seed: u64);

    /// It has ended; `so_far` counts it already.
    fn ended(&self, outcome: &Outcome, so_far: &Summary);
}

/// Watches nothing.
impl Watcher for () {
    fn began(&self, _: u64) {}

    fn ended(&self, _: &Outcome, _: &Summary) {}
}

impl Sweep {
    /// Threads that it takes.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// Runs all seeds to their end, also after one has failed.
    pub fn run(&self, watcher: &impl Watcher) -> Summary {
        let (next, summary) = (AtomicU64::new(self.seeds.start), Mutex::new(Summary::default()));
        thread::scope(|scope| {
            for _ in 0..self.threads() {
                scope.spawn(|| {
                    let stage = Stage::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end {
                            return;
                        }
                        watcher.began(seed);
                        let outcome = self.run_one(&stage, seed);
                        let mut summary = summary.lock();
                        summary.add(&outcome);
                        watcher.ended(&outcome, &summary);
                    }
                });
            }
        });
        let mut summary = summary.into_inner();
        summary.failed.sort_by_key(|outcome| outcome.seed);
        summary
    }

    fn run_one(&self, stage: &Stage, seed: u64) -> Outcome {
        let mut outcome = stage.run_mutated(seed, self.mutation);
        if self.twice {
            let second = stage.run_mutated(seed, self.mutation);
            if second != outcome {
                outcome.violations.push(format!(
                    "it runs another way the second time: hash {:016x}, then {:016x}",
                    outcome.hash, second.hash
                ));
            }
        }
        outcome
    }
}

impl Summary {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.counts.merge(&outcome.counts);
        self.virtual_micros += outcome.virtual_micros;
        // Each hash depends on its seed already, and seeds end in no order.
        self.hash ^= outcome.hash;
        if !outcome.violations.is_empty() {
            self.failed.push(outcome.clone());
        }
    }
}
