//! One module per command; [`run`] picks one, prints its error, and chooses the exit code.

use std::process::ExitCode;

use anabranch_runtime::{Shutdown, telemetry};
use anyhow::{Context, Result};

use crate::args::{Args, Command, Health};
use crate::client::Client;

mod audit;
mod check;
mod dead_letters;
mod doctor;
mod exclude;
mod ingest;
mod maintenance;
mod manual;
mod query;
mod runs;
mod services;
mod support;
mod tables;
mod token;
mod views;

/// Runs a command to its end.
pub fn run(args: Args) -> ExitCode {
    match dispatch(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => on_runtime(crate::demo::run(args)),
        Command::Dev(args) => on_runtime(services::dev(args)),
        Command::Speed(args) => on_runtime(services::speed(args)),
        Command::Batch(args) => on_runtime(services::batch(args)),
        Command::Serve(args) => on_runtime(services::serve(args)),
        Command::Ingest(args) => on_runtime(ingest::run(args)),
        Command::Query(args) => on_runtime(query::run(args)),
        Command::Views(args) => on_runtime(views::run(args)),
        Command::Runs(args) => on_runtime(runs::run(args)),
        Command::Verify(args) => on_runtime(runs::verify(args)),
        Command::Maintenance(args) => on_runtime(maintenance::run(args)),
        Command::Retention(args) => on_runtime(maintenance::retention(args)),
        Command::DeadLetters(args) => on_runtime(dead_letters::run(args)),
        Command::Exclude(args) => on_runtime(exclude::exclude(args)),
        Command::Include(args) => on_runtime(exclude::include(args)),
        Command::Doctor(args) => on_runtime(doctor::run(args)),
        Command::SupportBundle(args) => on_runtime(support::run(args)),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { dir } => manual::pages(&dir),
        Command::Token(args) => on_runtime(token::run(args)),
        Command::Audit(args) => on_runtime(audit::run(args)),
        Command::Health(args) => on_runtime(health(args)),
    }
}

/// Stack of a thread, of which the system gives what is used. View definitions are parsed and dropped on any of them, and take a
/// level for each operator in a row.
const STACK_BYTES: usize = 16 << 20;

fn on_runtime(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build()
        .context("cannot start threads")?;
    let result = runtime.block_on(command);
    // Blocking tasks that nobody waits for, such as a read of standard input, must not hold the process back.
    runtime.shutdown_background();
    result
}

async fn health(args: Health) -> Result<ExitCode> {
    let answer = Client::as_service(&args)?.get("/readyz").await?;
    println!("{}", answer["status"].as_str().unwrap_or("ready"));
    Ok(ExitCode::SUCCESS)
}

/// Logs, metrics and signals of a long-running command.
fn start_service(settings: &anabranch_runtime::Settings, service: &str) -> Result<Shutdown> {
    telemetry::init(&settings.telemetry, service)?;
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("cannot listen for signals")?;
    Ok(shutdown)
}
