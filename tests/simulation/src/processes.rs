//! What each simulated process does.

use std::sync::Arc;
use std::time::Duration;

use anabranch_batch::simulation::{Batch, BatchParts};
use anabranch_dataset::Store;
use anabranch_model::ErrorKind;
use anabranch_serving::simulation::{Serving, ServingParts};
use anabranch_speed::simulation::{Worker, WorkerParts};
use anabranch_topology::Step;

use crate::log::LogClient;
use crate::network::Lines;
use crate::scheduler::{Micros, ProcessId};
use crate::world::World;
use crate::{editor, verdict};

/// The longest a worker's topology sleeps when it has nothing to do.
const LONGEST_IDLE: Micros = 120_000;
/// Wait before a process that could not start tries again.
const START_AGAIN: Duration = Duration::from_millis(500);

struct Place {
    process: ProcessId,
    name: String,
    store: Store,
}

fn place(world: &World, index: usize) -> Place {
    let slots = world.slots.lock();
    let slot = &slots[index];
    Place {
        process: slot.process,
        name: slot.name.clone(),
        store: world.store_of(slot.process, slot.client.clone(), slot.skew),
    }
}

/// Whether a process may end with such an error; anything else is a defect.
fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Conflict)
}

pub async fn speed(world: Arc<World>, index: usize) {
    let Place { process, name, store } = place(&world, index);
    let Some(definitions) = editor::starting(&world, &store, &name).await else {
        return;
    };
    let parts = || WorkerParts {
        definitions: Arc::clone(&definitions),
        log: Arc::new(LogClient {
            log: Arc::clone(&world.log),
            process,
        }),
        store: store.clone(),
        settings: Arc::clone(&world.settings),
        worker_id: name.clone(),
    };
    let mut worker = loop {
        match Worker::start(parts()).await {
            Ok(worker) => break worker,
            Err(error) if is_passing(error.kind()) => store.environment().sleep(START_AGAIN).await,
            Err(error) => return world.violation(format!("speed worker {name} cannot start: {error}")),
        }
    };
    let address = format!("http://{name}");
    world.network.workers.lock().insert(address, (process, worker.flight()));
    let (mut idle, mut refusals, mut rebuilds): (Micros, u64, u64) = (1_000, 0, 0);
    loop {
        let delivered = world.log.delivered(process);
        let mut worked = false;
        for task in shuffled(&world, worker.tasks()) {
            match worker.step(task, store.environment().instant()) {
                // A spout that polled in vain says that it was busy.
                Ok(step) => worked |= task != 0 && step == Step::Worked,
                Err(error) if is_passing(error.kind()) => {
                    world.happened("workers that gave up and were started again");
                    return world.scheduler.kill(process);
                }
                Err(error) => return world.violation(format!("speed worker {name} failed: {error}")),
            }
        }
        worked |= world.log.delivered(process) > delivered;
        let before = (refusals, rebuilds);
        (refusals, rebuilds) = (worker.refusals(), worker.rebuilds());
        {
            let mut counts = world.server.counts.lock();
            counts.happened("landings refused", refusals - before.0);
            counts.happened("rebuilds of realtime state", rebuilds - before.1);
        }
        idle = if worked { 1_000 } else { (idle * 2).min(LONGEST_IDLE) };
        let wait = world.scheduler.draw(|random| random.within(idle / 4..idle));
        store.environment().sleep(Duration::from_micros(wait)).await;
    }
}

/// The numbers below `count`, some of them left out, in an order of chance.
fn shuffled(world: &World, count: usize) -> Vec<usize> {
    world.scheduler.draw(|random| {
        let mut tasks: Vec<usize> = (0..count).filter(|_| !random.chance(150)).collect();
        for last in (1..tasks.len()).rev() {
            tasks.swap(last, random.index(last + 1));
        }
        tasks
    })
}

pub async fn batch(world: Arc<World>, index: usize) {
    let Place { name, store, .. } = place(&world, index);
    let Some(definitions) = editor::starting(&world, &store, &name).await else {
        return;
    };
    let parts = || BatchParts {
        settings: Arc::clone(&world.settings),
        definitions: Arc::clone(&definitions),
        store: store.clone(),
        worker_id: name.clone(),
        kernel: Arc::clone(&world.fixture.kernel),
        peers: Arc::new(Lines(Arc::clone(&world.network))),
    };
    let batch = loop {
        match Batch::start(parts()).await {
            Ok(batch) => break Arc::new(batch),
            Err(error) if is_passing(error.kind()) => store.environment().sleep(START_AGAIN).await,
            Err(error) => return world.violation(format!("batch service {name} cannot start: {error}")),
        }
    };
    world.batches.lock().insert(index, Arc::clone(&batch));
    loop {
        let wait = world.scheduler.draw(|random| random.within(1_000_000..9_000_000));
        store.environment().sleep(Duration::from_micros(wait)).await;
        // Once all is to settle, runs are asked for by whoever waits for that.
        if !world.is_settling() && batch.request().await.is_ok() {
            world.happened("batch runs asked for");
        }
        if let Some(trouble) = batch.trouble().filter(|trouble| !verdict::is_passing(trouble)) {
            world.violation(format!("maintenance of {name} was interrupted by: {trouble}"));
        }
    }
}

pub async fn serve(world: Arc<World>, index: usize) {
    let Place { name, store, .. } = place(&world, index);
    let Some(definitions) = editor::starting(&world, &store, &name).await else {
        return;
    };
    let serving = Serving::start(ServingParts {
        definitions,
        store: store.clone(),
        worker_id: name,
        poll: *world.settings.serving.poll,
        peers: Arc::new(Lines(Arc::clone(&world.network))),
    });
    world.servings.lock().insert(index, serving.clone());
    loop {
        let (wait, exact) = world
            .scheduler
            .draw(|random| (random.within(20_000..700_000), random.chance(300)));
        store.environment().sleep(Duration::from_micros(wait)).await;
        ask(&world, (index, &serving), exact, Duration::from_secs(1)).await;
    }
}

/// Asks the serving process of a slot once, and checks its answer.
async fn ask(world: &World, (slot, serving): (usize, &Serving), exact: bool, timeout: Duration) {
    let asked = world.scheduler.now();
    match serving.answer(exact, timeout).await {
        Ok(answer) => world.check(&answer, slot, asked),
        Err(error) if is_passing(error.kind()) => world.happened("queries that got no answer"),
        Err(error) => world.violation(format!("a query failed: {error}")),
    }
}
