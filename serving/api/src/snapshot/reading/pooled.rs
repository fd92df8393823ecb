//! One read for many: whoever asks while a read goes on waits for its end, and is then served, with all others who came
//! meanwhile, by the one that follows.

use std::future::Future;
use std::sync::{Arc, Weak};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared, select};
use parking_lot::Mutex;

/// So many are served by one read at most.
const MOST: usize = 64;

type Read<T> = Shared<BoxFuture<'static, T>>;

/// Reads of the same thing. Each is held by those who wait for it, and goes on as long as one of them does.
pub(crate) struct Pooled<V, T: Clone> {
    latest: Mutex<Option<Latest<V, T>>>,
}

struct Latest<V, T: Clone> {
    /// What is asked for; `None` once the read has begun.
    wanted: Weak<Mutex<Option<Vec<V>>>>,
    read: WeakShared<BoxFuture<'static, T>>,
}

impl<V, T: Clone> Default for Pooled<V, T> {
    fn default() -> Self {
        Self {
            latest: Mutex::new(None),
        }
    }
}

impl<V: Send + 'static, T: Clone + Send + Sync + 'static> Pooled<V, T> {
    /// What a read gives that asks for `value`, and perhaps for what others ask for at the same time. It begins when the one
    /// before has ended, or after `patience`. Cancel-safe; a read that all have left is dropped.
    pub(crate) async fn read<F: Future<Output = T> + Send + 'static>(
        &self,
        value: V,
        patience: impl Future<Output = ()> + Send + 'static,
        read: impl FnOnce(Vec<V>) -> F + Send + 'static,
    ) -> T {
        self.join(value, patience, read).await
    }

    fn join<F: Future<Output = T> + Send + 'static>(
        &self,
        value: V,
        patience: impl Future<Output = ()> + Send + 'static,
        read: impl FnOnce(Vec<V>) -> F + Send + 'static,
    ) -> Read<T> {
        let mut latest = self.latest.lock();
        let before = latest
            .as_ref()
            .and_then(|latest| Some((latest.read.upgrade()?, latest.wanted.upgrade())));
        let mut value = Some(value);
        if let Some((read, Some(wanted))) = &before
            && let Some(wanted) = wanted.lock().as_mut()
            && wanted.len() < MOST
        {
            wanted.extend(value.take());
            return read.clone();
        }
        let wanted = Arc::new(Mutex::new(Some(Vec::from_iter(value))));
        let open = Arc::downgrade(&wanted);
        let work = async move {
            // Those who are about to ask, having waited for the same thing, do so now.
            tokio::task::yield_now().await;
            if let Some((before, _)) = before {
                select(before, Box::pin(patience)).await;
            }
            let wanted = wanted.lock().take().unwrap_or_default();
            read(wanted).await
        };
        let work = work.boxed().shared();
        if let Some(weak) = work.downgrade() {
            *latest = Some(Latest {
                wanted: open,
                read: weak,
            });
        }
        work
    }
}

#[cfg(test)]
mod tests;
