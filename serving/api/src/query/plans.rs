//! Plans of statements that were asked lately. Clients ask the same few statements again and again, or with other values; each
//! needs to be read and planned once for each version of its views. A plan pins nothing and holds no rows: what it finds when it
//! is executed is frozen anew for each query.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_front::SYSTEM;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use parking_lot::Mutex;

use super::prepared::Planned;
use crate::follow::adoption::Published;

/// Plans kept at most; that which was not asked for longest goes first.
const MOST_PLANS: usize = 256;
/// What they may take together, in bytes, as far as that is known.
const MOST_BYTES: usize = 16 << 20;
/// A longer statement is somebody's own.
pub(super) const LONGEST_TEXT: usize = 4096;
/// What a node of a plan, one column of it, and one letter of the statement take, in bytes, about.
const NODE_BYTES: usize = 512;
const COLUMN_BYTES: usize = 256;
const LETTER_BYTES: usize = 32;

/// Plans by the text of their statement.
#[derive(Default)]
pub(super) struct Plans {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    plans: HashMap<Arc<str>, Entry>,
    /// By when they were asked for.
    order: BTreeMap<u64, Arc<str>>,
    clock: u64,
    bytes: usize,
}

struct Entry {
    planned: Arc<Planned>,
    asked: u64,
    bytes: usize,
}

impl Plans {
    /// The plan of a statement, if it means now, and for this principal, what it meant when it was made: the very versions of its
    /// views answer, and all of them may be read.
    pub(super) fn get(&self, text: &str, published: &Published, principal: &Principal) -> Option<Arc<Planned>> {
        let found = self.held.lock().get(text, published, principal);
        let outcome = if found.is_some() { "found" } else { "made" };
        metrics::counter!("anabranch_serving_plans_total", "outcome" => outcome).increment(1);
        found
    }

    /// Keeps a plan. That of a statement that reads system tables is its principal's own: nobody else may have it.
    pub(super) fn put(&self, text: &str, planned: &Arc<Planned>) {
        let Some(bytes) = bytes_of(text, &planned.plan) else {
            return;
        };
        if text.len() > LONGEST_TEXT || bytes > MOST_BYTES / 4 {
            return;
        }
        let mut held = self.held.lock();
        held.put(text, planned, bytes);
        metrics::gauge!("anabranch_serving_plans_held").set(held.plans.len() as f64);
        metrics::gauge!("anabranch_serving_plans_bytes").set(held.bytes as f64);
    }
}

impl Held {
    fn get(&mut self, text: &str, published: &Published, principal: &Principal) -> Option<Arc<Planned>> {
        let entry = self.plans.get_mut(text)?;
        let views = &entry.planned.views;
        if !views.iter().all(|view| principal.may_read(view.name())) {
            return None;
        }
        let answers = |name: &str| published.view(name);
        if !views
            .iter()
            .all(|view| answers(view.name()).is_some_and(|served| served.is(view)))
        {
            self.remove(text);
            return None;
        }
        self.clock += 1;
        if let Some(text) = self.order.remove(&entry.asked) {
            self.order.insert(self.clock, text);
        }
        entry.asked = self.clock;
        Some(Arc::clone(&entry.planned))
    }

    fn put(&mut self, text: &str, planned: &Arc<Planned>, bytes: usize) {
        self.remove(text);
        self.clock += 1;
        let text: Arc<str> = text.into();
        let entry = Entry {
            planned: Arc::clone(planned),
            asked: self.clock,
            bytes,
        };
        self.bytes += bytes;
        self.plans.insert(Arc::clone(&text), entry);
        self.order.insert(self.clock, text);
        while (self.plans.len() > MOST_PLANS || self.bytes > MOST_BYTES)
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            let oldest = Arc::clone(oldest);
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, text: &str) {
        if let Some(entry) = self.plans.remove(text) {
            self.order.remove(&entry.asked);
            self.bytes -= entry.bytes;
        }
    }
}

/// What a plan takes, about; `None` when it reads more than views.
fn bytes_of(text: &str, plan: &LogicalPlan) -> Option<usize> {
    let (mut only_views, mut bytes) = (true, text.len() * LETTER_BYTES);
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            only_views &= scan.table_name.schema() != Some(SYSTEM);
        }
        bytes += NODE_BYTES + COLUMN_BYTES * node.schema().fields().len();
        Ok(TreeNodeRecursion::Continue)
    });
    (visited.is_ok() && only_views).then_some(bytes)
}

#[cfg(test)]
mod tests;
