//! Who may compute: so many queries at once, so many in the queue behind them, and nobody for longer than allowed.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anabranch_runtime::Serving;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Error;

/// How long somebody who is turned away is asked to wait, in seconds.
pub(crate) const RETRY_AFTER_SECONDS: u64 = 1;

/// Hands out permits to compute.
pub(crate) struct Admission {
    permits: Arc<Semaphore>,
    most_running: usize,
    most_waiting: usize,
    running: AtomicUsize,
    waiting: AtomicUsize,
    timeout: Duration,
}

impl Admission {
    pub(crate) fn new(settings: &Serving) -> Arc<Self> {
        let most_running = settings.max_queries.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(most_running)),
            most_running,
            most_waiting: settings.max_waiting_queries,
            running: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            timeout: *settings.query_timeout,
        })
    }

    /// Queries that compute, and queries in the queue.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (
            self.running.load(Ordering::Relaxed),
            self.waiting.load(Ordering::Relaxed),
        )
    }

    /// Waits for a permit. `patience` is what the query may spend on top of its time-out, waiting for what it demands.
    /// Cancel-safe.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full, `Timeout` when it does not move.
    pub(crate) async fn enter(self: &Arc<Self>, patience: Duration) -> Result<Ticket, Error> {
        let limit = self.timeout.saturating_add(patience);
        let started = Instant::now();
        let mut ticket = Ticket {
            admission: Arc::clone(self),
            held: None,
            started,
            limit,
            outcome: "cancelled",
        };
        match ticket.resume().await {
            Ok(()) => Ok(ticket),
            Err(error) => Err(ticket.fail(error)),
        }
    }

    async fn permit(self: &Arc<Self>) -> Result<Held, Error> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _place = Place::take(self)?;
                let acquired = Arc::clone(&self.permits).acquire_owned().await;
                acquired.map_err(|_| Error::Internal("the queue of queries is closed".into()))?
            }
        };
        self.running.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!("anabranch_serving_queries_running").increment(1.0);
        Ok(Held {
            admission: Arc::clone(self),
            _permit: permit,
        })
    }
}

/// A place in the queue.
struct Place<'a>(&'a Admission);

impl<'a> Place<'a> {
    fn take(admission: &'a Admission) -> Result<Self, Error> {
        let taken = admission
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < admission.most_waiting).then_some(waiting + 1)
            });
        if taken.is_err() {
            return Err(Error::Overloaded {
                running: admission.most_running,
                waiting: admission.most_waiting,
            });
        }
        metrics::gauge!("anabranch_serving_queries_waiting").increment(1.0);
        Ok(Self(admission))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("anabranch_serving_queries_waiting").decrement(1.0);
    }
}

/// A permit, counted.
struct Held {
    admission: Arc<Admission>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.admission.running.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("anabranch_serving_queries_running").decrement(1.0);
    }
}

/// One admitted query. Dropping it gives the permit back; a query that nobody settled before counts as cancelled.
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    held: Option<Held>,
    started: Instant,
    limit: Duration,
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
            self.held = Some(self.within(admission.permit()).await?);
        }
        Ok(())
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
        metrics::counter!("anabranch_serving_queries_total", "outcome" => self.outcome).increment(1);
        metrics::histogram!("anabranch_serving_query_seconds").record(self.started.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests;
