//! Excluded events in the state of a partition.
//!
//! What a view's state leaves out is known exactly, position by position. A change of exclusions holds at once for what is
//! read from then on. Of what was read before, it asks for a base of its own, folded from landed rows; until that is
//! installed the state goes on answering as it is, and says what it leaves out.

use anabranch_model::{Offset, OffsetRange, RangeSet};

use super::{PartitionState, ViewPhase, ViewState};

/// What decides about a partition's events beside the events themselves.
#[derive(Debug, Default)]
pub(super) struct Exclusions {
    /// What the table's notes exclude, as last heard.
    wanted: RangeSet,
    /// What is left out of events that are decoded.
    live: RangeSet,
    /// Whether somebody folds for it.
    refolding: bool,
}

impl Exclusions {
    /// For a view whose state begins empty.
    pub(super) fn live(&self) -> &RangeSet {
        &self.live
    }

    /// Positions of a view's state at which it is not as it should be.
    pub(super) fn pending(&self, view: &ViewState, consumed: Offset) -> RangeSet {
        let held = view.held_from();
        if view.phase != ViewPhase::Ready || consumed <= held || self.wanted == view.excluded {
            return RangeSet::new();
        }
        let (wanted, is) = (&self.wanted, &view.excluded);
        wanted
            .minus(is)
            .union(&is.minus(wanted))
            .within(OffsetRange::new(held, consumed))
    }
}

/// `before` up to `at`, and `after` from there on.
pub(super) fn joined(before: &RangeSet, at: Offset, after: &RangeSet) -> RangeSet {
    let (first, last) = (Offset(i64::MIN), Offset(i64::MAX));
    before
        .within(OffsetRange::new(first, at))
        .union(&after.within(OffsetRange::new(at, last)))
}

impl PartitionState {
    /// Takes note of what is excluded now. Returns whether state must be folded again for it: see [`Self::rebuilding`].
    pub(crate) fn exclude(&self, wanted: &RangeSet) -> bool {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        // Whatever is decoded from now on, and lies at or behind this place, was read after it; see `excluded_within`.
        let consumed = self.consumed();
        if inner.exclusions.wanted != *wanted {
            inner.exclusions.wanted.clone_from(wanted);
            inner.exclusions.live = joined(&inner.exclusions.live, consumed, wanted);
            for view in inner.views.values_mut() {
                view.excluded = joined(&view.excluded, consumed, wanted);
            }
        }
        let exclusions = &inner.exclusions;
        inner
            .views
            .values()
            .any(|view| !exclusions.pending(view, consumed).is_empty())
    }

    /// Claims the work that [`Self::exclude`] asks for; false when somebody is at it.
    pub(crate) fn begin_refold(&self) -> bool {
        !std::mem::replace(&mut self.inner.lock().exclusions.refolding, true)
    }

    /// Ends what [`Self::begin_refold`] began.
    pub(crate) fn end_refold(&self) {
        self.inner.lock().exclusions.refolding = false;
    }

    /// What is to be left out of a micro-batch. Asked when it is decoded, hence after its end was noted as consumed: so a
    /// change of exclusions is met by all of it, or by nothing of it.
    pub(crate) fn excluded_within(&self, range: OffsetRange) -> RangeSet {
        let inner = self.inner.lock();
        if inner.exclusions.live.intersects(range) {
            inner.exclusions.live.within(range)
        } else {
            RangeSet::new()
        }
    }
}

#[cfg(test)]
mod tests;
