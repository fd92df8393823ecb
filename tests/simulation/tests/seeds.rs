//! Seeds that every change has to pass. A seed that fails here fails the same way in
//! `cargo run -p anabranch-simulation -- --seed N`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anabranch_simulation::{Counts, Mutation, run, run_mutated};
use clap::ValueEnum;

const SEEDS: u64 = 200;
/// Every defect made on purpose is found within so many seeds; most of them in the first.
const FOUND_WITHIN: u64 = 100;

#[test]
fn answers_keep_to_their_coverage_under_every_fault() {
    let (next, failed, counts) = (AtomicU64::new(0), Mutex::new(Vec::new()), Mutex::new(Counts::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return;
            }
            let outcome = run(seed);
            counts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .merge(&outcome.counts);
            if !outcome.violations.is_empty() {
                failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((seed, outcome.violations));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{failed:#?}");
    // Faults were injected, and what they could break was looked at.
    let counts = counts.into_inner().unwrap();
    for what in [
        "answers checked",
        "answers that were exact",
        "landed records checked",
        "publications checked",
        "landings refused",
        "compactions",
        "crashes",
        "crashes at a request",
        "workers that were paused past their session",
        "partitions given to two workers",
        "rebalances",
        "answers lost after a write",
        "writes that arrived late",
        "writes repeated by the client",
        "requests refused",
        "stale listings",
        "slow requests",
    ] {
        assert!(counts.0.get(what).copied().unwrap_or(0) > 0, "no {what}: {counts:?}");
    }
}

#[test]
fn a_seed_runs_the_same_way_twice() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 1_000..1_008 {
        let first = run(seed);
        assert_eq!(first, run(seed));
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 8, "other seeds run another way");
}

#[test]
fn every_defect_is_found() {
    for mutation in Mutation::value_variants() {
        let found = (2_000..2_000 + FOUND_WITHIN).find_map(|seed| {
            let violations = run_mutated(seed, Some(*mutation)).violations;
            Some((seed, violations.first()?.clone()))
        });
        let (seed, violation) = found.unwrap_or_else(|| panic!("{mutation:?} is not found"));
        println!("{mutation:?}: seed {seed}: {violation}");
    }
}
