//! `anabranch-simulation --seed N` replays one seed; `--seeds A..B` runs many.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anabranch_simulation::{Counts, Mutation, Outcome, run_mutated};
use clap::Parser;
use comfy_table::Table;
use indicatif::{ProgressBar, ProgressStyle};

/// Runs the real landing, sealing, expiry, publication and merge code under seeded faults.
#[derive(Parser)]
struct Args {
    /// Replay one seed; RUST_LOG=trace shows every request.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Break something on purpose, to see it found.
    #[arg(long)]
    mutation: Option<Mutation>,
    /// Run these seeds, `A..B`.
    #[arg(long, default_value = "0..200", value_parser = parse_range)]
    seeds: Range<u64>,
    /// Threads; each runs a seed of its own.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (start, end) = text.split_once("..").ok_or("write A..B")?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|error| error.to_string());
    Ok(number(start)?..number(end)?)
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .without_time()
            .init();
        let outcome = run_mutated(seed, args.mutation);
        println!("{}", table(&outcome.counts));
        println!(
            "seed {seed}: {:.1} s of virtual time, hash {:016x}",
            outcome.virtual_micros as f64 / 1e6,
            outcome.hash
        );
        return report(&[outcome]);
    }
    many(args.seeds, args.jobs, args.mutation)
}

fn many(seeds: Range<u64>, jobs: usize, mutation: Option<Mutation>) -> ExitCode {
    let jobs = match jobs {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        jobs => jobs,
    };
    let total = seeds.end.saturating_sub(seeds.start);
    let bar = ProgressBar::new(total).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} seeds  {per_sec}  {eta} left  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let (next, sum, failed) = (
        AtomicU64::new(seeds.start),
        Mutex::new(Counts::default()),
        Mutex::new(Vec::new()),
    );
    let (virtual_micros, hash) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run_mutated(seed, mutation);
                    virtual_micros.fetch_add(outcome.virtual_micros, Ordering::Relaxed);
                    // Each hash depends on its seed already, and seeds end in no order.
                    hash.fetch_xor(outcome.hash, Ordering::Relaxed);
                    sum.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .merge(&outcome.counts);
                    if !outcome.violations.is_empty() {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.push(outcome);
                        bar.set_message(format!("{} failed", failed.len()));
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    println!("{}", table(&sum.into_inner().unwrap_or_else(PoisonError::into_inner)));
    println!(
        "{total} seeds in {seconds:.1} s ({:.1} a second, {jobs} threads), {:.1} h of virtual time, hash of all {:016x}",
        total as f64 / seconds,
        virtual_micros.load(Ordering::Relaxed) as f64 / 3.6e9,
        hash.load(Ordering::Relaxed)
    );
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_by_key(|outcome: &Outcome| outcome.seed);
    report(&failed)
}

fn table(counts: &Counts) -> Table {
    let mut table = Table::new();
    table.set_header(["faults and checks", "times"]);
    for (what, count) in &counts.0 {
        table.add_row([(*what).to_owned(), count.to_string()]);
    }
    table
}

fn report(outcomes: &[Outcome]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for outcome in outcomes {
        for violation in &outcome.violations {
            code = ExitCode::FAILURE;
            println!("seed {}: {violation}", outcome.seed);
        }
    }
    if code == ExitCode::SUCCESS {
        println!("all clean");
    } else {
        println!("replay with: cargo run -p anabranch-simulation -- --seed N");
    }
    code
}
