//! One live query, looked at again and again for all of its readers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anabranch_runtime::Shutdown;
use anabranch_runtime::http::ApiError;
use anabranch_view::View;
use axum::body::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::event::{self, End, Start};
use super::rows::Rows;
use super::state::State;
use super::table::{Table, tabulate};
use crate::Error;
use crate::admission::Admission;
use crate::compute::{Compute, LARGE_ROWS, cpu};
use crate::rows::{RowsRequest, rows_unless};
use crate::snapshot::consistency::Consistency;

/// How long a query without readers is remembered, so that a reader whose connection broke goes on where it was.
const LINGER: Duration = Duration::from_secs(60);
/// The most bytes of rows that one live query follows.
const MOST_BYTES: usize = 64 << 20;

/// Where a feed stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beat {
    /// The newest rows.
    pub(crate) state: Option<Arc<State>>,
    /// When that look began; `None` while nobody reads.
    pub(crate) looked: Option<Instant>,
    /// Why the last look failed, and which failure in a row of failures it belongs to.
    pub(crate) trouble: Option<(u64, Arc<ApiError>)>,
    pub(crate) end: Option<End>,
}

/// One live query and who reads it.
pub(crate) struct Feed {
    /// Part of event ids: positions of another feed, or of another process, mean nothing here.
    pub(crate) nonce: String,
    beats: watch::Receiver<Beat>,
    readers: Mutex<BTreeMap<u64, Duration>>,
    joined: Notify,
}

impl Feed {
    /// The id of an event that leads to `position`.
    pub(crate) fn id(&self, position: u64) -> String {
        format!("{}.{position}", self.nonce)
    }

    /// The `change` event for a reader at `position`; `None` when it has to begin anew.
    pub(crate) fn change(&self, state: &State, position: u64) -> Option<Bytes> {
        state.encoded(position, || {
            let changes = state.rows.since(position)?;
            Some(event::change(&self.id(state.rows.position()), state, &changes))
        })
    }

    /// The position that an id names, if it is one of this feed's.
    pub(crate) fn position(&self, id: &str) -> Option<u64> {
        id.strip_prefix(&self.nonce)?.strip_prefix('.')?.parse().ok()
    }

    /// How often to look: as often as the most impatient reader wants; `None` without readers.
    fn interval(&self) -> Option<Duration> {
        self.readers.lock().values().min().copied()
    }
}

/// Being counted among the readers of a feed.
pub(crate) struct Reading {
    pub(crate) feed: Arc<Feed>,
    pub(crate) beats: watch::Receiver<Beat>,
    number: u64,
    hub: Arc<Hub>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.feed.readers.lock().remove(&self.number);
        let readers = self.hub.readers.fetch_sub(1, Ordering::Relaxed) - 1;
        metrics::gauge!("anabranch_serving_live_readers").set(readers as f64);
    }
}

/// What makes two requests the same live query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) view: String,
    pub(crate) hash: String,
    /// Parameters, but for the interval, sorted by name.
    pub(crate) pairs: Vec<(String, String)>,
}

/// All live queries of this process.
pub(crate) struct Hub {
    pub(crate) consistency: Arc<Consistency>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) compute: Arc<Compute>,
    pub(crate) query_timeout: Duration,
    pub(crate) most_rows: usize,
    pub(crate) most_readers: usize,
    pub(crate) shutdown: Shutdown,
    pub(crate) feeds: Mutex<HashMap<Key, Arc<Feed>>>,
    pub(crate) readers: AtomicUsize,
    pub(crate) numbers: AtomicU64,
    pub(crate) tasks: TaskTracker,
}

impl Hub {
    pub(crate) fn new(
        consistency: Arc<Consistency>,
        admission: Arc<Admission>,
        compute: Arc<Compute>,
        settings: &anabranch_runtime::Serving,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        Arc::new(Self {
            consistency,
            admission,
            compute,
            query_timeout: *settings.query_timeout,
            most_rows: settings.live_max_rows,
            most_readers: settings.live_max_readers,
            shutdown,
            feeds: Mutex::default(),
            readers: AtomicUsize::new(0),
            numbers: AtomicU64::new(0),
            tasks: TaskTracker::new(),
        })
    }

