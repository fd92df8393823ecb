//! Sessions of the query engine, lent to one query after the other. Each knows some hundreds of functions by name: making one
//! takes as long as planning a point query.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use datafusion::catalog::CatalogProviderList;
use datafusion::catalog::memory::MemoryCatalogProviderList;
use datafusion::execution::session_state::SessionState;
use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;

/// Sessions kept for later; no more queries than that plan at the same time on most machines.
const MOST_SPARE: usize = 32;

/// Sessions that know all functions and no tables.
pub(crate) struct States {
    /// Whose queries run on one thread.
    serial: Pool,
    parallel: Pool,
}

impl States {
    /// Sessions like `template`, for queries on one thread or on `threads`.
    pub(crate) fn new(template: &SessionState, threads: usize) -> Self {
        Self {
            serial: Pool::new(template, 1),
            parallel: Pool::new(template, threads),
        }
    }

    /// What plans statements: rules and options, without tables.
    pub(crate) fn rules(&self) -> &SessionState {
        &self.serial.made
    }

    /// A session in which it is now, for queries in parallel or not.
    pub(crate) fn lend(&self, parallel: bool) -> Lent<'_> {
        if parallel {
            self.parallel.lend()
        } else {
            self.serial.lend()
        }
    }
}

struct Pool {
    made: SessionState,
    config: SessionConfig,
    nothing: Arc<dyn CatalogProviderList>,
    spare: Mutex<Vec<SessionState>>,
}

impl Pool {
    fn new(template: &SessionState, threads: usize) -> Self {
        let mut made = template.clone();
        // Once, here: options that a query changes for itself are copied, all of them.
        made.config_mut().options_mut().execution.target_partitions = threads;
        let nothing: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
        made.register_catalog_list(Arc::clone(&nothing));
        Self {
            config: made.config().clone(),
            made,
            nothing,
            spare: Mutex::default(),
        }
    }

    fn lend(&self) -> Lent<'_> {
        let spare = self.spare.lock().pop();
        let mut state = spare.unwrap_or_else(|| self.made.clone());
        // `now()` is the time of this query, not of the one before.
        state.mark_start_execution();
        Lent {
            pool: self,
            state: Some(state),
        }
    }
}

/// A session that one query has for itself. What it puts into it is gone when it gives it back.
pub(crate) struct Lent<'p> {
    pool: &'p Pool,
    /// `None` only while it is dropped.
    state: Option<SessionState>,
}

impl Deref for Lent<'_> {
    type Target = SessionState;

    fn deref(&self) -> &SessionState {
        self.state.as_ref().expect("it is taken when this is dropped")
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut SessionState {
        self.state.as_mut().expect("it is taken when this is dropped")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else { return };
        *state.config_mut() = self.pool.config.clone();
        state.register_catalog_list(Arc::clone(&self.pool.nothing));
        let mut spare = self.pool.spare.lock();
        if spare.len() < MOST_SPARE {
            spare.push(state);
        }
    }
}

#[cfg(test)]
mod tests;
