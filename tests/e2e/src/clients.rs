//! SQL clients that other people made: `psql`, and Java with the PostgreSQL JDBC driver.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::python::{cache, run};

const JDBC: &str = "42.7.13";

/// A PostgreSQL client program, from the machine or, where that is allowed, from its distribution.
///
/// # Errors
/// Why there is none.
pub fn psql() -> Result<PathBuf, String> {
    let found = || run(Command::new("psql").arg("--version")).map(|_| PathBuf::from("psql"));
    if let Ok(psql) = found() {
        return Ok(psql);
    }
    // Only root may install, or who may become it without a password.
    let install = [
        "apt-get",
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        "postgresql-client",
    ];
    run(Command::new(install[0]).args(&install[1..]))
        .or_else(|_| run(Command::new("sudo").arg("-n").args(install)))
        .map_err(|reason| format!("there is no psql, and it cannot be installed: {reason}"))?;
    found()
}

/// Runs `psql` on a server of this machine; what it printed, and whether it was content.
pub fn ask_psql(psql: &Path, port: u16, args: &[&str]) -> Output {
    Command::new(psql)
        .args(["-X", "-h", "127.0.0.1", "-U", "tester", "-d", "anabranch"])
        .args(["-p", &port.to_string()])
        .args(args)
        .env("PGCONNECT_TIMEOUT", "30")
        .output()
        .expect("psql can be run")
}

/// The PostgreSQL JDBC driver, fetched once by its name.
///
/// # Errors
/// Why there is none: no Java, or no package registry.
pub fn jdbc() -> Result<PathBuf, String> {
    run(Command::new("java").arg("-version")).map_err(|reason| format!("JDBC needs Java: {reason}"))?;
    let folder = cache()?.join(format!("jdbc-{JDBC}"));
    let jar = folder.join(format!("postgresql-{JDBC}.jar"));
    if !jar.exists() {
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        run(Command::new("mvn")
            .args(["-q", "-B", "dependency:copy"])
            .arg(format!("-Dartifact=org.postgresql:postgresql:{JDBC}"))
            .arg(format!("-DoutputDirectory={}", folder.display())))?;
    }
    Ok(jar)
}

/// Runs a Java program of one file with the driver; returns what it printed.
///
/// # Errors
/// What it wrote to standard error.
pub fn java(jar: &Path, source: &Path, args: &[&str]) -> Result<String, String> {
    run(Command::new("java").arg("-cp").arg(jar).arg(source).args(args))
}
