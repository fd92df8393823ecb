use std::sync::Arc;

use crate::ledger::Ledger;
use crate::stats::Counters;

/// A value on its way through the topology, with the messages it was made for.
///
/// Whoever receives a tuple acks or fails it, from any thread, at once or later; but before the last bolt has finished, for
/// then no spout waits any more. A tuple that is dropped without either fails: an error path can lose a tuple only loudly.
pub struct Tuple<T> {
    value: T,
    anchor: Anchor,
    source: Arc<str>,
    stream: Arc<str>,
}

impl<T> Tuple<T> {
    pub(crate) fn new(value: T, anchor: Anchor, source: Arc<str>, stream: Arc<str>) -> Self {
        Self {
            value,
            anchor,
            source,
            stream,
        }
    }

    pub fn value(&self) -> &T {
        &self.value
    }

    /// Component that emitted it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Stream it was emitted to.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    pub fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    /// Takes the value out; the anchor must still be acked or failed.
    pub fn into_parts(self) -> (T, Anchor) {
        (self.value, self.anchor)
    }

    /// Its work is done.
    pub fn ack(self) {
        self.anchor.ack();
    }

    /// Its work cannot be done: every message it was made for fails.
    pub fn fail(self) {
        self.anchor.fail();
    }
}

/// The place of a tuple in the trees of the messages it was made for. Dropping it fails them.
#[must_use = "an anchor that is dropped fails its messages"]
pub struct Anchor {
    edges: Vec<Edge>,
    counters: Option<Arc<Counters>>,
}

struct Edge {
    ledger: Arc<Ledger>,
    root: u64,
    id: u64,
}

impl Anchor {
    /// An anchor of no message: what is emitted with it is not tracked.
    pub fn none() -> Self {
        Self {
            edges: Vec::new(),
            counters: None,
        }
    }

    /// One anchor for all of `anchors`, for a tuple that was made from several.
    pub fn join(anchors: impl IntoIterator<Item = Self>) -> Self {
        let mut joined = Self::none();
        for mut anchor in anchors {
            joined.counters = joined.counters.take().or(anchor.counters.take());
            joined.edges.append(&mut anchor.edges);
        }
        joined
    }

    /// Whether any message waits for it.
    pub fn is_none(&self) -> bool {
        self.edges.is_empty()
    }

    pub fn ack(mut self) {
        if let Some(counters) = &self.counters {
            counters.add_acked();
        }
        for edge in std::mem::take(&mut self.edges) {
            edge.ledger.ack(edge.root, edge.id);
        }
    }

    pub fn fail(self) {
        drop(self);
    }

    /// The anchor that opens a message's tree; the spout's output acks it after emitting.
    pub(crate) fn root(ledger: &Arc<Ledger>, message: crate::MessageId) -> Self {
        let (root, id) = ledger.begin(message);
        Self {
            edges: vec![Edge {
                ledger: Arc::clone(ledger),
                root,
                id,
            }],
            counters: None,
        }
    }

    /// A new tuple in the same trees; `counters` are those of its receiver.
    pub(crate) fn child(&self, counters: &Arc<Counters>) -> Self {
        let edges = self
            .edges
            .iter()
            .map(|edge| Edge {
                ledger: Arc::clone(&edge.ledger),
                root: edge.root,
                id: edge.ledger.add(edge.root),
            })
            .collect();
        Self {
            edges,
            counters: Some(Arc::clone(counters)),
        }
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        if self.edges.is_empty() {
            return;
        }
        if let Some(counters) = &self.counters {
            counters.add_failed();
        }
        for edge in self.edges.drain(..) {
            edge.ledger.fail(edge.root);
        }
    }
}
