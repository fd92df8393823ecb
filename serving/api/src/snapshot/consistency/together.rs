//! Work that is done once for all who ask for it before it begins, as a database commits the transactions of many clients
//! with one write: whoever asks while such work goes on waits for it to end, with all others who ask meanwhile, and gets
//! what is begun then.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Either, Shared, WeakShared, select};
use parking_lot::Mutex;

/// Entries of work that nobody waits for any more are looked for when there are so many.
const SWEEP: usize = 64;

type Work<T> = BoxFuture<'static, T>;

/// By key: the work that was asked for last. It is held by those who wait for it, and goes on as long as one of them does.
pub(crate) struct Together<K, T: Clone> {
    latest: Arc<Mutex<HashMap<K, Latest<T>>>>,
}

struct Latest<T: Clone> {
    has_begun: Arc<Mutex<bool>>,
    work: WeakShared<Work<T>>,
}

impl<K, T: Clone> Clone for Together<K, T> {
    fn clone(&self) -> Self {
        Self {
            latest: Arc::clone(&self.latest),
        }
    }
}

impl<K, T: Clone> Default for Together<K, T> {
    fn default() -> Self {
        Self { latest: Arc::default() }
    }
}

impl<K: Eq + Hash, T: Clone + Send + Sync + 'static> Together<K, T> {
    /// What comes of work that begins after this call: `work`, unless somebody else's of the same key is about to begin.
    /// It begins when what goes on already has ended, or after `patience`. Cancel-safe; work that all have left is dropped.
    pub(crate) async fn share(
        &self,
        key: K,
        patience: impl Future<Output = ()> + Send + 'static,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.join(key, patience, work).await
    }

    fn join(
        &self,
        key: K,
        patience: impl Future<Output = ()> + Send + 'static,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Shared<Work<T>> {
        let mut latest = self.latest.lock();
        let known = latest.get(&key);
        let before = known.and_then(|known| Some((known.work.upgrade()?, Arc::clone(&known.has_begun))));
        let before = match before {
            // Under its lock: if it has not begun here, what it does is done after this.
            Some((work, has_begun)) if !*has_begun.lock() => return work,
            before => before.map(|(work, _)| work),
        };
        let has_begun = Arc::new(Mutex::new(false));
        let begin = Arc::clone(&has_begun);
        let work = async move {
            if let Some(before) = before {
                // Whoever comes first drops the other: this is one of those who wait for the work before it.
                match select(before, Box::pin(patience)).await {
                    Either::Left(_) | Either::Right(_) => {}
                }
            }
            *begin.lock() = true;
            work.await
        };
        let work = work.boxed().shared();
        if latest.len() >= SWEEP {
            latest.retain(|_, latest| latest.work.upgrade().is_some());
        }
        if let Some(weak) = work.downgrade() {
            latest.insert(key, Latest { has_begun, work: weak });
        }
        work
    }
}

#[cfg(test)]
mod tests;
