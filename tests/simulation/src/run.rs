//! Runs one seed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use anabranch_catalog::Catalog;
use anabranch_compute::{Kernel, Options};
use anabranch_view::View;
use tokio::runtime::Runtime;

use crate::faults::Counts;
use crate::mutation::Mutation;
use crate::oracle::VIEWS;
use crate::scheduler::{Micros, WORLD};
use crate::world::{Fixture, Kind, Shape, World};
use crate::{trouble, verdict};

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

/// Runs one seed from beginning to end, on this thread.
pub fn run(seed: u64) -> Outcome {
    run_mutated(seed, None)
}

/// As [`run`], with a defect.
pub fn run_mutated(seed: u64, mutation: Option<Mutation>) -> Outcome {
    // The Delta kernel reads through an async engine; what it reads is answered at once, so its threads decide nothing.
    let _entered = runtime().enter();
    let (world, shape) = World::new(seed, mutation, fixture());
    let ended = catch_unwind(AssertUnwindSafe(|| play(&world, &shape)));
    let mut violations = world.violations();
    match ended {
        Ok(true) => {}
        Ok(false) if violations.is_empty() => violations.push("the run does not end".to_owned()),
        Ok(false) => {}
        Err(panic) => {
            let message = panic.downcast_ref::<String>().cloned();
            let message = message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            violations.push(format!("panic: {}", message.unwrap_or_default()));
        }
    }
    let mut counts = world.counts();
    {
        let audit = world.server.audit.lock();
        counts.add("claims", audit.claims);
        counts.add("landings", audit.landings);
        counts.add("compactions", audit.compactions);
        counts.add("merged files removed", audit.vacuumed);
        counts.add("publications", audit.publications);
    }
    let outcome = Outcome {
        seed,
        violations,
        counts,
        hash: world.scheduler.hash(),
        virtual_micros: world.scheduler.now(),
    };
    world.scheduler.clear();
    world.batches.lock().clear();
    world.servings.lock().clear();
    world.network.workers.lock().clear();
    outcome
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

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime with one thread can be started")
    })
}

fn fixture() -> &'static Arc<Fixture> {
    static FIXTURE: OnceLock<Arc<Fixture>> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let catalog = Catalog::parse(VIEWS).expect("the views are valid");
        let views = catalog
            .views
            .values()
            .map(|view| View::compile(view).expect("the views are supported"));
        let views = Arc::new(views.collect());
        let options = Options {
            threads: 1,
            ..Options::default()
        };
        Arc::new(Fixture {
            catalog: Arc::new(catalog),
            views,
            kernel: Arc::new(Kernel::new(&options).expect("a pool of one thread can be started")),
        })
    })
}
