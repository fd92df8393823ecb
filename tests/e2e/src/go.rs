//! Go programs of the tests, with the modules that they name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::python::{cache, run};

/// Builds the program in `source` into the test cache, where Go has what it built before; `name` is the program's.
///
/// # Errors
/// Why it cannot be built: no Go, or no module proxy.
pub fn program(name: &str, source: &Path) -> Result<PathBuf, String> {
    let cache = cache()?.join("go-programs");
    fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let lock = File::create(cache.join("lock")).map_err(|error| error.to_string())?;
    // Two test processes must not write one program; the lock ends with the file.
    lock.lock().map_err(|error| error.to_string())?;
    let program = cache.join(name);
    run(Command::new("nice")
        .args(["-n", "15", "go", "build", "-mod=readonly", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(source))?;
    Ok(program)
}

/// Runs a program; returns what it printed.
///
/// # Errors
/// What it wrote to standard error.
pub fn output(program: &Path, args: &[&str]) -> Result<String, String> {
    run(Command::new(program).args(args))
}
