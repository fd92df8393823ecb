//! What the parts of one source's speed layer share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use anabranch_catalog::Source;
use anabranch_dataset::{Environment, MasterDataset, Spawned, Store};
use anabranch_log::PartitionedLog;
use anabranch_model::{OffsetVector, PartitionId, with_causes};
use anabranch_runtime::{Settings, Shutdown};
use anabranch_view::View;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;

use crate::Error;
use crate::program::Program;
use crate::state::PartitionState;

/// Dead letters shown in the status.
const DEAD_SAMPLES: usize = 8;
/// Refusals shown in the status.
const REFUSALS: usize = 8;

/// One source: its log, its master dataset, its views, and the partitions this worker owns.
pub(crate) struct SourceLayer {
    /// As it was opened: name, topic, connector and start, which never change. Columns are the program's.
    pub(crate) source: Arc<Source>,
    pub(crate) log: Arc<dyn PartitionedLog>,
    pub(crate) store: Store,
    pub(crate) dataset: MasterDataset,
    pub(crate) settings: Arc<Settings>,
    pub(crate) worker_id: String,
    pub(crate) view_bolts: usize,
    pub(crate) decoders: usize,
    /// Workers that fold landed rows.
    pub(crate) folders: usize,
    pub(crate) runtime: tokio::runtime::Handle,
    /// Ends background work of this source.
    pub(crate) shutdown: Shutdown,
    /// Ends reading: given with `shutdown`, or alone when the table was dropped.
    pub(crate) ending: Shutdown,
    /// Set when spouts must wait because realtime state is at twice its budget; shared by all sources.
    pub(crate) paused: Arc<AtomicBool>,
    program: RwLock<Arc<Program>>,
    /// Ids of views that were never given out.
    free_view: AtomicUsize,
    partitions: RwLock<BTreeMap<PartitionId, Arc<PartitionState>>>,
    pub(crate) facts: Facts,
    /// The first error that must stop the service.
    fault: Mutex<Option<Error>>,
}

/// What status pages show of a source beside its partitions.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) events: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) dead_samples: Mutex<VecDeque<DeadSample>>,
    pub(crate) unseen_columns: Mutex<Vec<String>>,
    pub(crate) log_ends: Mutex<OffsetVector>,
    pub(crate) last_landing: Mutex<Option<LastLanding>>,
    /// What the whole master dataset holds, by all workers, when last looked.
    pub(crate) landed_rows: Mutex<Option<LandedRows>>,
    pub(crate) landings: AtomicU64,
    pub(crate) refused: Mutex<VecDeque<Refused>>,
    pub(crate) refusals: AtomicU64,
    pub(crate) rebuilds: AtomicU64,
    pub(crate) last_rebuild: Mutex<Option<LastRebuild>>,
    /// Partitions of ours that cannot be read on.
    pub(crate) stopped: Mutex<BTreeMap<PartitionId, Stopped>>,
    /// Whether the log answers; `None` before it was first asked.
    pub(crate) connection: Mutex<Option<Connection>>,
    /// Decoded events that wait to be landed, in bytes.
    pub(crate) landing_bytes: Arc<AtomicUsize>,
    /// What keeps a landing from being committed.
    pub(crate) landing_trouble: Mutex<Option<Trouble>>,
}

/// Whether a source's log answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Connection {
    pub(crate) connected: bool,
    /// RFC 3339.
    pub(crate) since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// Something that is tried again until it works.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Trouble {
    /// RFC 3339.
    pub(crate) since: String,
    pub(crate) error: String,
}

