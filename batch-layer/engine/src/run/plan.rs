//! What a run folds: all of history, or what landed since the run that is served. Decisions only.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_dataset::{Manifest, Notes, RunMode};
use anabranch_model::{Cut, Offset, OffsetRange, PartitionId, RangeSet};
use anabranch_runtime::BatchMode;

/// What is known when a run begins.
pub(crate) struct Facts<'a> {
    /// `[batch] mode` and `full_every`.
    pub(crate) mode: BatchMode,
    pub(crate) full_every: u64,
    /// Whoever asked for the run wants all of history.
    pub(crate) full_requested: bool,
    /// What is served.
    pub(crate) base: Option<&'a Manifest>,
    /// A state file that it names and that is not there as it was written.
    pub(crate) base_lacks: Option<String>,
    /// The snapshot of each source, by name.
    pub(crate) sources: BTreeMap<&'a str, (&'a Cut, &'a Notes)>,
    pub(crate) views: Vec<ViewFact<'a>>,
}

/// One view as it is defined now.
pub(crate) struct ViewFact<'a> {
    pub(crate) name: &'a str,
    pub(crate) hash: &'a str,
    pub(crate) source: &'a str,
}

/// How a run goes about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunPlan {
    pub(crate) mode: RunMode,
    /// Why it is full although the settings say incremental, or which views are folded in full.
    pub(crate) reason: Option<String>,
    /// The run to build on.
    pub(crate) base: Option<String>,
    /// Incremental runs since the last full one, this one included.
    pub(crate) chain: u64,
    /// Views whose state the base has; the others are folded in full.
    pub(crate) on_base: BTreeSet<String>,
}

impl RunPlan {
    fn full(reason: Option<String>) -> Self {
        Self {
            reason,
            ..Self::default()
        }
    }
}

/// Decides what a run folds.
pub(crate) fn plan(facts: &Facts<'_>) -> RunPlan {
    if facts.mode == BatchMode::Full {
        return RunPlan::full(None);
    }
    let full = |reason: &str| RunPlan::full(Some(reason.to_owned()));
    if facts.full_requested {
        return full("asked for");
    }
    let Some(base) = facts.base else {
        return full("nothing is published yet");
    };
    if let Some(file) = &facts.base_lacks {
        return RunPlan::full(Some(format!("state files of run {} are gone: {file}", base.run_id)));
    }
    if facts.full_every > 0 && base.chain + 1 >= facts.full_every {
        return full("full_every");
    }
    if let Some(reason) = changed_notes(base, facts) {
        return RunPlan::full(Some(reason));
    }
    let (known, new): (Vec<&ViewFact<'_>>, Vec<_>) = facts.views.iter().partition(|view| {
        let published = base.views.get(view.name);
        published.is_some_and(|published| published.hash == view.hash && published.source == view.source)
    });
    if known.is_empty() {
        return full("no view is in the publication as it is defined now");
    }
    let names = |views: &[&ViewFact<'_>]| views.iter().map(|view| view.name.to_owned()).collect::<Vec<_>>();
    RunPlan {
        mode: RunMode::Incremental,
        reason: (!new.is_empty()).then(|| format!("in full: {}", names(&new).join(", "))),
        base: Some(base.run_id.clone()),
        chain: base.chain + 1,
        on_base: names(&known).into_iter().collect(),
    }
}

/// What the base counts and a run of now would not, or the other way round.
fn changed_notes(base: &Manifest, facts: &Facts<'_>) -> Option<String> {
    let nothing = Notes::default();
    for (source, (now, notes)) in &facts.sources {
        let applied = base.notes.get(*source).unwrap_or(&nothing);
        if let Some(changed) = changed_since(applied, notes, base.cuts.get(*source).unwrap_or(&Cut::default())) {
            return Some(format!("{changed} of {source}"));
        }
        let base_cut = base.cuts.get(*source);
        if base_cut.is_some_and(|cut| !now.next.covers(&cut.next)) {
            return Some(format!("the master dataset of {source} is behind what is published"));
        }
    }
    None
}

/// In a word, what of the events before `cut` counts by one of the notes only.
fn changed_since(applied: &Notes, notes: &Notes, cut: &Cut) -> Option<&'static str> {
    let before_cut = |(partition, next)| (partition, OffsetRange::new(Offset(i64::MIN), next));
    let differs = |of: &dyn Fn(&Notes, PartitionId) -> RangeSet| {
        let mut parts = cut.next.iter().map(before_cut);
        parts.any(|(partition, range)| of(applied, partition).within(range) != of(notes, partition).within(range))
    };
    if differs(&|notes, partition| notes.excluded_of(partition)) {
        return Some("exclusions");
    }
    if differs(&|notes, partition| notes.gaps.get(&partition).cloned().unwrap_or_default()) {
        return Some("gaps");
    }
    (applied.since != notes.since).then_some("retention")
}

#[cfg(test)]
mod tests;
