use std::process::ExitCode;

use anabranch::args::Args;
use anabranch::commands;
use clap::Parser;

fn main() -> ExitCode {
    commands::run(Args::parse())
}
