//! How far back a partition's state must reach for a publication that is about to be served again.
//!
//! A rollback lowers the cut. What lies between it and what is held was dropped when the newer publication replaced it, so it is
//! folded again from landed rows; meanwhile the state goes on answering from the cut that is served.

use std::collections::BTreeMap;

use anabranch_model::Offset;

use super::{Held, PartitionState, ViewPhase, ViewState};

/// What a rollback asks of a partition.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// By view: where its state must begin, or a run in it.
    cuts: BTreeMap<usize, Offset>,
    /// Whether somebody folds for it.
    folding: bool,
}

impl Reach {
    /// Where the state of a view that can answer must be divided and is not; and up to where rows must be landed for that.
    pub(super) fn pending(&self, id: usize, view: &ViewState) -> Option<Offset> {
        let cut = *self.cuts.get(&id)?;
        let ready = view.phase == ViewPhase::Ready;
        (ready && !view.is_divided_at(cut)).then(|| cut.max(view.held_from()))
    }
}

impl ViewState {
    fn is_divided_at(&self, cut: Offset) -> bool {
        self.lanes
            .iter()
            .all(|lane| matches!(lane.locate(cut), Held::From { .. }))
    }
}

impl PartitionState {
    /// Takes note of the cuts, by view, that are about to be served again; none when that is over. Returns whether state must
    /// be folded for them: see [`Self::rebuilding`].
    pub(crate) fn reach_back(&self, cuts: BTreeMap<usize, Offset>) -> bool {
        let mut inner = self.inner.lock();
        inner.reach.cuts = cuts;
        let reach = &inner.reach;
        inner.views.iter().any(|(id, view)| reach.pending(*id, view).is_some())
    }

    /// Where a rollback wants a view's state to begin.
    pub(crate) fn reach_of(&self, view: usize) -> Option<Offset> {
        self.inner.lock().reach.cuts.get(&view).copied()
    }

    /// Whether every view named can answer from its cut on.
    pub(crate) fn reaches(&self, cuts: &BTreeMap<usize, Offset>) -> bool {
        let inner = self.inner.lock();
        let reaches = |(id, cut): (&usize, &Offset)| {
            let view = inner.views.get(id);
            view.is_some_and(|view| view.phase == ViewPhase::Ready && view.is_divided_at(*cut))
        };
        cuts.iter().all(reaches)
    }

    /// Claims the work that [`Self::reach_back`] asks for; false when somebody is at it.
    pub(crate) fn begin_reach(&self) -> bool {
        !std::mem::replace(&mut self.inner.lock().reach.folding, true)
    }

    /// Ends what [`Self::begin_reach`] began.
    pub(crate) fn end_reach(&self) {
        self.inner.lock().reach.folding = false;
    }
}

#[cfg(test)]
mod tests;
