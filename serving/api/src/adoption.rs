use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anabranch_dataset::{Environment, Publication, Publications, StateFiles, Store};
use anabranch_merge::{BatchState, Noted};
use anabranch_model::Cut;
use anabranch_runtime::Shutdown;
use anabranch_view::View;
use arc_swap::ArcSwap;
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::Error;
use crate::compute::Compute;
use crate::masters::noted;

/// One publication with all its batch views in memory. Requests pin it by holding the `Arc`.
pub(crate) struct Published {
    /// 0 before the first publication.
    pub(crate) number: u64,
    pub(crate) publication: Option<Publication>,
    /// Batch views of the definitions that this service runs; others are left out.
    pub(crate) views: BTreeMap<String, PublishedView>,
}

pub(crate) struct PublishedView {
    pub(crate) cut: Cut,
    pub(crate) state: Arc<BatchState>,
    /// Events folded into the batch view.
    pub(crate) events: u64,
    /// What its run left out.
    pub(crate) notes: Noted,
}

/// Follows the publication log: loads each new publication, then makes it current.
pub(crate) struct Adoption {
    store: Store,
    log: Publications,
    views: Arc<Vec<View>>,
    compute: Arc<Compute>,
    current: ArcSwap<Published>,
    /// Every publication that was current; dead entries are those no request reads any more.
    adopted: Mutex<Vec<Weak<Published>>>,
    /// Held while polling, so that a publication is loaded once.
    polling: tokio::sync::Mutex<()>,
    polled: AtomicBool,
    /// Signalled after each adoption: the lease has news.
    changed: Notify,
}

impl Adoption {
    pub(crate) fn new(store: &Store, views: Arc<Vec<View>>, compute: Arc<Compute>) -> Self {
        let none = Arc::new(Published {
            number: 0,
            publication: None,
            views: BTreeMap::new(),
        });
        Self {
            store: store.clone(),
            log: Publications::new(store),
            views,
            compute,
            adopted: Mutex::new(vec![Arc::downgrade(&none)]),
            current: ArcSwap::new(none),
            polling: tokio::sync::Mutex::new(()),
            polled: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// Time, chance and threads of this process.
    pub(crate) fn environment(&self) -> &Environment {
        self.store.environment()
    }

    /// The current publication, pinned as long as the caller holds it.
    pub(crate) fn pin(&self) -> Arc<Published> {
        self.current.load_full()
    }

    /// Number of the oldest publication that a request still reads, or that the next request will read.
    pub(crate) fn oldest_pinned(&self) -> u64 {
        let mut adopted = self.adopted.lock();
        adopted.retain(|published| published.strong_count() > 0);
        adopted
            .iter()
            .filter_map(Weak::upgrade)
            .map(|published| published.number)
            .min()
            .unwrap_or(0)
    }

    /// Whether the publication log has been read at all.
    pub(crate) fn is_ready(&self) -> bool {
        self.polled.load(Ordering::Acquire)
    }

    /// Waits for the next adoption. Cancel-safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Reads the publication log now, and adopts what is new.
    ///
    /// # Errors
    /// When the log or a batch view cannot be read; the current publication stays.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        let _polling = self.polling.lock().await;
        let Some(latest) = self.log.latest().await? else {
            self.polled.store(true, Ordering::Release);
            return Ok(());
        };
        if latest.number != self.current.load().number {
            let started = std::time::Instant::now();
            let published = Arc::new(self.load(latest).await?);
            let bytes: usize = published.views.values().map(|view| view.state.size_bytes()).sum();
            tracing::info!(
                publication = published.number,
                views = published.views.len(),
                bytes,
                elapsed_ms = started.elapsed().as_millis() as u64,
                "publication adopted"
            );
            metrics::gauge!("anabranch_serving_publication").set(published.number as f64);
            metrics::gauge!("anabranch_serving_batch_view_bytes").set(bytes as f64);
            self.adopted.lock().push(Arc::downgrade(&published));
            self.current.store(published);
            self.changed.notify_one();
        }
        self.polled.store(true, Ordering::Release);
        Ok(())
    }

    /// Polls until shutdown.
    pub(crate) async fn follow(&self, every: Duration, shutdown: Shutdown) -> Result<(), Error> {
        let mut failing = false;
        while !shutdown.is_cancelled() {
            match self.refresh().await {
                Ok(()) => failing = false,
                Err(error) => {
                    // Once per outage: the poll is frequent.
                    if !failing {
                        tracing::warn!(%error, "publications cannot be read; serving goes on with the current one");
                    }
                    failing = true;
                }
            }
            tokio::select! {
                biased;
                () = self.store.environment().sleep(every) => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }

    async fn load(&self, publication: Publication) -> Result<Published, Error> {
        let loads = self.views.iter().filter_map(|view| {
            let batch = publication.manifest.views.get(view.name())?;
            if &batch.hash != view.hash() {
                tracing::info!(
                    view = view.name(),
                    "the publication holds another definition of this view"
                );
                return None;
            }
            let cut = publication
                .manifest
                .cuts
                .get(&batch.source)
                .cloned()
                .unwrap_or_default();
            let notes = publication
                .manifest
                .notes
                .get(&batch.source)
                .map(noted)
                .unwrap_or_default();
            let (store, view, batch) = (self.store.clone(), view.clone(), batch.clone());
            Some(self.compute.run(async move {
                let batches = StateFiles::read(&store, &batch, &view.state_schema()).await?;
                let name = view.name().to_owned();
                let state = store
                    .environment()
                    .offload(move || BatchState::new(&view, batches))
                    .await
                    .map_err(|join| Error::Internal(format!("loading a batch view failed: {join}")))??;
                Ok((
                    name,
                    PublishedView {
                        cut,
                        state: Arc::new(state),
                        events: batch.rows,
                        notes,
                    },
                ))
            }))
        });
        let views = try_join_all(loads).await?.into_iter().collect();
        Ok(Published {
            number: publication.number,
            publication: Some(publication),
            views,
        })
    }
}

#[cfg(test)]
mod tests;
