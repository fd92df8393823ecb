//! `anabranch-simulation --seed N` replays one seed; `--seeds A..B` runs many.

use std::ops::Range;
use std::process::ExitCode;

use anabranch_simulation::{Counts, Mutation, Outcome, Section, Stage, Sweep};
use clap::Parser;
use comfy_table::Table;

mod progress;

use progress::Progress;

/// Runs the real code of all three layers under seeded faults, and compares every answer with a plain fold over the log.
///
/// Speed workers, batch services and serving processes run on a simulated clock, log, network and object store: crashes,
/// pauses, rebalances, two owners of one partition, refused, late, repeated and lost requests, stale listings. In some runs
/// somebody excludes events, events expire, and views and a column are added, changed and dropped meanwhile. Everything
/// follows from the seed: one that fails, fails the same way again.
///
/// Not simulated: threads, HTTP and Flight, Kafka and the embedded log, and reads of the Delta kernel, which never fail here.
#[derive(Parser)]
struct Args {
    /// Replay one seed; RUST_LOG=trace shows every request.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Break something on purpose, to see it found.
    #[arg(long)]
    mutation: Option<Mutation>,
    /// Run these seeds, `A..B`. One that fails is named at once; the others go on.
    #[arg(long, default_value = "0..200", value_parser = parse_range)]
    seeds: Range<u64>,
    /// Threads, each of which runs a seed of its own; 0 takes one per core.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// Run each seed a second time, and fail where that goes another way.
    #[arg(long)]
    twice: bool,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (start, end) = text.split_once("..").ok_or("write A..B")?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|error| error.to_string());
    let seeds = number(start)?..number(end)?;
    if seeds.is_empty() {
        return Err("there is no seed in it".to_owned());
    }
    Ok(seeds)
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.seed {
        Some(seed) => replay(seed, args.mutation),
        None => many(&Sweep {
            seeds: args.seeds,
            threads: args.jobs,
            mutation: args.mutation,
            twice: args.twice,
        }),
    }
}

fn replay(seed: u64, mutation: Option<Mutation>) -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    let outcome = Stage::new().run_mutated(seed, mutation);
    println!("{}", table(&outcome.counts, None));
    for line in failures(&outcome) {
        println!("{line}");
    }
    println!(
        "seed {seed}: {:.1} s of virtual time, hash {:016x}, {}",
        outcome.virtual_micros as f64 / 1e6,
        outcome.hash,
        if outcome.violations.is_empty() {
            "clean"
        } else {
            "failed"
        }
    );
    code(outcome.violations.is_empty())
}

fn many(sweep: &Sweep) -> ExitCode {
    let progress = Progress::new(sweep);
    let summary = sweep.run(&progress);
    let seconds = progress.finish().as_secs_f64();
    println!(
        "{}",
        table(&summary.counts, Some((summary.seeds, summary.failed.len())))
    );
    println!(
        "seeds {}..{} in {seconds:.1} s ({:.1} a second, {} threads), {:.1} h of virtual time, hash of all {:016x}",
        sweep.seeds.start,
        sweep.seeds.end,
        summary.seeds as f64 / seconds,
        sweep.threads(),
        summary.virtual_micros as f64 / 3.6e9,
        summary.hash
    );
    let seeds: Vec<String> = summary.failed.iter().map(|outcome| outcome.seed.to_string()).collect();
    if seeds.is_empty() {
        println!("all clean");
    } else {
        println!("failed: {}", seeds.join(" "));
        println!("replay with: cargo run -p anabranch-simulation -- --seed N");
    }
    code(seeds.is_empty())
}

fn code(clean: bool) -> ExitCode {
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was counted; in front of it how many seeds ran and failed, if there were many.
fn table(counts: &Counts, seeds: Option<(u64, usize)>) -> Table {
    let mut table = Table::new();
    table.set_header(["", "what", "times"]);
    if let Some((seeds, failed)) = seeds {
        table.add_row(["seeds".to_owned(), "run".to_owned(), seeds.to_string()]);
        table.add_row([String::new(), "failed".to_owned(), failed.to_string()]);
    }
    let mut before: Option<Section> = None;
    for (section, what, count) in counts.iter() {
        let title = if before == Some(section) {
            String::new()
        } else {
            section.to_string()
        };
        table.add_row([title, what.to_owned(), count.to_string()]);
        before = Some(section);
    }
    table
}

/// A line for each thing that was wrong.
fn failures(outcome: &Outcome) -> impl Iterator<Item = String> {
    outcome
        .violations
        .iter()
        .map(|violation| format!("seed {}: {}", outcome.seed, violation.replace('\n', " ")))
}
