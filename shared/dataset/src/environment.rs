//! Time, chance and threads, passed in together with the store.
//!
//! A service runs on the system's. The simulation (`tests/simulation`) passes in its own, so that one seed repeats a whole
//! run: whatever waits, draws a number or leaves its thread does so through here, in every crate that a simulated process
//! is made of.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};
use uuid::Uuid;

/// What a component gets from its surroundings besides storage. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    simulated: Option<Arc<dyn Simulated>>,
}

/// A rule that a simulation can have left out, to show that it notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// A landing under a former ownership epoch is refused (ARCHITECTURE.md, rule 7).
    OwnershipEpoch,
    /// A landing that does not begin at the recorded next offset is refused (rule 7).
    NextOffset,
    /// A run publishes as exactly the number after the one it was based on (rule 12).
    PublicationNumber,
}

/// Stands in for the system in a simulation.
pub trait Simulated: fmt::Debug + Send + Sync {
    /// The wall clock, as this process sees it.
    fn now(&self) -> DateTime<Utc>;

    /// The monotonic clock.
    fn instant(&self) -> Instant;

    /// A number that every bit of is random.
    fn random(&self) -> u64;

    /// Ends after `wait`.
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()>;

    /// Runs a task of this process.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Runs, on this thread, what would otherwise leave it. Requests it makes to the store are answered at once.
    fn offload(&self, work: &mut dyn FnMut());

    /// Whether product code is to break a rule.
    fn leaves_out(&self, _rule: Rule) -> bool {
        false
    }
}

impl Environment {
    /// The surroundings of a simulated process.
    pub fn simulated(simulated: Arc<dyn Simulated>) -> Self {
        Self {
            simulated: Some(simulated),
        }
    }

    /// Whether a rule is to be broken, for a simulation that shows that it notices. Never outside of one.
    pub fn leaves_out(&self, rule: Rule) -> bool {
        self.simulated
            .as_ref()
            .is_some_and(|simulated| simulated.leaves_out(rule))
    }

