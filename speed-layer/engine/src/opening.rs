//! Opens sources: at once those whose log answers, the others as soon as theirs does.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anabranch_catalog::Source;
use anabranch_dataset::Store;
use anabranch_log::PartitionedLog;
use anabranch_model::with_causes;
use anabranch_runtime::{Settings, Shutdown};
use anabranch_topology::Topology;
use anabranch_view::View;
use async_trait::async_trait;

use crate::Error;
use crate::layer::wire;
use crate::look;
use crate::source::{SourceLayer, SourceParts, now_rfc3339};
use crate::sources::Sources;

/// How long a log may take to say who it is before the others go on without it.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Opens the log of a table that is declared while the speed layer runs. Called again when a running table's options
/// change, so that partitions that were added are created.
#[async_trait]
pub trait OpenLog: Send + Sync {
    /// # Errors
    /// When the log cannot be reached.
    async fn open(&self, source: &Source) -> Result<Arc<dyn PartitionedLog>, Box<dyn std::error::Error + Send + Sync>>;
}

/// What every source of this process is opened with.
pub(crate) struct Opener {
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

/// A source to be opened.
pub(crate) struct Opening {
    pub(crate) source: Arc<Source>,
    /// Versions of views on it, and whether each is current.
    pub(crate) views: Vec<(View, bool)>,
    pub(crate) log: Arc<dyn PartitionedLog>,
}

impl Opener {
    /// Opens a source; in the background if that would take its time.
    ///
    /// # Errors
    /// What waiting does not mend: another log than the recorded one, refused credentials, a topic that is not there.
    pub(crate) async fn begin(self: &Arc<Self>, opening: Opening) -> Result<(), Error> {
        let ending = self.stop.child();
        let opened = match self.open(&opening, &ending, PATIENCE).await {
            Ok(opened) => Some(opened),
            Err(error) if error.is_passing() => {
                self.note_waiting(&opening.source, &error);
                None
            }
            Err(error) => return Err(error),
        };
        let name = opening.source.name.clone();
        let run = Arc::clone(self).run(opening, ending.clone(), opened);
        self.sources.begin(name, ending, tokio::spawn(run));
        Ok(())
    }

    /// A source from its opening to the end of its topology. One that ends by itself takes the others with it.
    async fn run(
        self: Arc<Self>,
        opening: Opening,
        ending: Shutdown,
        opened: Option<(Arc<SourceLayer>, Arc<Topology>)>,
    ) -> Result<(), Error> {
        let ended = async {
            let (layer, topology) = match opened {
                Some(opened) => opened,
                None => match self.open_when_possible(&opening, &ending).await {
                    Err(Error::Stopping) => return Ok(()),
                    opened => opened?,
                },
            };
            let look = self.background.child();
            layer.spawn(look::run(layer.clone(), look.clone()));
            let ended = tokio::task::spawn_blocking(move || topology.wait()).await;
            look.cancel();
            Ok(ended.map_err(|error| Error::Task(error.to_string()))??)
        };
        let ended = ended.await;
        if ended.is_err() || !ending.is_cancelled() {
            self.stop.cancel();
        }
        ended
    }

    /// Opens a source however long that takes.
    async fn open_when_possible(
        &self,
        opening: &Opening,
        ending: &Shutdown,
    ) -> Result<(Arc<SourceLayer>, Arc<Topology>), Error> {
        let mut wait = FIRST_WAIT;
        loop {
            tokio::select! {
                () = ending.cancelled() => return Err(Error::Stopping),
                () = self.store.environment().sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
            }
            let opened = tokio::select! {
                () = ending.cancelled() => return Err(Error::Stopping),
                opened = self.open(opening, ending, Duration::MAX) => opened,
            };
            match opened {
                Ok(opened) => {
                    tracing::info!(table = opening.source.name, "open at last");
                    return Ok(opened);
                }
                Err(error) if error.is_passing() => self.note_waiting(&opening.source, &error),
                Err(error) => return Err(error),
            }
        }
    }

    /// Notes why a source cannot be opened yet.
    pub(crate) fn note_waiting(&self, source: &Source, error: &Error) {
        let error = with_causes(error);
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
    async fn open(
        &self,
        opening: &Opening,
        ending: &Shutdown,
        patience: Duration,
    ) -> Result<(Arc<SourceLayer>, Arc<Topology>), Error> {
        let Opening { source, views, log } = opening;
        let identity = tokio::time::timeout(patience, log.identity()).await;
        let identity = identity.map_err(|_| Error::NoAnswer {
            table: source.name.clone(),
            topic: source.topic.clone(),
            waited: patience,
        })??;
        let parts = SourceParts {
            source: Arc::clone(source),
            views: views.clone(),
            log: Arc::clone(log),
            store: self.store.clone(),
            settings: Arc::clone(&self.settings),
            worker_id: self.worker_id.clone(),
            shutdown: self.stop.clone(),
            ending: ending.clone(),
            paused: Arc::clone(&self.paused),
        };
        let layer = SourceLayer::open(parts, &identity).await?;
        let topology = Arc::new(wire(&layer).await?.start()?);
        self.sources.add(&layer, Some(Arc::clone(&topology)));
        Ok((layer, topology))
    }
}
