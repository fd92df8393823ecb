//! One run: processes of all three layers on one store and one log, somebody who makes trouble, and somebody who asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_batch::simulation::Batch;
use anabranch_catalog::Source;
use anabranch_compute::Kernel;
use anabranch_dataset::{Environment, Store};
use anabranch_definitions::Definitions;
use anabranch_model::{CoverageMap, PartitionId, topic_partition};
use anabranch_runtime::{BatchMode, ByteSize, Settings};
use anabranch_serving::simulation::{Answer, Serving};
use chrono::TimeDelta;
use parking_lot::Mutex;

use crate::audit::Audit;
use crate::definitions;
use crate::editor::{self, Editing};
use crate::environment::Surroundings;
use crate::faults::{Counts, Faults};
use crate::log::{Log, TOPIC};
use crate::mutation::Mutation;
use crate::network::Network;
use crate::operator::{self, Exclusions};
use crate::oracle::{self, Record};
use crate::processes;
use crate::random::Random;
use crate::scheduler::{Micros, ProcessId, Scheduler, WORLD};
use crate::store::{Client, Server};

/// A lease is believed for ten seconds, is renewed and read every other second, and requests may take five.
const HEARD_WITHIN: Micros = 20_000_000;

/// What all runs of a thread share.
pub struct Fixture {
    /// Of runs in which nobody changes them.
    pub definitions: Arc<Definitions>,
    pub kernel: Arc<Kernel>,
    /// How long events are kept, if not for ever.
    pub kept_for: Option<Micros>,
}

/// Which service a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Speed,
    Batch,
    Serve,
}

/// A place where a process runs, and is started again when it has died.
pub struct Slot {
    pub kind: Kind,
    pub name: String,
    pub process: ProcessId,
    pub client: Client,
    pub skew: TimeDelta,
    /// Its death has been noticed; it is going to be started again.
    pub mourned: bool,
}

/// Everything of one run.
pub struct World {
    pub scheduler: Arc<Scheduler>,
    pub server: Arc<Server>,
    pub log: Arc<Log>,
    pub network: Arc<Network>,
    pub settings: Arc<Settings>,
    pub fixture: Arc<Fixture>,
    pub slots: Mutex<Vec<Slot>>,
    pub batches: Mutex<BTreeMap<usize, Arc<Batch>>>,
    pub servings: Mutex<BTreeMap<usize, Serving>>,
    pub exclusions: Mutex<Exclusions>,
    /// Where somebody changes the definitions.
    pub editing: Option<Editing>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    processes: u32,
    /// Faults have stopped; everything is to come to rest.
    settling: bool,
    finished: bool,
    violations: Vec<String>,
}

/// How long a run goes on before it is to settle, and who takes part.
pub struct Shape {
    pub partitions: usize,
    pub speed: usize,
    pub batch: usize,
    pub serve: usize,
    pub active: Micros,
    pub settings: Settings,
    /// Somebody excludes events.
    pub excludes: bool,
    /// Events expire.
    pub expires: bool,
    /// Somebody changes the definitions.
    pub edits: bool,
}

impl Shape {
    pub fn draw(random: &mut Random) -> Self {
        let mut settings = Settings::default();
        let mut millis = |from, to| Duration::from_millis(random.within(from..to));
        settings.landing.max_age = millis(100, 2_500).into();
        settings.landing.max_bytes = ByteSize(u64::MAX / 2);
        settings.speed.publication_poll = millis(200, 1_000).into();
        settings.serving.poll = millis(200, 1_000).into();
        settings.maintenance.every = millis(1_000, 6_000).into();
        settings.maintenance.expire_every = millis(2_000, 6_000).into();
        settings.maintenance.vacuum_every = millis(3_000, 9_000).into();
        // Longer than anything is paused or slow here.
        settings.maintenance.vacuum_after = Duration::from_secs(20).into();
        settings.maintenance.keep_publications = if random.chance(500) { 1 + random.index(3) } else { 1_000 };
        settings.maintenance.compact_min_files = 2 + random.index(4);
        if random.chance(600) {
            settings.batch.mode = BatchMode::Incremental;
        }
        settings.batch.full_every = random.within(0..6);
        settings.speed.decoders = 1 + random.index(2);
        settings.speed.view_bolts = 1 + random.index(2);
        settings.speed.channel_capacity = 64;
        settings.speed.micro_batch_records = 1 + random.index(8);
        Self {
            partitions: 1 + random.index(3),
            speed: 2 + random.index(2),
            batch: 1 + usize::from(random.chance(250)),
            serve: 1 + usize::from(random.chance(200)),
            active: random.within(12_000_000..32_000_000),
            settings,
            excludes: random.chance(350),
            expires: random.chance(250),
            edits: random.chance(250),
        }
    }
}

