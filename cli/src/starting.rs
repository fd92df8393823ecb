//! Starting while the object store does not answer: the service waits, says so, and can be asked why it is not ready.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_dataset::Store;
use anabranch_model::ErrorKind;
use anabranch_runtime::{Shutdown, http};
use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::platform::Platform;

/// How long the store may take before the service says that it waits for it.
const PATIENCE: Duration = Duration::from_secs(3);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What a service needs before it can start.
pub struct Opened<const N: usize> {
    pub store: Store,
    /// With what is to run.
    pub platform: Platform,
    pub listeners: [TcpListener; N],
}

/// Opens the store and settles what is to run, however long the store is away. Meanwhile `/healthz` answers at the
/// listeners of `doors`, each with its service's name, and everything else says what is waited for (503); but not where TLS is asked
/// for, since nothing else than the services themselves may answer there. `None` when the service is stopped before.
///
/// # Errors
/// What waiting does not mend: refused credentials, a missing bucket, definitions that do not fit.
pub async fn open<const N: usize>(
    platform: &Platform,
    doors: [(&'static str, TcpListener); N],
    shutdown: &Shutdown,
) -> Result<Option<Opened<N>>> {
    let waiting_for = WaitingFor::new(&platform.settings.storage.url);
    let opening = open_when_possible(platform, &waiting_for);
    tokio::pin!(opening);
    tokio::select! {
        opened = &mut opening => {
            let (store, platform) = opened?;
            let listeners = doors.map(|(_, listener)| listener);
            return Ok(Some(Opened { store, platform, listeners }));
        }
        () = tokio::time::sleep(PATIENCE) => {}
        () = shutdown.cancelled() => return Ok(None),
    }
    tracing::warn!(reason = waiting_for.reason(), "the service waits for its object store");
    let (mut keepers, closing) = (JoinSet::new(), Shutdown::new());
    let mut listeners = Vec::with_capacity(N);
    let silent = platform.settings.tls.scheme() == "https";
    for (service, listener) in doors {
        if silent {
            listeners.push(listener);
            continue;
        }
        let (listener, door) = twins(listener).context("cannot answer while the store is away")?;
        listeners.push(listener);
        let waiting_for = waiting_for.clone();
        let router = http::waiting_router(service, move || waiting_for.reason());
        keepers.spawn(http::serve(door, router, closing.clone()));
    }
    let opened = tokio::select! {
        opened = &mut opening => Some(opened),
        () = shutdown.cancelled() => None,
    };
    closing.cancel();
    while let Some(closed) = keepers.join_next().await {
        closed?.context("cannot answer while the store is away")?;
    }
    let Some(opened) = opened else { return Ok(None) };
    let (store, platform) = opened?;
    let listeners = listeners
        .try_into()
        .unwrap_or_else(|_| unreachable!("each door has kept its listener"));
    Ok(Some(Opened {
        store,
        platform,
        listeners,
    }))
}

async fn open_when_possible(platform: &Platform, waiting_for: &WaitingFor) -> Result<(Store, Platform)> {
    let mut wait = FIRST_WAIT;
    loop {
        let error = match attempt(platform).await {
            Err(error) if is_passing(&error) => format!("{error:#}"),
            done => return done,
        };
        tracing::warn!(error, ?wait, "the object store does not answer; trying again");
        waiting_for.failed(error);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn attempt(platform: &Platform) -> Result<(Store, Platform)> {
    let store = platform.store().await?;
    let settled = platform.settled(&store).await?;
    Ok((store, settled))
}

/// Whether the same may succeed later.
fn is_passing(error: &anyhow::Error) -> bool {
    let dataset = error.downcast_ref().map(anabranch_dataset::Error::kind);
    let definitions = || error.downcast_ref().map(anabranch_definitions::Error::kind);
    dataset.or_else(definitions) == Some(ErrorKind::Unavailable)
}

/// Why the service has not started yet.
#[derive(Clone)]
struct WaitingFor {
    reason: Arc<Mutex<String>>,
}

impl WaitingFor {
    fn new(url: &str) -> Self {
        let reason = format!("the object store at {url} has not answered yet");
        Self {
            reason: Arc::new(Mutex::new(reason)),
        }
    }

    fn failed(&self, error: String) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) =
            format!("the object store does not answer: {error}");
    }

    fn reason(&self) -> String {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Two listeners of one queue: what the first does not take any more is taken by the second.
fn twins(listener: TcpListener) -> std::io::Result<(TcpListener, TcpListener)> {
    let one = listener.into_std()?;
    let other = one.try_clone()?;
    Ok((TcpListener::from_std(one)?, TcpListener::from_std(other)?))
}