    /// The wall clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.simulated
            .as_ref()
            .map_or_else(Utc::now, |simulated| simulated.now())
    }

    /// The monotonic clock.
    pub fn instant(&self) -> Instant {
        self.simulated
            .as_ref()
            .map_or_else(Instant::now, |simulated| simulated.instant())
    }

    /// Time since `since`, by the monotonic clock.
    pub fn elapsed(&self, since: Instant) -> Duration {
        self.instant().saturating_duration_since(since)
    }

    /// A number from 0 to `ceiling`.
    pub fn random_up_to(&self, ceiling: u64) -> u64 {
        match &self.simulated {
            None => rand::random_range(0..=ceiling),
            Some(simulated) => match ceiling.checked_add(1) {
                Some(count) => simulated.random() % count,
                None => simulated.random(),
            },
        }
    }

    /// An id that no other has (version 4).
    pub fn random_id(&self) -> Uuid {
        match &self.simulated {
            None => Uuid::new_v4(),
            Some(simulated) => Uuid::from_u64_pair(simulated.random(), simulated.random()),
        }
    }

    /// An id that no other has and that sorts after those made before (version 7).
    pub fn ordered_id(&self) -> Uuid {
        match &self.simulated {
            None => Uuid::now_v7(),
            Some(simulated) => {
                let ms = simulated.now().timestamp_millis().max(0).cast_unsigned();
                let (high, low) = (simulated.random(), simulated.random());
                let tail = u128::from(high & 0xffff) << 64 | u128::from(low);
                Uuid::from_u128(u128::from(ms) << 80 | tail)
            }
        }
    }

    /// Ends after `wait`. Cancel-safe.
    pub async fn sleep(&self, wait: Duration) {
        match &self.simulated {
            None => tokio::time::sleep(wait).await,
            Some(simulated) => simulated.sleep(wait).await,
        }
    }

    /// Runs a task in the background, on the runtime this is called from.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Spawned<T> {
        match &self.simulated {
            None => Spawned(Running::Task(tokio::spawn(task))),
            Some(simulated) => Self::spawn_simulated(&**simulated, task),
        }
    }

    /// Runs a task in the background, on `runtime`.
    pub fn spawn_on<T: Send + 'static>(
        &self,
        runtime: &Handle,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Spawned<T> {
        match &self.simulated {
            None => Spawned(Running::Task(runtime.spawn(task))),
            Some(simulated) => Self::spawn_simulated(&**simulated, task),
        }
    }

    fn spawn_simulated<T: Send + 'static>(
        simulated: &dyn Simulated,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Spawned<T> {
        let (ended, end) = oneshot::channel();
        simulated.spawn(Box::pin(async move {
            // Nobody need wait for it.
            let _ = ended.send(task.await);
        }));
        Spawned(Running::Simulated(end))
    }

    /// Runs work that takes its time, or blocks, on a thread for such work.
    ///
    /// # Errors
    /// When the work panicked.
    pub async fn offload<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        match &self.simulated {
            None => tokio::task::spawn_blocking(work).await,
            Some(simulated) => Ok(run_offloaded(&**simulated, work)),
        }
    }

    /// As [`offload`](Self::offload), for work that waits for what comes out of a channel.
    ///
    /// # Errors
    /// When the work panicked.
    pub async fn offload_reading<I: Send + 'static, T: Send + 'static>(
        &self,
        mut input: mpsc::Receiver<I>,
        work: impl FnOnce(&mut dyn Iterator<Item = I>) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match &self.simulated {
            None => {
                tokio::task::spawn_blocking(move || work(&mut std::iter::from_fn(move || input.blocking_recv()))).await
            }
            Some(simulated) => {
                let mut items = Vec::new();
                while let Some(item) = input.recv().await {
                    items.push(item);
                }
                Ok(run_offloaded(&**simulated, move || work(&mut items.into_iter())))
            }
        }
    }

    /// What a stream yields, for work that is offloaded and may wait for it: at most `capacity` items are read ahead. The
    /// stream is given up when the iterator is.
    pub async fn drain<I: Send + 'static>(
        &self,
        capacity: usize,
        stream: impl Stream<Item = I> + Send + 'static,
    ) -> Box<dyn Iterator<Item = I> + Send> {
        if self.simulated.is_some() {
            return Box::new(stream.collect::<Vec<I>>().await.into_iter());
        }
        let (sender, mut receiver) = mpsc::channel(capacity);
        tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            loop {
                let item = tokio::select! {
                    biased;
                    () = sender.closed() => return,
                    item = stream.next() => item,
                };
                let Some(item) = item else { return };
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        });
        Box::new(std::iter::from_fn(move || receiver.blocking_recv()))
    }

    /// As [`offload`](Self::offload), for work that hands on items as it goes: at most `capacity` wait to be received.
    /// `work` returns early when its sink says that nobody listens any more.
    pub fn offload_writing<O: Send + 'static, T: Send + 'static>(
        &self,
        capacity: usize,
        work: impl FnOnce(&mut dyn FnMut(O) -> bool) -> T + Send + 'static,
    ) -> (mpsc::Receiver<O>, Spawned<T>) {
        let (sender, receiver) = mpsc::channel(capacity);
        let spawned = match &self.simulated {
            None => Spawned(Running::Task(tokio::task::spawn_blocking(move || {
                work(&mut |item| sender.blocking_send(item).is_ok())
            }))),
            Some(simulated) => {
                let mut items = Vec::new();
                let done = run_offloaded(&**simulated, || {
                    let done = work(&mut |item| {
                        items.push(item);
                        true
                    });
                    (done, items)
                });
                Self::spawn_simulated(&**simulated, async move {
                    let (done, items) = done;
                    for item in items {
                        if sender.send(item).await.is_err() {
                            break;
                        }
                    }
                    done
                })
            }
        };
        (receiver, spawned)
    }
}

fn run_offloaded<T>(simulated: &dyn Simulated, work: impl FnOnce() -> T) -> T {
    let (mut work, mut done) = (Some(work), None);
    simulated.offload(&mut || done = work.take().map(|work| work()));
    done.expect("the simulation runs what is offloaded before it returns")
}

/// A task in the background. It goes on when this is dropped.
#[derive(Debug)]
pub struct Spawned<T>(Running<T>);

#[derive(Debug)]
enum Running<T> {
    Task(JoinHandle<T>),
    Simulated(oneshot::Receiver<T>),
}

impl<T> Spawned<T> {
    /// Waits for its end; `None` when it panicked or was given up.
    pub async fn ended(self) -> Option<T> {
        match self.0 {
            Running::Task(task) => task.await.ok(),
            Running::Simulated(end) => end.await.ok(),
        }
    }

    /// Gives it up at its next await.
    pub fn abort(&self) {
        if let Running::Task(task) = &self.0 {
            task.abort();
        }
    }
}
