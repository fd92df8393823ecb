//! Runs one seed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anabranch_compute::{Kernel, Options};
use tokio::runtime::Runtime;

use crate::definitions::Edition;
use crate::faults::Counts;
use crate::mutation::Mutation;
use crate::oracle::KEPT_FOR;
use crate::scheduler::{Micros, WORLD};
use crate::world::{Fixture, Kind, Shape, World};
use crate::{editor, operator, trouble, verdict};

/// A run that is not over by then, in virtual time, hangs.
const HORIZON: Micros = 900_000_000;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub seed: u64,
    /// What was wrong; nothing if all is well.
    pub violations: Vec<String>,
    /// Faults that were injected, and checks that were made.
    pub counts: Counts,
    /// Over every request, delivery and answer, and when it was: equal for equal runs.
    pub hash: u64,
    /// Virtual time that passed, in microseconds.
    pub virtual_micros: u64,
}

/// What one thread runs seeds with. Nothing of it is shared between threads, so that they do not wait for each other.
pub struct Stage {
    runtime: Runtime,
    fixtures: [Arc<Fixture>; 2],
}

impl Stage {
    /// Starts a thread for the Delta kernel's reads, and one for folds.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let options = Options {
            threads: 1,
            ..Options::default()
        };
        let kernel = Arc::new(Kernel::new(&options).expect("a pool of one thread can be started"));
        let fixture = |kept_for: Option<Micros>| {
            Arc::new(Fixture {
                definitions: Edition::FIRST.fixed(kept_for.is_some()),
                kernel: Arc::clone(&kernel),
                kept_for,
            })
        };
        Self {
            runtime: runtime.expect("a runtime with one thread can be started"),
            fixtures: [fixture(None), fixture(Some(KEPT_FOR))],
        }
    }

    /// Runs one seed from beginning to end, on this thread.
    pub fn run(&self, seed: u64) -> Outcome {
        self.run_mutated(seed, None)
    }

    /// As [`run`](Self::run), with a defect.
    pub fn run_mutated(&self, seed: u64, mutation: Option<Mutation>) -> Outcome {
        // The Delta kernel reads through an async engine; what it reads is answered at once, so its threads decide nothing.
        let _entered = self.runtime.enter();
        let (world, shape) = World::new(seed, mutation, &self.fixtures);
        let ended = catch_unwind(AssertUnwindSafe(|| play(&world, &shape)));
        let mut violations = world.violations();
        match ended {
            Ok(true) => {}
            Ok(false) if violations.is_empty() => violations.push("the run does not end".to_owned()),
            Ok(false) => {}
            Err(panic) => violations.push(format!("panic: {}", message(&*panic))),
        }
        let mut counts = world.counts();
        {
            let audit = world.server.audit.lock();
            counts.happened("claims", audit.claims);
            counts.happened("landings", audit.landings);
            counts.happened("compactions", audit.compactions);
            counts.happened("expiries", audit.expiries);
            counts.happened("merged files removed", audit.vacuumed);
            counts.happened("superseded state files removed", audit.expired_states);
            counts.happened("publications", audit.publications);
            counts.happened("definitions", audit.definitions.len() as u64);
        }
        let (hash, virtual_micros) = (world.scheduler.hash(), world.scheduler.now());
        // What is left refers to the world, which refers to it.
        let cleared = catch_unwind(AssertUnwindSafe(|| {
            world.scheduler.clear();
            world.batches.lock().clear();
            world.servings.lock().clear();
            world.network.workers.lock().clear();
        }));
        if let Err(panic) = cleared {
            violations.push(format!("panic at the end: {}", message(&*panic)));
        }
        Outcome {
            seed,
            violations,
            counts,
            hash,
            virtual_micros,
        }
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or_default()
        .to_owned()
}

fn play(world: &Arc<World>, shape: &Shape) -> bool {
    for (kind, count) in [
        (Kind::Speed, shape.speed),
        (Kind::Batch, shape.batch),
        (Kind::Serve, shape.serve),
    ] {
        for number in 0..count {
            world.add(kind, format!("{kind:?}-{number}").to_lowercase());
        }
    }
    world.scheduler.spawn(WORLD, trouble::make(Arc::clone(world)));
    if shape.excludes {
        world.scheduler.spawn(WORLD, operator::work(Arc::clone(world)));
    }
    if shape.edits {
        let store = world.visitor();
        world.scheduler.spawn(WORLD, editor::work(Arc::clone(world), store));
    }
    let (director, active) = (Arc::clone(world), shape.active);
    world.scheduler.spawn(WORLD, async move {
        let world = director;
        while world.scheduler.now() < active {
            world.produce();
            let wait = world.scheduler.draw(|random| random.within(50_000..900_000));
            world.scheduler.sleep_micros(wait).await;
        }
        world.settle();
        verdict::reach(world).await;
    });
    world.scheduler.run(HORIZON, || world.is_finished())
}
