//! Real servers for tests: one of each per test binary, started on first use, gone when the binary ends.
//!
//! A server that this machine cannot run makes its tests skip, with the reason printed. Where tests must not be skipped, set
//! `ANABRANCH_REQUIRE_SERVERS=1`: then the reason is a panic. Downloads are kept in `$ANABRANCH_TEST_CACHE`, or else in
//! `~/.cache/anabranch-tests`.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

mod certificates;
mod kafka;
mod process;
mod s3;
#[cfg(test)]
mod tests;

pub use certificates::Certificates;
pub use kafka::{KafkaServer, kafka};
pub use s3::{S3Server, s3};

/// Says why a test cannot run here, and lets it pass.
///
/// # Panics
/// When `ANABRANCH_REQUIRE_SERVERS=1`: a skipped test is then a failed one.
pub fn skip(reason: &str) {
    assert!(
        std::env::var("ANABRANCH_REQUIRE_SERVERS").as_deref() != Ok("1"),
        "a server is required: {reason}"
    );
    eprintln!("SKIPPED: {reason}");
}

/// Where downloads are kept between runs.
fn cache_dir() -> Result<PathBuf, String> {
    let dir = match std::env::var_os("ANABRANCH_TEST_CACHE") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let home = std::env::var_os("HOME").ok_or("neither ANABRANCH_TEST_CACHE nor HOME is set")?;
            PathBuf::from(home).join(".cache/anabranch-tests")
        }
    };
    fs::create_dir_all(&dir).map_err(|error| format!("create {}: {error}", dir.display()))?;
    Ok(dir)
}

/// Makes `name` in the cache with `provide`, once: test binaries that run side by side wait for each other.
fn provision(name: &str, provide: impl FnOnce(&PathBuf) -> Result<(), String>) -> Result<PathBuf, String> {
    let cache = cache_dir()?;
    let target = cache.join(name);
    if target.exists() {
        return Ok(target);
    }
    let lock = cache.join(format!("{name}.lock"));
    let lock = File::create(&lock).map_err(|error| format!("create {}: {error}", lock.display()))?;
    lock.lock().map_err(|error| format!("lock the test cache: {error}"))?;
    if target.exists() {
        return Ok(target);
    }
    // What is half done never gets the name.
    let partial = cache.join(format!("{name}.partial"));
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).map_err(|error| format!("create {}: {error}", partial.display()))?;
    provide(&partial)?;
    fs::rename(&partial, &target).map_err(|error| format!("rename {}: {error}", partial.display()))?;
    Ok(target)
}

/// Runs a command to its end; what it printed is the error when it fails.
fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{name} cannot be run: {error}"))?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    if output.status.success() {
        Ok(printed)
    } else {
        let end: Vec<&str> = printed.lines().rev().take(8).collect();
        Err(format!(
            "{name} failed: {}",
            end.into_iter().rev().collect::<Vec<_>>().join(" | ")
        ))
    }
}

/// A port on the loopback address that was free a moment ago. It lies below those that the system hands out by itself: a
/// client that knocks again and again while a server is down could else be given the server's own port, and keep it.
fn free_port() -> Result<u16, String> {
    const FIRST: u16 = 30_000;
    const COUNT: u16 = 2_700;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test processes begin at different places.
    let begin = (std::process::id() % 27) as u16 * 100;
    let mut candidates = (0..COUNT).map(|_| FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT);
    candidates
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| format!("none of the ports {FIRST} to {} is free", FIRST + COUNT - 1))
}