impl World {
    /// `fixtures` are those of runs where events are kept for ever, and of those where they expire.
    pub fn new(seed: u64, mutation: Option<Mutation>, fixtures: &[Arc<Fixture>; 2]) -> (Arc<Self>, Shape) {
        let scheduler = Scheduler::new(seed);
        let (mut shape, faults) = scheduler.draw(|random| (Shape::draw(random), Faults::draw(random)));
        if mutation == Some(Mutation::PublishesOverNewer) {
            // One service has one run at a time.
            shape.batch = 3;
        }
        shape.excludes |= mutation == Some(Mutation::HidesExclusions);
        shape.expires |= mutation == Some(Mutation::HidesExpiry);
        shape.edits |= mutation == Some(Mutation::ServesOtherVersion);
        let server = Server::new(
            &scheduler,
            faults,
            mutation,
            Audit::new(shape.settings.maintenance.keep_publications),
        );
        let log = Log::new(&scheduler, shape.partitions);
        let network = Arc::new(Network {
            scheduler: Arc::clone(&scheduler),
            server: Arc::clone(&server),
            workers: Mutex::default(),
        });
        let world = Arc::new(Self {
            scheduler,
            server,
            log,
            network,
            settings: Arc::new(shape.settings.clone()),
            fixture: Arc::clone(&fixtures[usize::from(shape.expires)]),
            slots: Mutex::default(),
            batches: Mutex::default(),
            servings: Mutex::default(),
            exclusions: Mutex::default(),
            editing: shape.edits.then(|| Editing::new(shape.expires)),
            state: Mutex::default(),
        });
        (world, shape)
    }

    /// How long events are kept, if not for ever.
    pub fn kept_for(&self) -> Option<Micros> {
        self.fixture.kept_for
    }

    pub fn fault(&self, what: &'static str) {
        self.server.counts.lock().fault(what);
    }

    pub fn happened(&self, what: &'static str) {
        self.server.counts.lock().happened(what, 1);
    }

    pub fn checked(&self, what: &'static str) {
        self.server.counts.lock().checked(what, 1);
    }

    pub fn counts(&self) -> Counts {
        self.server.counts.lock().clone()
    }

    pub fn violation(&self, what: String) {
        tracing::error!(at = self.scheduler.now(), "{what}");
        let mut state = self.state.lock();
        state.violations.push(what);
        // One is enough, and what follows from it is of no interest.
        state.finished = true;
    }

    pub fn violations(&self) -> Vec<String> {
        let mut violations = self.state.lock().violations.clone();
        violations.extend(self.server.audit.lock().violations.iter().cloned());
        violations
    }

    pub fn finish(&self) {
        self.state.lock().finished = true;
    }

    pub fn is_finished(&self) -> bool {
        self.state.lock().finished || !self.server.audit.lock().violations.is_empty()
    }

    pub fn is_settling(&self) -> bool {
        self.state.lock().settling
    }

    /// The world's own view of the store: no delays and no faults.
    pub fn store(&self) -> Store {
        self.store_of(WORLD, Client::new(&self.server, WORLD), TimeDelta::zero())
    }

    /// The store as a process sees it that never crashes, and has no place of its own.
    pub fn visitor(&self) -> Store {
        let process = ProcessId(u32::MAX);
        self.store_of(process, Client::new(&self.server, process), TimeDelta::zero())
    }

    /// The one table.
    pub fn source(&self) -> &Arc<Source> {
        &self.fixture.definitions.catalog.sources[TOPIC]
    }

    pub fn store_of(&self, process: ProcessId, client: Client, skew: TimeDelta) -> Store {
        let surroundings = Surroundings {
            scheduler: Arc::clone(&self.scheduler),
            process,
            skew,
            mutation: self.server.mutation,
        };
        Store::simulated(
            "simulated://",
            Arc::new(client),
            Environment::simulated(Arc::new(surroundings)),
        )
    }

    /// Gives a new process a place, and starts it.
    pub fn add(self: &Arc<Self>, kind: Kind, name: String) {
        let slot = {
            let mut slots = self.slots.lock();
            slots.push(Slot {
                kind,
                name,
                process: WORLD,
                client: Client::new(&self.server, WORLD),
                skew: TimeDelta::zero(),
                mourned: false,
            });
            slots.len() - 1
        };
        self.start(slot);
    }

    /// Starts a process in a slot whose former one is gone.
    pub fn start(self: &Arc<Self>, index: usize) {
        let process = {
            let mut state = self.state.lock();
            state.processes += 1;
            ProcessId(state.processes)
        };
        let skew = self.scheduler.draw(|random| random.within(0..40_000)).cast_signed() - 20_000;
        let skew = TimeDelta::milliseconds(skew);
        let client = Client::new(&self.server, process);
        let kind = {
            let mut slots = self.slots.lock();
            let slot = &mut slots[index];
            (slot.process, slot.client, slot.skew, slot.mourned) = (process, client, skew, false);
            slot.kind
        };
        if let Some(editing) = &self.editing {
            editing.forget(index);
        }
        tracing::debug!(at = self.scheduler.now(), ?kind, index, process = process.0, "starts");
        self.scheduler.trace(format!("start {kind:?} {index}").as_bytes());
        match kind {
            Kind::Speed => self.scheduler.spawn(process, processes::speed(Arc::clone(self), index)),
            Kind::Batch => self.scheduler.spawn(process, processes::batch(Arc::clone(self), index)),
            Kind::Serve => self.scheduler.spawn(process, processes::serve(Arc::clone(self), index)),
        }
    }

