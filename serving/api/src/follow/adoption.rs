use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use anabranch_catalog::Catalog;
use anabranch_dataset::{Environment, Publication, Publications, Store};
use anabranch_definitions::{Definitions, Follower, shadows};
use anabranch_merge::Noted;
use anabranch_model::Cut;
use anabranch_runtime::Shutdown;
use anabranch_view::View;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::noted;
use crate::Error;
use crate::compute::Compute;
use crate::follow::batch_view::{BatchViewState, Holdings, load};
use crate::follow::versions::{Facts, Verdict, judge};

/// Batch views that are loaded at the same time.
const LOADS: usize = 4;
/// How long a publication is held back for a speed layer that does not get ready for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// One publication with all its batch views at hand, and the versions of views that answer over it. Requests pin it by
/// holding the `Arc`.
pub(crate) struct Published {
    /// 0 before the first publication.
    pub(crate) number: u64,
    pub(crate) publication: Option<Publication>,
    /// Which names there are: the newest definitions when it was adopted.
    pub(crate) definitions: Arc<Definitions>,
    /// The version of each that answers; an earlier one while the newest is not ready.
    pub(crate) served: Arc<Vec<View>>,
    /// Batch views of the served versions, as far as the publication has them.
    pub(crate) views: BTreeMap<String, PublishedView>,
}

#[derive(Clone)]
pub(crate) struct PublishedView {
    pub(crate) cut: Cut,
    pub(crate) state: Arc<BatchViewState>,
    /// Events folded into the batch view.
    pub(crate) events: u64,
    /// What its run left out.
    pub(crate) notes: Noted,
}

impl Published {
    /// The served version of a view.
    pub(crate) fn view(&self, name: &str) -> Option<&View> {
        self.served.iter().find(|view| view.name() == name)
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.definitions.catalog
    }

    /// Whether a view is the very one that answers: a change may have put another in its place.
    pub(crate) fn serves(&self, view: &View) -> bool {
        self.view(view.name())
            .is_some_and(|served| served.hash() == view.hash() && served.output_schema() == view.output_schema())
    }
}

/// Tells what answers would lack.
#[async_trait]
pub(crate) trait Probe: Send + Sync {
    /// For each of `views`, the partitions whose realtime part could not be read over `published`.
    async fn lacking(&self, published: Arc<Published>, views: &[View]) -> BTreeMap<String, BTreeSet<String>>;
}

/// Follows the publication log and the definitions log: loads what is new, then makes it current.
pub(crate) struct Adoption {
    store: Store,
    log: Publications,
    compute: Arc<Compute>,
    holdings: Holdings,
    current: ArcSwap<Published>,
    /// Every publication that was current; dead entries are those no request reads any more.
    adopted: Mutex<Vec<Weak<Published>>>,
    /// Held while polling, so that a publication is loaded once.
    polling: tokio::sync::Mutex<Polling>,
    probe: OnceLock<Weak<dyn Probe>>,
    polled: AtomicBool,
    /// Signalled after each adoption: the lease has news.
    changed: Notify,
}

struct Polling {
    follower: Follower,
    /// The publication that waits for the speed layer, and since when.
    waiting: Option<(u64, Instant)>,
}

