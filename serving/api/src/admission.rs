//! Who may compute: so many queries at once, so many in the queue behind them, nobody for longer than allowed, and nobody with
//! more memory.
//!
//! Looks of live queries compute under the same permits. There are as many of them as there are live queries, so none is turned
//! away; but they stand in a line of their own, out of which at most half of the permits are held or waited for at a time:
//! however many people look, queries get their turn.

mod memory;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anabranch_runtime::Serving;
use datafusion::execution::memory_pool::MemoryPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Error;
use memory::Memory;

pub(crate) use memory::{QueryMemory, environment, slice_bytes};

/// How long somebody who is turned away is asked to wait, in seconds.
pub(crate) const RETRY_AFTER_SECONDS: u64 = 1;

/// Hands out permits to compute.
pub(crate) struct Admission {
    permits: Arc<Semaphore>,
    /// A look needs one of these before it stands in line for a permit.
    looks: Arc<Semaphore>,
    most_running: usize,
    most_waiting: usize,
    queries: Count,
    of_looks: Count,
    timeout: Duration,
    memory: Arc<Memory>,
}

/// How many compute, and how many wait for it.
#[derive(Default)]
struct Count {
    running: AtomicUsize,
    waiting: AtomicUsize,
}

impl Count {
    fn read(&self) -> (usize, usize) {
        (
            self.running.load(Ordering::Relaxed),
            self.waiting.load(Ordering::Relaxed),
        )
    }
}

/// Who wants to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Query,
    /// One look of a live query.
    Look,
}

impl Kind {
    fn running(self) -> metrics::Gauge {
        match self {
            Self::Query => metrics::gauge!("anabranch_serving_queries_running"),
            Self::Look => metrics::gauge!("anabranch_serving_live_looks_running"),
        }
    }

    fn waiting(self) -> metrics::Gauge {
        match self {
            Self::Query => metrics::gauge!("anabranch_serving_queries_waiting"),
            Self::Look => metrics::gauge!("anabranch_serving_live_looks_waiting"),
        }
    }
}

impl Admission {
    pub(crate) fn new(settings: &Serving) -> Arc<Self> {
        let most_running = settings.max_queries.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(most_running)),
            looks: Arc::new(Semaphore::new((most_running / 2).max(1))),
            most_running,
            most_waiting: settings.max_waiting_queries,
            queries: Count::default(),
            of_looks: Count::default(),
            timeout: *settings.query_timeout,
            memory: Memory::new(settings),
        })
    }

    /// Queries that compute, and queries in the queue.
    pub(crate) fn counts(&self) -> (usize, usize) {
        self.queries.read()
    }

    /// Looks of live queries that compute, and those that wait for their turn.
    pub(crate) fn looks(&self) -> (usize, usize) {
        self.of_looks.read()
    }

    /// Waits for a permit. `patience` is what the query may spend on top of its time-out, waiting for what it demands.
    /// Cancel-safe.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full, `Timeout` when it does not move.
    pub(crate) async fn enter(self: &Arc<Self>, patience: Duration) -> Result<Ticket, Error> {
        self.admit(Kind::Query, patience).await
    }

    /// The same for one look of a live query. Cancel-safe.
    ///
    /// # Errors
    /// `Timeout` when its turn does not come.
    pub(crate) async fn enter_look(self: &Arc<Self>, patience: Duration) -> Result<Ticket, Error> {
        self.admit(Kind::Look, patience).await
    }

    async fn admit(self: &Arc<Self>, kind: Kind, patience: Duration) -> Result<Ticket, Error> {
        let limit = self.timeout.saturating_add(patience);
        let started = Instant::now();
        let mut ticket = Ticket {
            admission: Arc::clone(self),
            kind,
            held: None,
            started,
            limit,
            memory: self.memory.of_a_query(),
            outcome: "cancelled",
        };
        match ticket.resume().await {
            Ok(()) => Ok(ticket),
            Err(error) => Err(ticket.fail(error)),
        }
    }

    async fn permit(self: &Arc<Self>, kind: Kind) -> Result<Held, Error> {
        let try_now = || {
            let first = match kind {
                Kind::Query => None,
                Kind::Look => Some(Arc::clone(&self.looks).try_acquire_owned().ok()?),
            };
            Some((Arc::clone(&self.permits).try_acquire_owned().ok()?, first))
        };
        let (permit, first) = match try_now() {
            Some(permits) => permits,
            None => {
                let _place = Place::take(self, kind)?;
                let closed = |_| Error::Internal("the queue of queries is closed".into());
                let first = match kind {
                    Kind::Query => None,
                    Kind::Look => Some(Arc::clone(&self.looks).acquire_owned().await.map_err(closed)?),
                };
                (Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?, first)
            }
        };
        self.count(kind).running.fetch_add(1, Ordering::Relaxed);
        kind.running().increment(1.0);
        Ok(Held {
            admission: Arc::clone(self),
            kind,
            _permit: permit,
            _first: first,
        })
    }

    fn count(&self, kind: Kind) -> &Count {
        match kind {
            Kind::Query => &self.queries,
            Kind::Look => &self.of_looks,
        }
    }
}