    /// Waits until all feeds have ended, after the shutdown signal.
    pub(crate) async fn drained(&self) -> Result<(), Error> {
        self.shutdown.cancelled().await;
        self.tasks.close();
        self.tasks.wait().await;
        Ok(())
    }

    /// Joins the readers of a query, which is looked at from now on if it was not.
    ///
    /// # Errors
    /// `TooManyReaders`.
    pub(crate) fn join(
        self: &Arc<Self>,
        key: Key,
        view: &View,
        request: RowsRequest,
        interval: Duration,
    ) -> Result<Reading, Error> {
        let joined = self
            .readers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |readers| {
                (readers < self.most_readers).then_some(readers + 1)
            });
        let Ok(before) = joined else {
            return Err(Error::TooManyReaders {
                limit: self.most_readers,
            });
        };
        metrics::gauge!("anabranch_serving_live_readers").set((before + 1) as f64);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut feeds = self.feeds.lock();
        // A feed whose task is gone says nothing more.
        let goes_on = |feed: &&Arc<Feed>| feed.beats.has_changed().is_ok() && feed.beats.borrow().end.is_none();
        let known = feeds.get(&key).filter(goes_on);
        let feed = match known {
            Some(feed) => Arc::clone(feed),
            None => {
                let feed = self.start(key.clone(), view.clone(), request);
                feeds.insert(key, Arc::clone(&feed));
                metrics::gauge!("anabranch_serving_live_queries").set(feeds.len() as f64);
                feed
            }
        };
        feed.readers.lock().insert(number, interval);
        feed.joined.notify_one();
        Ok(Reading {
            beats: feed.beats.clone(),
            feed,
            number,
            hub: Arc::clone(self),
        })
    }

    fn start(self: &Arc<Self>, key: Key, view: View, request: RowsRequest) -> Arc<Feed> {
        let (said, beats) = watch::channel(Beat::default());
        let nonce = self.consistency.adoption.environment().random_id().simple().to_string();
        let feed = Arc::new(Feed {
            nonce: nonce[..12].to_owned(),
            beats,
            readers: Mutex::default(),
            joined: Notify::new(),
        });
        let table = Arc::new(Table::new(&view, request));
        let looking = Looking {
            hub: Arc::clone(self),
            feed: Arc::clone(&feed),
            key,
            view,
            table,
            said,
            failures: 0,
        };
        self.tasks.spawn(looking.until_unread());
        feed
    }
}

/// The task of a feed.
struct Looking {
    hub: Arc<Hub>,
    feed: Arc<Feed>,
    key: Key,
    view: View,
    table: Arc<Table>,
    said: watch::Sender<Beat>,
    failures: u64,
}

