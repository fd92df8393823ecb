//! What may go wrong in a run, how often it did, and how often it was looked at.

use std::collections::BTreeMap;
use std::fmt;

use crate::random::Random;

/// Chances in per mille, drawn anew for every seed: some runs have one kind of fault only, some all of them.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A request fails and was not carried out.
    pub refused: u32,
    /// A write was carried out, but its answer is lost.
    pub lost_answer: u32,
    /// A write fails, and is carried out some time later.
    pub late_write: u32,
    /// A write is carried out twice, as by a client that repeats it.
    pub repeated: u32,
    /// A listing shows an earlier moment.
    pub stale_listing: u32,
    /// A request takes seconds.
    pub slow: u32,
    /// A call to a worker gets no answer.
    pub lost_call: u32,
    /// Per step of the troublemaker.
    pub crash: u32,
    pub crash_at_request: u32,
    pub pause: u32,
    pub rebalance: u32,
    pub two_owners: u32,
}

impl Faults {
    pub fn draw(random: &mut Random) -> Self {
        let calm = random.chance(60);
        let mut some = |often: u32| {
            let (on, level) = (random.chance(550), random.within(1..4));
            if on && !calm { often * level as u32 / 2 } else { 0 }
        };
        Self {
            refused: some(20),
            lost_answer: some(25),
            late_write: some(15),
            repeated: some(20),
            stale_listing: some(150),
            slow: some(8),
            lost_call: some(30),
            crash: some(180),
            crash_at_request: some(180),
            pause: some(180),
            rebalance: some(220),
            two_owners: some(120),
        }
    }
}

/// What a count is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// What was compared with the log.
    Checked,
    /// What was done to the run.
    Faults,
    /// What came of it.
    Happened,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checked => "checked",
            Self::Faults => "faults injected",
            Self::Happened => "what happened",
        })
    }
}

/// What was done to a run, and what was checked in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<(Section, &'static str), u64>);

impl Counts {
    /// Counts something that was compared with the log.
    pub(crate) fn checked(&mut self, what: &'static str, count: u64) {
        *self.0.entry((Section::Checked, what)).or_default() += count;
    }

    /// Counts a fault that was injected.
    pub(crate) fn fault(&mut self, what: &'static str) {
        *self.0.entry((Section::Faults, what)).or_default() += 1;
    }

    /// Counts something that the product did.
    pub(crate) fn happened(&mut self, what: &'static str, count: u64) {
        *self.0.entry((Section::Happened, what)).or_default() += count;
    }

    /// How often `what` was counted.
    pub fn get(&self, section: Section, what: &'static str) -> u64 {
        self.0.get(&(section, what)).copied().unwrap_or(0)
    }

    /// Everything that was counted, section by section.
    pub fn iter(&self) -> impl Iterator<Item = (Section, &'static str, u64)> {
        self.0.iter().map(|((section, what), count)| (*section, *what, *count))
    }

    /// Adds what another run counted.
    pub fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(*what).or_default() += count;
        }
    }
}
