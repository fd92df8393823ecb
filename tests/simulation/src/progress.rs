//! What is shown while many seeds run: a bar on a terminal, a line now and then elsewhere, and each failure at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anabranch_simulation::{Outcome, Summary, Sweep, Watcher};
use indicatif::{ProgressBar, ProgressStyle};

/// Where there is no terminal: how often a line is written.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// A seed that takes longer than this is named: it may never end.
const LONG: Duration = Duration::from_secs(60);

pub struct Progress {
    bar: ProgressBar,
    total: u64,
    began: Instant,
    state: Mutex<State>,
}

struct State {
    line: Instant,
    /// Seeds that are being run, since when, and whether they have been called long.
    running: BTreeMap<u64, (Instant, bool)>,
}

impl Progress {
    pub fn new(sweep: &Sweep) -> Self {
        let total = sweep.seeds.end - sweep.seeds.start;
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds  {per_sec}  {eta} left  {msg}");
        let bar = ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let now = Instant::now();
        Self {
            bar,
            total,
            began: now,
            state: Mutex::new(State {
                line: now,
                running: BTreeMap::new(),
            }),
        }
    }

    /// Takes the bar away; says how long it all took.
    pub fn finish(&self) -> Duration {
        self.bar.finish_and_clear();
        self.began.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a line without tearing the bar.
    fn say(&self, line: &str) {
        self.bar.suspend(|| println!("{line}"));
    }

    fn line(&self, so_far: &Summary) -> String {
        let rate = so_far.seeds as f64 / self.began.elapsed().as_secs_f64();
        let left = (self.total - so_far.seeds) as f64 / rate;
        format!(
            "{}/{} seeds, {rate:.1} a second, {} failed, {left:.0} s left",
            so_far.seeds,
            self.total,
            so_far.failed.len()
        )
    }
}

impl Watcher for Progress {
    fn began(&self, seed: u64) {
        self.state().running.insert(seed, (Instant::now(), false));
    }

    fn ended(&self, outcome: &Outcome, so_far: &Summary) {
        for line in crate::failures(outcome) {
            self.say(&line);
        }
        if !outcome.violations.is_empty() {
            self.bar.set_message(format!("{} failed", so_far.failed.len()));
        }
        self.bar.inc(1);
        let mut state = self.state();
        state.running.remove(&outcome.seed);
        for (seed, (since, named)) in &mut state.running {
            if since.elapsed() > LONG && !*named {
                *named = true;
                self.say(&format!(
                    "seed {seed} has been running for {} s",
                    since.elapsed().as_secs()
                ));
            }
        }
        if self.bar.is_hidden() && state.line.elapsed() > LINE_EVERY {
            state.line = Instant::now();
            eprintln!("{}", self.line(so_far));
        }
    }
}