/// A place in the queue.
struct Place<'a>(&'a Admission, Kind);

impl<'a> Place<'a> {
    fn take(admission: &'a Admission, kind: Kind) -> Result<Self, Error> {
        let most = match kind {
            Kind::Query => admission.most_waiting,
            Kind::Look => usize::MAX,
        };
        let waiting = &admission.count(kind).waiting;
        let taken = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            (waiting < most).then_some(waiting + 1)
        });
        if taken.is_err() {
            return Err(Error::Overloaded {
                running: admission.most_running,
                waiting: admission.most_waiting,
            });
        }
        kind.waiting().increment(1.0);
        Ok(Self(admission, kind))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.count(self.1).waiting.fetch_sub(1, Ordering::Relaxed);
        self.1.waiting().decrement(1.0);
    }
}

/// A permit, counted.
struct Held {
    admission: Arc<Admission>,
    kind: Kind,
    _permit: OwnedSemaphorePermit,
    /// Of a look: that of its own line.
    _first: Option<OwnedSemaphorePermit>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.admission.count(self.kind).running.fetch_sub(1, Ordering::Relaxed);
        self.kind.running().decrement(1.0);
    }
}

/// One admitted query, or look. Dropping it gives the permit back; a query that nobody settled before counts as cancelled.
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    kind: Kind,
    held: Option<Held>,
    started: Instant,
    limit: Duration,
    memory: Arc<dyn MemoryPool>,
    outcome: &'static str,
}

impl Ticket {
    /// Gives the permit back while the query only waits for others.
    pub(crate) fn pause(&mut self) {
        self.held = None;
    }

    /// Takes a permit again.
    ///
    /// # Errors
    /// As [`Admission::enter`].
    pub(crate) async fn resume(&mut self) -> Result<(), Error> {
        if self.held.is_none() {
            let admission = Arc::clone(&self.admission);
            self.held = Some(self.within(admission.permit(self.kind)).await?);
        }
        Ok(())
    }

    /// What everything that the query holds is taken out of.
    pub(crate) fn memory(&self) -> &Arc<dyn MemoryPool> {
        &self.memory
    }

    /// What to say, and at which moment, when the query takes too long.
    pub(crate) fn deadline(&self) -> (tokio::time::Instant, Duration) {
        ((self.started + self.limit).into(), self.limit)
    }

    /// Runs a part of the query within the time that it has.
    ///
    /// # Errors
    /// `Timeout`, and what `work` meets.
    pub(crate) async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let (at, after) = self.deadline();
        tokio::time::timeout_at(at, work)
            .await
            .map_err(|_| Error::Timeout { after })?
    }

    /// Notes how the query ended well.
    pub(crate) fn succeed(&mut self) {
        self.outcome = "ok";
    }

    /// Notes how it failed.
    pub(crate) fn fail(&mut self, error: Error) -> Error {
        self.outcome = match &error {
            Error::Timeout { .. } => "timeout",
            Error::Overloaded { .. } | Error::MemoryBusy { .. } => "refused",
            _ => "failed",
        };
        error
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.kind == Kind::Look {
            return;
        }
        metrics::counter!("anabranch_serving_queries_total", "outcome" => self.outcome).increment(1);
        metrics::histogram!("anabranch_serving_query_seconds").record(self.started.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests;
