//! Opens sources: at once those whose log answers, the others as soon as theirs does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anabranch_catalog::Source;
use anabranch_dataset::Store;
use anabranch_log::PartitionedLog;
use anabranch_runtime::{Settings, Shutdown};
use anabranch_topology::Topology;
use anabranch_view::View;

use crate::Error;
use crate::layer::wire;
use crate::look;
use crate::source::{SourceLayer, SourceParts, now_rfc3339, with_sources};
use crate::sources::Sources;

/// How long a log may take to say who it is before the others go on without it.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What every source is opened with.
pub(crate) struct Opener {
    pub(crate) views: Arc<Vec<View>>,
    /// By table name.
    pub(crate) logs: BTreeMap<String, Arc<dyn PartitionedLog>>,
    pub(crate) store: Store,
    pub(crate) settings: Arc<Settings>,
    pub(crate) worker_id: String,
    /// Stops all sources: when one cannot go on, the whole layer stops in order.
    pub(crate) stop: Shutdown,
    /// Stops looks at logs and master datasets, later.
    pub(crate) background: Shutdown,
    pub(crate) paused: Arc<AtomicBool>,
    pub(crate) sources: Arc<Sources>,
}

/// A source after the first attempt.
pub(crate) enum Attempt {
    Open(Arc<Topology>),
    /// Nobody answers: to be tried again.
    Waiting(Arc<Source>),
}

impl Opener {
    /// Opens a source unless that would take its time.
    ///
    /// # Errors
    /// What waiting does not mend: another log than the recorded one, refused credentials, a topic that is not there.
    pub(crate) async fn try_open(&self, source: &Arc<Source>) -> Result<Attempt, Error> {
        match self.open(source, PATIENCE).await {
            Ok(topology) => Ok(Attempt::Open(topology)),
            Err(error) if error.is_passing() => {
                self.note_waiting(source, &error);
                Ok(Attempt::Waiting(Arc::clone(source)))
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a source however long that takes.
    ///
    /// # Errors
    /// As [`try_open`](Self::try_open); `Stopping` when the layer stops first.
    pub(crate) async fn open_when_possible(&self, source: &Arc<Source>) -> Result<Arc<Topology>, Error> {
        let mut wait = FIRST_WAIT;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Err(Error::Stopping),
                () = self.store.environment().sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
            }
            let opened = tokio::select! {
                () = self.stop.cancelled() => return Err(Error::Stopping),
                opened = self.open(source, Duration::MAX) => opened,
            };
            match opened {
                Ok(topology) => {
                    tracing::info!(table = source.name, "open at last");
                    return Ok(topology);
                }
                Err(error) if error.is_passing() => self.note_waiting(source, &error),
                Err(error) => return Err(error),
            }
        }
    }

    fn note_waiting(&self, source: &Source, error: &Error) {
        let error = with_sources(error);
        tracing::warn!(
            table = source.name,
            error,
            "a source cannot be opened yet; trying again"
        );
        metrics::gauge!("anabranch_source_connected", "table" => source.name.clone()).set(0.0);
        let now = now_rfc3339(self.store.environment());
        self.sources.wait(&source.name, now, error);
    }

    /// Opens the source's master dataset, joins the readers of its log, and starts its topology.
    async fn open(&self, source: &Arc<Source>, patience: Duration) -> Result<Arc<Topology>, Error> {
        let log = self.logs.get(&source.name).ok_or_else(|| Error::NoLog {
            table: source.name.clone(),
        })?;
        let identity = tokio::time::timeout(patience, log.identity()).await;
        let identity = identity.map_err(|_| Error::NoAnswer {
            table: source.name.clone(),
            topic: source.topic.clone(),
            waited: patience,
        })??;
        let parts = SourceParts {
            source: Arc::clone(source),
            views: self
                .views
                .iter()
                .filter(|view| view.source().name == source.name)
                .map(|view| (view.clone(), true))
                .collect(),
            log: Arc::clone(log),
            store: self.store.clone(),
            settings: Arc::clone(&self.settings),
            worker_id: self.worker_id.clone(),
            shutdown: self.stop.clone(),
            paused: Arc::clone(&self.paused),
        };
        let layer = SourceLayer::open(parts, &identity).await?;
        let topology = Arc::new(wire(&layer).await?.start()?);
        layer.spawn(look::run(Arc::clone(&layer), self.background.clone()));
        self.sources.add(&layer, Some(Arc::clone(&topology)));
        Ok(topology)
    }
}
