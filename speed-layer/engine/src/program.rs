//! What a source's events are made into, which may change while they flow.
//!
//! A changed `views.sql` does not stop the topology. Tuples carry the program they were read under, and the spout decides
//! where in each partition the next one begins: it sends [`Message::Adopt`](crate::message::Message::Adopt) between two
//! micro-batches, which every bolt meets at the same place of the log. A view that is new there starts an empty lane at
//! that place; what lies before it is folded from landed rows.

use std::sync::Arc;

use anabranch_catalog::Source;
use anabranch_view::View;

use crate::state::Members;

/// The columns that are decoded and the views that are folded, as of one moment.
pub(crate) struct Program {
    /// Grows with every change.
    pub(crate) generation: u64,
    pub(crate) source: Arc<Source>,
    /// By id, ascending.
    pub(crate) views: Vec<LiveView>,
}

/// One version of a view. Two versions of one name live side by side while readers move from one to the other.
#[derive(Clone)]
pub(crate) struct LiveView {
    /// Names this version inside the process; never used again for another.
    pub(crate) id: usize,
    pub(crate) view: View,
    /// Whether the newest definitions have it; otherwise it stays only as long as somebody reads it.
    pub(crate) current: bool,
}

impl Program {
    /// The first program of a source.
    pub(crate) fn new(source: Arc<Source>, versions: Vec<(View, bool)>) -> Self {
        let first = Self {
            generation: 0,
            source: Arc::clone(&source),
            views: Vec::new(),
        };
        Self {
            generation: 1,
            ..first.next(source, versions, 0)
        }
    }

    /// The program after this one. Versions that are known keep their ids, others get ids from `first_free` on.
    pub(crate) fn next(&self, source: Arc<Source>, versions: Vec<(View, bool)>, first_free: usize) -> Self {
        let mut free = first_free..;
        let mut views: Vec<LiveView> = versions
            .into_iter()
            .map(|(view, current)| {
                let known = self.find(view.name(), view.hash()).map(|live| live.id);
                let id = known.or_else(|| free.next()).unwrap_or(usize::MAX);
                LiveView { id, view, current }
            })
            .collect();
        views.sort_by_key(|live| live.id);
        Self {
            generation: self.generation + 1,
            source,
            views,
        }
    }

    /// Whether `source` and `versions` are what this program has.
    pub(crate) fn is(&self, source: &Source, versions: &[(View, bool)]) -> bool {
        *self.source == *source
            && self.views.len() == versions.len()
            && versions.iter().all(|(view, current)| {
                self.find(view.name(), view.hash())
                    .is_some_and(|live| live.current == *current)
            })
    }

    pub(crate) fn view(&self, id: usize) -> Option<&View> {
        let at = self.views.binary_search_by_key(&id, |live| live.id).ok()?;
        Some(&self.views[at].view)
    }

    pub(crate) fn find(&self, name: &str, hash: &str) -> Option<&LiveView> {
        self.views
            .iter()
            .find(|live| live.view.name() == name && live.view.hash() == hash)
    }

    pub(crate) fn members(&self) -> Members {
        Members {
            generation: self.generation,
            views: self.ids().collect(),
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = usize> + '_ {
        self.views.iter().map(|live| live.id)
    }
}
