//! Makes trouble: crashes, pauses, moves partitions, and lets two workers own one.

use std::sync::Arc;

use crate::scheduler::Micros;
use crate::world::{Kind, World};

/// How long a worker may be paused before its group goes on without it.
const SESSION_TIMEOUT: Micros = 2_500_000;

/// Runs until the world settles.
pub async fn make(world: Arc<World>) {
    loop {
        let wait = world.scheduler.draw(|random| random.within(150_000..900_000));
        world.scheduler.sleep_micros(wait).await;
        world.tend();
        world.log.tick();
        if world.is_settling() {
            continue;
        }
        let faults = world.server.faults.lock().clone();
        let happens = |chance: u32| world.scheduler.draw(|random| random.chance(chance));
        if happens(faults.crash) {
            let index = any(&world);
            world.fault("crashes");
            world.crash(index);
        }
        if happens(faults.crash_at_request) {
            let index = any(&world);
            let requests = world.scheduler.draw(|random| random.within(0..25));
            world.slots.lock()[index].client.crash_in(requests);
        }
        if happens(faults.pause) {
            pause(&world);
        }
        if happens(faults.rebalance) {
            world.fault("rebalances");
            world.scheduler.trace(b"rebalance");
            world.log.rebalance();
        }
        if happens(faults.two_owners) {
            let tell = happens(300);
            if world.log.give_to_two(tell) {
                world.scheduler.trace(b"two owners");
                world.fault("partitions given to two workers");
            }
        }
    }
}

/// Any slot; speed workers more often than others, since they have most to lose.
fn any(world: &World) -> usize {
    let slots = world.slots.lock();
    let speed: Vec<usize> = (0..slots.len())
        .filter(|index| slots[*index].kind == Kind::Speed)
        .collect();
    world.scheduler.draw(|random| match random.chance(500) {
        true => speed[random.index(speed.len())],
        false => random.index(slots.len()),
    })
}

/// Stops a process as SIGSTOP would, and lets it go on later. Its group does not wait for ever.
fn pause(world: &Arc<World>) {
    let index = any(world);
    let (process, kind) = {
        let slots = world.slots.lock();
        (slots[index].process, slots[index].kind)
    };
    if world.scheduler.is_dead(process) || world.scheduler.is_paused(process) {
        return;
    }
    let length = world.scheduler.draw(|random| random.within(300_000..12_000_000));
    world.fault("pauses");
    world.scheduler.trace(b"pause");
    tracing::debug!(at = world.scheduler.now(), process = process.0, length, "pauses");
    world.scheduler.pause(process);
    let scheduler = Arc::clone(&world.scheduler);
    world.scheduler.after(length, move || scheduler.resume(process));
    if kind == Kind::Speed && length > SESSION_TIMEOUT {
        world.fault("workers that were paused past their session");
        let log = Arc::clone(&world.log);
        world
            .scheduler
            .after(SESSION_TIMEOUT, move || log.expel(process, false));
    }
}
