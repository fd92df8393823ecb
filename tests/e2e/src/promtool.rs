//! `promtool`, which reads and evaluates Prometheus' rules without a Prometheus.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::python::{cache, run};

/// The program: the machine's, or the one of Debian's package `prometheus`, unpacked once into the test cache. Nothing is
/// installed, and no service starts.
///
/// # Errors
/// Why there is none.
pub fn promtool() -> Result<PathBuf, String> {
    if run(Command::new("promtool").arg("--version")).is_ok() {
        return Ok("promtool".into());
    }
    let cache = cache()?;
    fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let lock = File::create(cache.join("promtool.lock")).map_err(|error| error.to_string())?;
    // Two test processes must not unpack at once; the lock ends with the file.
    lock.lock().map_err(|error| error.to_string())?;
    let program = cache.join("promtool");
    if !program.exists() {
        let folder = tempfile::tempdir_in(&cache).map_err(|error| error.to_string())?;
        unpack(folder.path(), &program)
            .map_err(|reason| format!("there is no promtool, and no package that brings it: {reason}"))?;
    }
    Ok(program)
}

fn unpack(folder: &Path, program: &Path) -> Result<(), String> {
    run(Command::new("apt-get")
        .args(["download", "-qq", "prometheus"])
        .current_dir(folder))?;
    let package = fs::read_dir(folder)
        .map_err(|error| error.to_string())?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or("apt-get downloaded nothing")?;
    run(Command::new("dpkg").arg("-x").arg(package).arg(folder))?;
    fs::rename(folder.join("usr/bin/promtool"), program).map_err(|error| error.to_string())
}

/// Runs the unit tests of `file`, which names its rules relative to itself.
///
/// # Errors
/// What is not as the file says.
pub fn test_rules(promtool: &Path, file: &Path) -> Result<String, String> {
    let output = Command::new(promtool)
        .args(["test", "rules"])
        .arg(file)
        .output()
        .map_err(|error| format!("promtool: {error}"))?;
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() {
        Ok(printed)
    } else {
        Err(printed)
    }
}
