//! What clap knows of the commands, for shells and for `man`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::args::{Args, Shell};

/// Prints a completion script.
pub fn completions(shell: Shell) -> Result<ExitCode> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "anabranch", &mut script);
    // Whoever pipes into `head` must not see a panic.
    match std::io::Write::write_all(&mut std::io::stdout(), &script) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Writes `anabranch.1`, `anabranch-runs.1`, `anabranch-runs-start.1`, and so on.
pub fn pages(dir: &Path) -> Result<ExitCode> {
    std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
    let mut command = Args::command();
    command.build();
    let written = page(command, "anabranch", dir)?;
    println!("{written} pages in {}", dir.display());
    Ok(ExitCode::SUCCESS)
}

/// A command's page, and those of its own commands; returns how many.
fn page(command: clap::Command, name: &str, dir: &Path) -> Result<u32> {
    let mut written = 1;
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        written += page(inner.clone(), &format!("{name}-{}", inner.get_name()), dir)?;
    }
    let file = dir.join(format!("{name}.1"));
    let mut text = Vec::new();
    clap_mangen::Man::new(command.display_name(name.to_owned()))
        .render(&mut text)
        .and_then(|()| std::fs::write(&file, text))
        .with_context(|| format!("{}: cannot be written", file.display()))?;
    Ok(written)
}