impl Looking {
    /// Looks as often as its readers want, until nobody has read for a while, the view changes, or shutdown.
    async fn until_unread(mut self) {
        let shutdown = self.hub.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.look_on() => {}
        }
        let mut feeds = self.hub.feeds.lock();
        // Another may have taken this one's place already.
        if feeds.get(&self.key).is_some_and(|feed| Arc::ptr_eq(feed, &self.feed)) {
            feeds.remove(&self.key);
        }
        metrics::gauge!("anabranch_serving_live_queries").set(feeds.len() as f64);
    }

    async fn look_on(&mut self) {
        loop {
            if self.feed.interval().is_none() {
                if self.nobody_comes_back().await {
                    return;
                }
                continue;
            }
            let environment = self.hub.consistency.adoption.environment().clone();
            let started = environment.instant();
            if let Some(end) = self.look().await {
                self.said.send_modify(|beat| beat.end = Some(end));
                return;
            }
            // A heavy query takes at most every second moment.
            let took = environment.elapsed(started);
            while let Some(interval) = self.feed.interval() {
                let pause = interval.max(took * 2).saturating_sub(environment.elapsed(started));
                if pause.is_zero() {
                    break;
                }
                tokio::select! {
                    biased;
                    // Whoever comes may be less patient.
                    () = self.feed.joined.notified() => {}
                    () = environment.sleep(pause) => break,
                }
            }
        }
    }

    /// Waits for a reader. When none comes, the feed is taken off the list, so that none can.
    async fn nobody_comes_back(&self) -> bool {
        self.said.send_modify(|beat| {
            beat.looked = None;
            beat.trouble = None;
        });
        let environment = self.hub.consistency.adoption.environment();
        tokio::select! {
            biased;
            () = self.feed.joined.notified() => false,
            () = environment.sleep(LINGER) => {
                let mut feeds = self.hub.feeds.lock();
                // Readers join under the same lock.
                let unread = self.feed.readers.lock().is_empty();
                if unread && feeds.get(&self.key).is_some_and(|feed| Arc::ptr_eq(feed, &self.feed)) {
                    feeds.remove(&self.key);
                }
                unread
            }
        }
    }

    /// Looks once, and says what it saw.
    async fn look(&mut self) -> Option<End> {
        let served = self.hub.consistency.adoption.pin();
        if !served.serves(&self.view) {
            return Some(match served.view(self.view.name()) {
                Some(_) => End::ViewChanged,
                None => End::ViewDropped,
            });
        }
        // The publication must not be kept for as long as the look takes.
        drop(served);
        let (former, troubled) = {
            let beat = self.said.borrow();
            (beat.state.clone(), beat.trouble.is_some())
        };
        let began = self.hub.consistency.adoption.environment().instant();
        metrics::counter!("anabranch_serving_live_looks_total").increment(1);
        match self.read(former.clone(), troubled).await {
            Ok(state) => {
                let state = state.or(former);
                self.said.send_modify(|beat| {
                    beat.state = state;
                    beat.looked = Some(began);
                    beat.trouble = None;
                });
                None
            }
            // The next look says what became of the view.
            Err(Error::Superseded) => None,
            Err(error) => {
                let ends = matches!(error, Error::LiveTooLarge { .. });
                let error = ApiError::from(error);
                let end = ends.then(|| End::Failed(error.to_string()));
                self.said.send_modify(|beat| {
                    // The same failure once more is no news.
                    if beat.trouble.as_ref().is_none_or(|(_, known)| known.code != error.code) {
                        self.failures += 1;
                        beat.trouble = Some((self.failures, Arc::new(error)));
                    }
                });
                end
            }
        }
    }

    /// The rows as they are now; `None` when nothing moved since the former look. After trouble there is always something to
    /// tell, if only that it is over.
    async fn read(&self, former: Option<Arc<State>>, troubled: bool) -> Result<Option<Arc<State>>, Error> {
        let (consistency, admission) = (Arc::clone(&self.hub.consistency), Arc::clone(&self.hub.admission));
        let (view, table) = (self.view.clone(), Arc::clone(&self.table));
        let most_rows = self.hub.most_rows;
        let after = self.hub.query_timeout + table.request.wait();
        let work = self.hub.compute.run(async move {
            let known = former.as_ref().filter(|_| !troubled).map(|former| &former.coverage);
            let request = table.request.clone().at_most(most_rows);
            let Some(answer) = rows_unless(&consistency, &admission, &view, request, known).await? else {
                return Ok(None);
            };
            let rows: usize = answer.batches.iter().map(|batch| batch.num_rows()).sum();
            cpu(rows > LARGE_ROWS, move || {
                let coverage_json = serde_json::to_string(&answer.coverage)
                    .map_err(|error| Error::Internal(format!("coverage cannot be written: {error}")))?;
                let list = tabulate(&table, &answer.batches)?;
                let bytes: usize = list.iter().map(|(key, cells)| key.len() + cells.len()).sum();
                if bytes > MOST_BYTES {
                    return Err(Error::LiveTooLarge {
                        found: bytes,
                        unit: "bytes",
                        limit: MOST_BYTES,
                    });
                }
                let rows = match &former {
                    Some(former) => former.rows.next(list),
                    None => Rows::new(1, list),
                };
                Ok(Some(Arc::new(State::new(
                    Arc::clone(&table.shape),
                    rows,
                    answer.coverage,
                    coverage_json,
                    bytes,
                ))))
            })
            .await
        });
        tokio::time::timeout(after, work)
            .await
            .map_err(|_| Error::Timeout { after })?
    }
}

/// The first event for a reader that begins anew.
pub(crate) fn begin(feed: &Feed, state: &State, interval: Duration, start: Start) -> Bytes {
    event::snapshot(&feed.id(state.rows.position()), interval.as_millis(), state, start)
}

/// When the next event may be sent.
pub(crate) fn due(sent: Option<Instant>, interval: Duration) -> Option<Instant> {
    sent.map(|sent| sent + interval)
}