    /// `kill -9`, now.
    pub fn crash(&self, index: usize) {
        let process = self.slots.lock()[index].process;
        tracing::debug!(at = self.scheduler.now(), index, process = process.0, "crashes");
        self.scheduler.trace(b"crash");
        self.scheduler.kill(process);
    }

    /// Notices who has died, and has them started again.
    pub fn tend(self: &Arc<Self>) {
        let dead: Vec<(usize, ProcessId, Kind)> = {
            let mut slots = self.slots.lock();
            slots
                .iter_mut()
                .enumerate()
                .filter(|(_, slot)| !slot.mourned && self.scheduler.is_dead(slot.process))
                .map(|(index, slot)| {
                    slot.mourned = true;
                    (index, slot.process, slot.kind)
                })
                .collect()
        };
        for (index, process, kind) in dead {
            self.batches.lock().remove(&index);
            self.servings.lock().remove(&index);
            let (expelled, restarted) = self
                .scheduler
                .draw(|random| (random.within(0..3_000_000), random.within(50_000..5_000_000)));
            if kind == Kind::Speed {
                let log = Arc::clone(&self.log);
                self.scheduler.after(expelled, move || log.expel(process, true));
            }
            let world = Arc::clone(self);
            self.scheduler.after(restarted, move || world.start(index));
        }
    }

    /// Stops all faults, and wakes who sleeps.
    pub fn settle(&self) {
        self.state.lock().settling = true;
        *self.server.faults.lock() = Faults::default();
        for slot in self.slots.lock().iter() {
            slot.client.spare();
            self.scheduler.resume(slot.process);
        }
    }

    /// Compares an answer of the serving process in `slot`, which was asked for at `asked`, with the log.
    pub fn check(&self, answer: &Answer, slot: usize, asked: Micros) {
        self.checked("answers");
        self.trace_answer(answer);
        if answer.coverage.values().all(|coverage| coverage.exact) {
            self.checked("answers that were exact");
        }
        if let Err(wrong) = editor::check(self, answer, slot, asked) {
            self.violation(wrong);
        }
        for (view, hash) in &answer.versions {
            let version = definitions::version(view, hash);
            let (Some(version), Some(rows), Some(coverage)) =
                (version, answer.rows.get(view), answer.coverage.get(view))
            else {
                self.violation(format!("an answer leaves out {view}"));
                continue;
            };
            let checked = self
                .log
                .read_all(|log| oracle::check((view, version.fold), rows, coverage, log));
            let checked = checked.and_then(|()| operator::check(self, view, coverage, asked));
            if let Err(wrong) = checked {
                self.violation(wrong);
            }
        }
        self.one_prefix(&answer.coverage);
        self.nothing_left_out(&answer.coverage, asked);
    }

    /// An answer that is exact names nothing that is missing, and holds whatever was landed for so long that everybody has
    /// heard of it.
    fn nothing_left_out(&self, coverage: &CoverageMap, asked: Micros) {
        let known = self.server.audit.lock().landed_by(asked.saturating_sub(HEARD_WITHIN));
        for (view, coverage) in coverage {
            if coverage.exact != coverage.missing.is_empty() {
                self.violation(format!("{view} contradicts itself: {coverage:?}"));
            }
            let through = |partition: &i32| {
                coverage
                    .served_through
                    .get(&topic_partition(TOPIC, PartitionId(*partition)))
            };
            let behind = known
                .iter()
                .find(|(partition, next)| through(partition).is_none_or(|through| through < *next));
            if let Some((partition, next)) = behind.filter(|_| coverage.exact) {
                self.violation(format!(
                    "{view} is called exact and leaves out partition {partition} up to {next}, landed long before: {coverage:?}"
                ));
            }
        }
    }

    /// All views of an answer are read up to the same offset of a partition, where nothing is missing.
    fn one_prefix(&self, coverage: &CoverageMap) {
        let exact: Vec<_> = coverage.values().filter(|coverage| coverage.exact).collect();
        if exact.len() == coverage.len()
            && exact
                .windows(2)
                .any(|pair| pair[0].served_through != pair[1].served_through)
        {
            self.violation(format!("views of one answer cover different prefixes: {coverage:?}"));
        }
    }

    fn trace_answer(&self, answer: &Answer) {
        self.scheduler
            .trace(format!("{} {:?}", answer.definitions, answer.versions).as_bytes());
        for (view, coverage) in &answer.coverage {
            self.scheduler.trace(view.as_bytes());
            self.scheduler.trace(format!("{coverage:?}").as_bytes());
        }
        for (view, rows) in &answer.rows {
            self.scheduler
                .trace(format!("{view} {:?}", oracle::answered(rows)).as_bytes());
        }
    }

    /// Appends what a producer would.
    pub fn produce(&self) {
        let (count, partition) = self
            .scheduler
            .draw(|random| (1 + random.index(6), random.index(self.log.partitions())));
        for _ in 0..count {
            let record = self.scheduler.draw(Record::draw);
            self.log.append(partition, record);
        }
        self.server.counts.lock().happened("records produced", count as u64);
    }
}