impl Adoption {
    pub(crate) fn new(store: &Store, definitions: Arc<Definitions>, compute: Arc<Compute>, holdings: Holdings) -> Self {
        let none = Arc::new(Published {
            number: 0,
            publication: None,
            definitions: Arc::clone(&definitions),
            served: Arc::clone(&definitions.views),
            views: BTreeMap::new(),
        });
        Self {
            store: store.clone(),
            log: Publications::new(store),
            compute,
            holdings,
            adopted: Mutex::new(vec![Arc::downgrade(&none)]),
            current: ArcSwap::new(none),
            polling: tokio::sync::Mutex::new(Polling {
                follower: Follower::new(store, definitions),
                waiting: None,
            }),
            probe: OnceLock::new(),
            polled: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// Says who can tell what answers would lack. Without, a newer version is never ready before it is published.
    pub(crate) fn attach(&self, probe: Weak<dyn Probe>) {
        // Set once, by whoever builds the service.
        let _ = self.probe.set(probe);
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Time, chance and threads of this process.
    pub(crate) fn environment(&self) -> &Environment {
        self.store.environment()
    }

    /// The current publication, pinned as long as the caller holds it.
    pub(crate) fn pin(&self) -> Arc<Published> {
        self.current.load_full()
    }

    /// Everything that a request still reads, or that the next request will read.
    fn pinned(&self) -> Vec<Arc<Published>> {
        let mut adopted = self.adopted.lock();
        adopted.retain(|published| published.strong_count() > 0);
        adopted.iter().filter_map(Weak::upgrade).collect()
    }

    /// Number of the oldest publication that a request still reads, or that the next request will read.
    pub(crate) fn oldest_pinned(&self) -> u64 {
        self.pinned()
            .iter()
            .map(|published| published.number)
            .min()
            .unwrap_or(0)
    }

    /// Number of the oldest definitions among them, and the hashes of the versions of each view.
    pub(crate) fn versions_pinned(&self) -> (u64, BTreeMap<String, BTreeSet<String>>) {
        let pinned = self.pinned();
        let oldest = pinned.iter().map(|published| published.definitions.number).min();
        let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for view in pinned.iter().flat_map(|published| published.served.iter()) {
            versions
                .entry(view.name().to_owned())
                .or_default()
                .insert(view.hash().clone());
        }
        (oldest.unwrap_or(0), versions)
    }

    /// Whether the publication log has been read at all.
    pub(crate) fn is_ready(&self) -> bool {
        self.polled.load(Ordering::Acquire)
    }

    /// Waits for the next adoption. Cancel-safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Reads both logs now, and adopts what is new.
    ///
    /// # Errors
    /// When a log or a batch view cannot be read; the current publication stays.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        let mut polling = self.polling.lock().await;
        if let Err(error) = polling.follower.poll().await {
            tracing::warn!(%error, "the definitions log cannot be read; serving goes on with the known ones");
        }
        let latest = self.log.latest().await?;
        let current = self.pin();
        let newest = Arc::clone(polling.follower.newest());
        let is_current = |served: &[View]| {
            latest.as_ref().map_or(0, |latest| latest.number) == current.number
                && newest.number == current.definitions.number
                && served.len() == current.served.len()
                && served.iter().all(|view| current.serves(view))
        };
        if !(self.is_ready() && is_current(&newest.views))
            && let Some(served) = self.choose(&mut polling, latest.as_ref(), &current).await
            && !(self.is_ready() && is_current(&served))
        {
            self.adopt(latest, newest, served, &current).await?;
        }
        self.polled.store(true, Ordering::Release);
        Ok(())
    }

    /// The version of each view that is to answer over the latest publication; `None` to go on as before.
    async fn choose(
        &self,
        polling: &mut Polling,
        latest: Option<&Publication>,
        current: &Arc<Published>,
    ) -> Option<Vec<View>> {
        let newest = Arc::clone(polling.follower.newest());
        let published: BTreeMap<String, String> = latest
            .iter()
            .flat_map(|latest| &latest.manifest.views)
            .map(|(name, view)| (name.clone(), view.hash.clone()))
            .collect();
        let answering: Vec<View> = if self.is_ready() {
            current.served.to_vec()
        } else {
            let earlier = polling.follower.earlier().iter().map(AsRef::as_ref);
            shadows(&newest, earlier, &published)
        };
        let present = |name: &str| answering.iter().find(|view| view.name() == name);
        let changing: Vec<View> = newest
            .views
            .iter()
            .filter(|view| present(view.name()).is_some_and(|present| present.hash() != view.hash()))
            .cloned()
            .collect();
        let former: Vec<View> = changing
            .iter()
            .filter_map(|view| present(view.name()).cloned())
            .collect();
        let ready = if changing.is_empty() {
            BTreeSet::new()
        } else {
            self.ready(latest, &newest, &changing, (current, &former)).await
        };
        let mut served = Vec::with_capacity(newest.views.len());
        let mut wait = false;
        for view in newest.views.iter() {
            let facts = Facts {
                newest: view.hash().clone(),
                present: present(view.name()).map(|present| present.hash().clone()),
                published: published.get(view.name()).cloned(),
                ready: ready.contains(view.name()),
            };
            let verdict = judge(&facts);
            wait |= verdict == Verdict::Wait;
            match (verdict, present(view.name())) {
                (Verdict::Present, Some(present)) => served.push(present.clone()),
                _ => served.push(view.clone()),
            }
        }
        let number = latest.map_or(0, |latest| latest.number);
        if !wait {
            polling.waiting = None;
            return Some(served);
        }
        let now = self.environment().instant();
        let since = match polling.waiting {
            Some((waited_for, since)) if waited_for == number => since,
            _ => now,
        };
        polling.waiting = Some((number, since));
        (now.saturating_duration_since(since) >= PATIENCE).then_some(served)
    }

    /// Which of `changing` would lack nothing that their `former` versions have.
    async fn ready(
        &self,
        latest: Option<&Publication>,
        newest: &Arc<Definitions>,
        changing: &[View],
        (current, former): (&Arc<Published>, &[View]),
    ) -> BTreeSet<String> {
        let Some(probe) = self.probe.get().and_then(Weak::upgrade) else {
            return BTreeSet::new();
        };
        let mut views = BTreeMap::new();
        for view in changing {
            if let Some(published) = without_state(latest, view) {
                views.insert(view.name().to_owned(), published);
            }
        }
        let next = Arc::new(Published {
            number: latest.map_or(0, |latest| latest.number),
            publication: latest.cloned(),
            definitions: Arc::clone(newest),
            served: Arc::new(changing.to_vec()),
            views,
        });
        let lacks_next = probe.lacking(next, changing).await;
        let lacks_now = probe.lacking(Arc::clone(current), former).await;
        let is_ready = |view: &&View| match (lacks_next.get(view.name()), lacks_now.get(view.name())) {
            (Some(next), Some(now)) => next.is_subset(now),
            (Some(next), None) => next.is_empty(),
            (None, _) => false,
        };
        changing
            .iter()
            .filter(is_ready)
            .map(|view| view.name().to_owned())
            .collect()
    }

    async fn adopt(
        &self,
        latest: Option<Publication>,
        definitions: Arc<Definitions>,
        served: Vec<View>,
        current: &Published,
    ) -> Result<(), Error> {
        let started = Instant::now();
        let published = Arc::new(self.load(latest, definitions, served, current).await?);
        let bytes: usize = published.views.values().map(|view| view.state.size_bytes()).sum();
        let stored: u64 = published.views.values().map(|view| view.state.stored_bytes()).sum();
        let behind: Vec<&str> = published
            .served
            .iter()
            .filter(|view| published.definitions.view(view.name()).map(View::hash) != Some(view.hash()))
            .map(View::name)
            .collect();
        tracing::info!(
            publication = published.number,
            definitions = published.definitions.number,
            views = published.views.len(),
            ?behind,
            bytes,
            stored,
            elapsed_ms = started.elapsed().as_millis() as u64,
            "publication adopted"
        );
        metrics::gauge!("anabranch_serving_publication").set(published.number as f64);
        metrics::gauge!("anabranch_serving_definitions").set(published.definitions.number as f64);
        metrics::gauge!("anabranch_serving_views_changing").set(behind.len() as f64);
        metrics::gauge!("anabranch_serving_batch_view_bytes").set(bytes as f64);
        metrics::gauge!("anabranch_serving_stored_bytes").set(stored as f64);
        self.adopted.lock().push(Arc::downgrade(&published));
        self.current.store(published);
        self.changed.notify_one();
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

    async fn load(
        &self,
        publication: Option<Publication>,
        definitions: Arc<Definitions>,
        served: Vec<View>,
        current: &Published,
    ) -> Result<Published, Error> {
        let number = publication.as_ref().map_or(0, |publication| publication.number);
        let mut views = BTreeMap::new();
        let mut wanted = Vec::new();
        for view in &served {
            let Some(batch) = publication
                .as_ref()
                .and_then(|publication| publication.manifest.views.get(view.name()))
            else {
                continue;
            };
            if &batch.hash != view.hash() {
                tracing::info!(
                    view = view.name(),
                    "the publication holds another definition of this view"
                );
                continue;
            }
            if number == current.number
                && current.serves(view)
                && let Some(loaded) = current.views.get(view.name())
            {
                views.insert(view.name().to_owned(), loaded.clone());
                continue;
            }
            wanted.push((view, batch));
        }
        // Small ones first: more of them fit.
        wanted.sort_by_key(|(_, batch)| batch.files.iter().map(|file| file.bytes).sum::<u64>());
        let held = views.values().map(|view: &PublishedView| view.state.size_bytes()).sum();
        let budget = self.holdings.budget(held);
        let mut loads = Vec::new();
        for (view, batch) in wanted {
            let cut = cut_of(publication.as_ref(), &batch.source);
            let notes = notes_of(publication.as_ref(), &batch.source);
            let (store, view, batch) = (self.store.clone(), view.clone(), batch.clone());
            let (holdings, budget) = (self.holdings.clone(), Arc::clone(&budget));
            loads.push(self.compute.run(async move {
                let state = load(&store, &view, &batch, &holdings, &budget).await?;
                Ok((
                    view.name().to_owned(),
                    PublishedView {
                        cut,
                        state: Arc::new(state),
                        events: batch.rows,
                        notes,
                    },
                ))
            }));
        }
        let loaded: Vec<_> = stream::iter(loads).buffered(LOADS).try_collect().await?;
        views.extend(loaded);
        Ok(Published {
            number,
            publication,
            definitions,
            served: Arc::new(served),
            views,
        })
    }
}

fn cut_of(publication: Option<&Publication>, source: &str) -> Cut {
    publication
        .and_then(|publication| publication.manifest.cuts.get(source))
        .cloned()
        .unwrap_or_default()
}

fn notes_of(publication: Option<&Publication>, source: &str) -> Noted {
    publication
        .and_then(|publication| publication.manifest.notes.get(source))
        .map(noted)
        .unwrap_or_default()
}

/// A view of a publication as a probe needs it: where it is cut.
fn without_state(publication: Option<&Publication>, view: &View) -> Option<PublishedView> {
    let batch = publication.and_then(|publication| publication.manifest.views.get(view.name()));
    let batch = batch.filter(|batch| &batch.hash == view.hash())?;
    Some(PublishedView {
        cut: cut_of(publication, &batch.source),
        state: Arc::new(BatchViewState::empty(view)),
        events: 0,
        notes: notes_of(publication, &batch.source),
    })
}

#[cfg(test)]
mod tests;
