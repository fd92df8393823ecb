//! Seeds that every change has to pass. A seed that fails here fails the same way in
//! `cargo run -p anabranch-simulation -- --seed N`.

use anabranch_simulation::{Mutation, Section, Stage, Sweep};
use clap::ValueEnum;

const SEEDS: u64 = 200;
/// Every defect made on purpose is found within so many seeds; most of them in the first.
const FOUND_WITHIN: u64 = 100;

#[test]
fn answers_keep_to_their_coverage_under_every_fault() {
    let sweep = Sweep {
        seeds: 0..SEEDS,
        ..Sweep::default()
    };
    let summary = sweep.run(&());
    let failed = summary.failed.iter().map(|outcome| (outcome.seed, &outcome.violations));
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{failed:#?}");
    // Faults were injected, and what they could break was looked at.
    for (section, what) in [
        (Section::Checked, "answers"),
        (Section::Checked, "answers that were exact"),
        (Section::Checked, "landed records"),
        (Section::Checked, "publications"),
        (Section::Happened, "landings refused"),
        (Section::Happened, "compactions"),
        (Section::Happened, "exclusions"),
        (Section::Happened, "exclusions undone"),
        (Section::Happened, "expiries"),
        (Section::Happened, "definitions applied by command"),
        (Section::Happened, "definitions changed for the next start"),
        (Section::Happened, "definitions that somebody went back to"),
        (Section::Happened, "definitions refused"),
        (Section::Happened, "answers by a version that is being replaced"),
        (Section::Happened, "merged files removed"),
        (Section::Happened, "superseded state files removed"),
        (Section::Faults, "crashes"),
        (Section::Faults, "crashes at a request"),
        (Section::Faults, "workers that were paused past their session"),
        (Section::Faults, "partitions given to two workers"),
        (Section::Faults, "rebalances"),
        (Section::Faults, "answers lost after a write"),
        (Section::Faults, "writes that arrived late"),
        (Section::Faults, "writes repeated by the client"),
        (Section::Faults, "requests refused"),
        (Section::Faults, "stale listings"),
        (Section::Faults, "slow requests"),
        (Section::Faults, "calls lost"),
    ] {
        assert!(summary.counts.get(section, what) > 0, "no {what}: {:?}", summary.counts);
    }
}

#[test]
fn a_seed_runs_the_same_way_twice() {
    let (stage, mut hashes) = (Stage::new(), std::collections::BTreeSet::new());
    for seed in 1_000..1_008 {
        let first = stage.run(seed);
        assert_eq!(first, stage.run(seed));
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 8, "other seeds run another way");
}

/// What else the machine does, and how many threads run seeds beside this one, decides nothing.
#[test]
fn the_number_of_threads_changes_no_run() {
    let alone = Sweep {
        seeds: 1_100..1_112,
        threads: 1,
        ..Sweep::default()
    };
    let crowded = Sweep {
        threads: 6,
        ..alone.clone()
    };
    assert_eq!(alone.run(&()), crowded.run(&()));
}

#[test]
fn every_defect_is_found() {
    let stage = Stage::new();
    for mutation in Mutation::value_variants() {
        let found = (2_000..2_000 + FOUND_WITHIN).find_map(|seed| {
            let violations = stage.run_mutated(seed, Some(*mutation)).violations;
            Some((seed, violations.first()?.clone()))
        });
        let (seed, violation) = found.unwrap_or_else(|| panic!("{mutation:?} is not found"));
        println!("{mutation:?}: seed {seed}: {violation}");
    }
}
