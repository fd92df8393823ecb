use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use anabranch_front::PLANNING_STACK_BYTES;
use anabranch_trace::{TraceContext, in_scope};
use futures::{Stream, StreamExt};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Error;

/// From so many rows on, work leaves the async threads.
pub(crate) const LARGE_ROWS: usize = 16_384;

/// The runtime that plans, merges and formats. HTTP workers only wait for it.
pub(crate) struct Compute {
    handle: Handle,
    /// `Some` until dropped. In a simulation there is none: work runs where it is awaited.
    runtime: Option<Runtime>,
}

impl Compute {
    pub(crate) fn start() -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .thread_name("anabranch-query")
            .thread_stack_size(PLANNING_STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|source| Error::Io {
                what: "cannot start the query threads",
                source,
            })?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Without threads of its own, for a simulation.
    pub(crate) fn inline() -> Self {
        Self {
            handle: Handle::current(),
            runtime: None,
        }
    }

    /// Runs `work` there and waits for it. Dropping the returned future cancels the work: a client that hangs up stops
    /// its query.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        if self.runtime.is_none() {
            return work.await;
        }
        let mut task = AbortOnDrop(self.handle.spawn(in_scope(TraceContext::current(), work)));
        (&mut task.0)
            .await
            .unwrap_or_else(|join| Err(Error::Internal(format!("query task failed: {join}"))))
    }
}

impl Compute {
    /// Reads `stream` there, at most `ahead` items before they are asked for. Dropping what is returned drops the stream, and so
    /// does `stop`, whether or not the reader takes what there is: what it gives is the last item then.
    pub(crate) fn pipe<T: Send + 'static>(
        &self,
        ahead: usize,
        stream: impl Stream<Item = T> + Send + 'static,
        stop: impl Future<Output = T> + Send + 'static,
    ) -> Piped<T> {
        let (sender, items) = mpsc::channel(ahead);
        let task = self.handle.spawn(async move {
            let last = {
                let (mut stream, mut stop) = (std::pin::pin!(stream), std::pin::pin!(stop));
                loop {
                    let next = tokio::select! {
                        biased;
                        next = stream.next() => next,
                        last = &mut stop => break last,
                    };
                    let Some(item) = next else { return };
                    tokio::select! {
                        biased;
                        sent = sender.send(item) => if sent.is_err() { return },
                        last = &mut stop => break last,
                    }
                }
            };
            // What the stream held is free by now. If nobody takes this, nobody is told.
            let _ = sender.send(last).await;
        });
        Piped {
            items,
            _task: AbortOnDrop(task),
        }
    }
}

/// A stream that is computed on the threads for queries.
pub(crate) struct Piped<T> {
    items: mpsc::Receiver<T>,
    _task: AbortOnDrop<()>,
}

impl<T> Stream for Piped<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.items.poll_recv(cx)
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would block, which is not allowed where futures run.
            runtime.shutdown_background();
        }
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs CPU-bound work of a query: small work at once, large work where it holds up nobody.
pub(crate) async fn cpu<T: Send + 'static>(
    large: bool,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if !large {
        return work();
    }
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|join| Err(Error::Internal(format!("query work failed: {join}"))))
}