/// A partition that waits for somebody to decide.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Stopped {
    /// RFC 3339.
    pub(crate) since: String,
    pub(crate) error: String,
    /// First lost offset, and the one after the last.
    pub(crate) lost: [i64; 2],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct LandedRows {
    pub(crate) version: Option<u64>,
    pub(crate) events: u64,
    pub(crate) dead_letters: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct DeadSample {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) reason: String,
    /// The beginning of its bytes; what is not UTF-8 is replaced.
    pub(crate) raw: String,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct LastLanding {
    pub(crate) version: u64,
    /// RFC 3339.
    pub(crate) at: String,
    pub(crate) events: u64,
    pub(crate) dead_letters: u64,
    pub(crate) file_bytes: u64,
    /// From closing to commit, in milliseconds.
    pub(crate) elapsed_ms: u64,
}

/// What was folded from landed rows when that was last needed.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct LastRebuild {
    pub(crate) files: usize,
    /// In those files, of all partitions.
    pub(crate) rows: u64,
    pub(crate) elapsed_ms: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Refused {
    pub(crate) partition: i32,
    pub(crate) at: String,
    pub(crate) reason: String,
}

/// Everything a [`SourceLayer`] is made of.
pub(crate) struct SourceParts {
    pub(crate) source: Arc<Source>,
    /// Versions of views on this source, and whether each is current.
    pub(crate) views: Vec<(View, bool)>,
    pub(crate) log: Arc<dyn PartitionedLog>,
    pub(crate) store: Store,
    pub(crate) settings: Arc<Settings>,
    pub(crate) worker_id: String,
    pub(crate) shutdown: Shutdown,
    /// A child of `shutdown`; given alone when the table is dropped.
    pub(crate) ending: Shutdown,
    pub(crate) paused: Arc<AtomicBool>,
}

/// Exposes counters of rare things before the first of them: a rate over one that appears with its first event misses it.
fn begin_counters(table: &str) {
    for name in [
        "anabranch_landed_events_total",
        "anabranch_landed_dead_letters_total",
        "anabranch_landing_refused_total",
        "anabranch_lost_offsets_total",
        "anabranch_redriven_total",
        "anabranch_speed_retries_total",
    ] {
        metrics::counter!(name, "table" => table.to_owned()).increment(0);
    }
}

impl SourceLayer {
    /// Opens the source's master dataset. `identity` is the log's.
    ///
    /// # Errors
    /// `Invalid` when the log is another one than the recorded one.
    pub(crate) async fn open(parts: SourceParts, identity: &str) -> Result<Arc<Self>, Error> {
        let dataset = MasterDataset::open(&parts.store, &parts.source, identity)
            .await?
            .never_vacuuming();
        begin_counters(&parts.source.name);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let auto = |setting: usize| if setting == 0 { cores.div_ceil(2) } else { setting };
        let speed = &parts.settings.speed;
        let facts = Facts::default();
        *facts.unseen_columns.lock() = parts.source.columns.iter().map(|column| column.name.clone()).collect();
        Ok(Arc::new(Self {
            decoders: auto(speed.decoders),
            // Recovery is waited for, and may take every core.
            folders: if speed.decoders == 0 { cores } else { speed.decoders },
            view_bolts: auto(speed.view_bolts),
            runtime: tokio::runtime::Handle::current(),
            free_view: AtomicUsize::new(parts.views.len()),
            program: RwLock::new(Arc::new(Program::new(Arc::clone(&parts.source), parts.views))),
            source: parts.source,
            log: parts.log,
            store: parts.store,
            dataset,
            settings: parts.settings,
            worker_id: parts.worker_id,
            ending: parts.ending,
            shutdown: parts.shutdown,
            paused: parts.paused,
            partitions: RwLock::default(),
            facts,
            fault: Mutex::new(None),
        }))
    }

    pub(crate) fn name(&self) -> &str {
        &self.source.name
    }

    /// Time, chance and threads of this process.
    pub(crate) fn environment(&self) -> &Environment {
        self.store.environment()
    }

    /// Runs a task in the background, from any thread.
    pub(crate) fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Spawned<T> {
        self.environment().spawn_on(&self.runtime, task)
    }

    pub(crate) fn program(&self) -> Arc<Program> {
        Arc::clone(&self.program.read())
    }

    /// Decodes and folds by other definitions from the next micro-batch on. Columns that are new are first added to the
    /// master dataset, so that no file is landed with columns its table does not have.
    ///
    /// # Errors
    /// When the dataset refuses the columns, or does not answer.
    pub(crate) async fn adopt(&self, source: &Arc<Source>, versions: Vec<(View, bool)>) -> Result<bool, Error> {
        let former = self.program();
        if former.is(source, &versions) {
            return Ok(false);
        }
        if former.source.columns != source.columns {
            let identity = self.log.identity().await?;
            MasterDataset::open(&self.store, source, &identity).await?;
            let mut unseen = self.facts.unseen_columns.lock();
            let new = source
                .columns
                .iter()
                .filter(|column| former.source.column(&column.name).is_none());
            unseen.extend(new.map(|column| column.name.clone()));
        }
        let mut program = self.program.write();
        let next = program.next(Arc::clone(source), versions, self.free_view.load(Ordering::Relaxed));
        let free = next.ids().map(|id| id + 1).max().unwrap_or(0);
        self.free_view.fetch_max(free, Ordering::Relaxed);
        let name = |live: &crate::program::LiveView| format!("{}@{}", live.view.name(), &live.view.hash()[..8]);
        tracing::info!(
            table = self.name(),
            generation = next.generation,
            views = ?next.views.iter().map(name).collect::<Vec<_>>(),
            "definitions adopted"
        );
        *program = Arc::new(next);
        Ok(true)
    }

    pub(crate) fn partitions(&self) -> Vec<Arc<PartitionState>> {
        self.partitions.read().values().cloned().collect()
    }

    /// Makes `state` the partition's state; a former one ends.
    pub(crate) fn set_partition(&self, state: &Arc<PartitionState>) {
        let former = self.partitions.write().insert(state.partition, Arc::clone(state));
        if let Some(former) = former {
            former.end();
        }
    }

    /// Ends `state` and forgets it, unless another has taken its place already.
    pub(crate) fn remove_partition(&self, state: &Arc<PartitionState>) {
        state.end();
        let mut partitions = self.partitions.write();
        if partitions
            .get(&state.partition)
            .is_some_and(|current| Arc::ptr_eq(current, state))
        {
            partitions.remove(&state.partition);
        }
    }

    /// Ends the state of lost partitions that somebody else has claimed, as far as this process has read: from then on the
    /// claimant's state is the partition's.
    pub(crate) fn drop_claimed(&self) {
        let lost: Vec<_> = self.partitions().into_iter().filter(|state| state.is_lost()).collect();
        if lost.is_empty() {
            return;
        }
        let epochs = self.dataset.known_epochs();
        for state in lost {
            let recorded = epochs.get(&state.partition).copied();
            if recorded > Some(state.epoch) {
                tracing::info!(
                    table = self.name(), partition = %state.partition, epoch = state.epoch, recorded,
                    "another worker has claimed a partition that was lost; what is held of it is dropped"
                );
                self.remove_partition(&state);
            }
        }
    }

    pub(crate) fn forget_stopped(&self, partition: PartitionId) {
        self.facts.stopped.lock().remove(&partition);
    }

    pub(crate) fn state_bytes(&self) -> usize {
        self.partitions().iter().map(|state| state.segments().bytes).sum()
    }

    pub(crate) fn landing_bytes(&self) -> usize {
        self.facts.landing_bytes.load(Ordering::Relaxed)
    }

    /// Notes whether the log answers, and says so when that has changed.
    pub(crate) fn note_connection(&self, error: Option<String>) {
        let mut connection = self.facts.connection.lock();
        let connected = error.is_none();
        let changed = connection.as_ref().is_none_or(|known| known.connected != connected);
        let since = match connection.take() {
            Some(known) if !changed => known.since,
            _ => now_rfc3339(self.environment()),
        };
        if changed {
            metrics::gauge!("anabranch_source_connected", "table" => self.source.name.clone())
                .set(f64::from(u8::from(connected)));
            match &error {
                Some(error) => tracing::warn!(
                    table = self.name(),
                    error,
                    "the log does not answer; what is held goes on being served"
                ),
                None => tracing::info!(table = self.name(), "the log answers"),
            }
        }
        *connection = Some(Connection {
            connected,
            since,
            error,
        });
    }

    /// Notes what a landing waits for; `None` when it waits no more.
    pub(crate) fn note_landing_trouble(&self, error: Option<&Error>) {
        let mut trouble = self.facts.landing_trouble.lock();
        match error {
            None => *trouble = None,
            Some(error) => {
                let since = trouble.take().map(|known| known.since);
                *trouble = Some(Trouble {
                    since: since.unwrap_or_else(|| now_rfc3339(self.environment())),
                    error: with_causes(error),
                });
            }
        }
    }

    /// Notes an error that must stop the service; the first one counts. The topology ends at its next look.
    pub(crate) fn fail(&self, error: Error) {
        tracing::error!(table = self.name(), %error, "the speed layer cannot go on");
        self.fault.lock().get_or_insert(error);
        self.shutdown.cancel();
    }

    pub(crate) fn take_fault(&self) -> Option<Error> {
        self.fault.lock().take()
    }

    pub(crate) fn note_refused(&self, partition: PartitionId, reason: String) {
        self.facts.refusals.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("anabranch_landing_refused_total", "table" => self.source.name.clone()).increment(1);
        let mut refused = self.facts.refused.lock();
        refused.push_front(Refused {
            partition: partition.0,
            at: now_rfc3339(self.environment()),
            reason,
        });
        refused.truncate(REFUSALS);
    }

    pub(crate) fn note_dead(&self, samples: impl Iterator<Item = DeadSample>, count: u64) {
        self.facts.dead_letters.fetch_add(count, Ordering::Relaxed);
        let mut kept = self.facts.dead_samples.lock();
        for sample in samples.take(DEAD_SAMPLES) {
            kept.push_front(sample);
        }
        kept.truncate(DEAD_SAMPLES);
    }
}

/// The wall clock, for people; nothing is decided by it.
pub(crate) fn now_rfc3339(environment: &Environment) -> String {
    environment.now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
