use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

/// One shutdown signal. Clones hear the same signal; a child also hears its parent's.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal that can be given without giving this one.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Asks everybody who listens to stop.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits for the signal. Cancel-safe.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Gives the signal on SIGINT or SIGTERM. A second signal ends the process at once, for whoever cannot wait.
    ///
    /// # Errors
    /// When the process may not install signal handlers.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            for times in 1.. {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if times > 1 {
                    std::process::exit(130);
                }
                tracing::info!("stopping; a second signal stops at once");
                shutdown.cancel();
            }
        });
        Ok(())
    }
}

/// What the failure of a background task means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The service cannot go on without it.
    Shutdown,
    /// The service goes on; the failure is logged.
    Log,
}

/// Owns background tasks. Every task hears the same [`Shutdown`] and is awaited by [`Tasks::join`].
#[derive(Clone, Debug)]
pub struct Tasks {
    shutdown: Shutdown,
    set: Arc<Mutex<JoinSet<()>>>,
    failed: Arc<Mutex<Option<String>>>,
}

impl Tasks {
    pub fn new(shutdown: Shutdown) -> Self {
        Self {
            shutdown,
            set: Arc::default(),
            failed: Arc::default(),
        }
    }

    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Starts a task. Tasks watch the shutdown signal themselves, so that each can finish what it is doing.
    pub fn spawn<F, E>(&self, name: &'static str, on_error: OnError, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let shutdown = self.shutdown.clone();
        let failed = Arc::clone(&self.failed);
        // The inner handle turns a panic into an error like any other.
        let handle = tokio::spawn(task);
        let watched = async move {
            let error = match handle.await {
                Ok(Ok(())) => {
                    debug!(task = name, "task ended");
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(join) => join.to_string(),
            };
            error!(task = name, %error, "background task failed");
            if on_error == OnError::Shutdown {
                failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(format!("{name}: {error}"));
                shutdown.cancel();
            }
        };
        self.set.lock().unwrap_or_else(PoisonError::into_inner).spawn(watched);
    }

    /// Waits for all tasks.
    ///
    /// # Errors
    /// The first failure of a task whose failure stops the service.
    pub async fn join(&self) -> Result<(), String> {
        loop {
            // Taken out, so that tasks may start others while we wait.
            let mut set = std::mem::take(&mut *self.set.lock().unwrap_or_else(PoisonError::into_inner));
            if set.is_empty() {
                break;
            }
            while set.join_next().await.is_some() {}
        }
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests;
