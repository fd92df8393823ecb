//! Python environments with packages that check ours: another implementation of the Delta protocol, a fuzzer of HTTP APIs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// An interpreter with `deltalake`.
///
/// # Errors
/// As [`with`].
pub fn interpreter() -> Result<PathBuf, String> {
    with("python", &["deltalake==1.6.6", "pyarrow==26.0.1"])
}

/// An interpreter with SQL clients: psycopg, psycopg2, asyncpg, SQLAlchemy and ADBC.
///
/// # Errors
/// As [`with`].
pub fn sql_clients() -> Result<PathBuf, String> {
    let packages = [
        "psycopg[binary]==3.3.9",
        "psycopg2-binary==2.9.13",
        "asyncpg==0.32.0",
        "sqlalchemy==2.1.9",
        "adbc-driver-flightsql==1.13.0",
        "pyarrow==26.0.1",
    ];
    with("python-sql", &packages)
}

/// The interpreter of an environment of its own, provisioned once into `$ANABRANCH_TEST_CACHE` or `~/.cache/anabranch-tests`.
///
/// # Errors
/// Why there is none: no Python, or no package registry.
pub fn with(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let cache = cache()?;
    fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let lock = File::create(cache.join(format!("{name}.lock"))).map_err(|error| error.to_string())?;
    // Two test processes must not install at once; the lock ends with the file.
    lock.lock().map_err(|error| error.to_string())?;
    let dir = cache.join(name);
    let (python, ready) = (dir.join("bin/python"), dir.join("ready"));
    let wanted = packages.join(" ");
    if fs::read_to_string(&ready).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(packages))?;
    fs::write(&ready, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

/// Runs a script; returns what it printed.
///
/// # Errors
/// What it wrote to standard error.
pub fn script(python: &Path, script: &str, args: &[&str]) -> Result<String, String> {
    run(Command::new(python).args(["-c", script]).args(args))
}

/// A script that is asked line by line, and answers so: JSON both ways. It ends with this.
#[derive(Debug)]
pub struct Dialogue {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Dialogue {
    /// # Panics
    /// When the interpreter cannot be run.
    pub fn start(python: &Path, script: &str, args: &[&str]) -> Self {
        let mut child = Command::new(python)
            .args(["-u", "-c", script])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter can be run");
        let questions = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Self {
            child,
            questions,
            answers,
        }
    }

    /// # Panics
    /// When the script ends instead of answering.
    #[track_caller]
    pub fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.questions, "{question}").expect("the script reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the script writes text");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{question} is answered {line:?}: {error}"))
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn cache() -> Result<PathBuf, String> {
    if let Some(dir) = std::env::var_os("ANABRANCH_TEST_CACHE") {
        return Ok(dir.into());
    }
    let home = std::env::var_os("HOME").ok_or("neither ANABRANCH_TEST_CACHE nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/anabranch-tests"))
}

pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "{shown} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}
