use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use toml::{Table, Value};

use crate::http::Http;
use crate::process::{Output, Process};
use crate::{ports, runtime::until};

/// Longest that a service may take to be ready. Generous: the tests share few cores.
const READY: Duration = Duration::from_secs(180);

/// Where services keep their data by default, below the folder.
const DATA: &str = ".anabranch";

/// A configuration folder with ports of its own.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    speed: u16,
    batch: u16,
    serving: u16,
}

impl Site {
    /// Writes `views.sql` and `anabranch.toml`: free ports, then `extra_toml` over them.
    ///
    /// # Panics
    /// When `extra_toml` is no TOML.
    pub fn new(views_sql: &str, extra_toml: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("anabranch-e2e-")
            .tempdir()
            .expect("a temporary folder can be made");
        let site = Self {
            dir,
            speed: ports::free(),
            batch: ports::free(),
            serving: ports::free(),
        };
        let ports = format!(
            "[speed]\nlisten = '127.0.0.1:{}'\n[batch]\nlisten = '127.0.0.1:{}'\n[serving]\nlisten = '127.0.0.1:{}'\n\
             [telemetry]\nlog = 'info'\n",
            site.speed, site.batch, site.serving
        );
        let mut settings: Table = ports.parse().expect("the ports are TOML");
        merge(&mut settings, extra_toml.parse().expect("the extra settings are TOML"));
        std::fs::write(site.path().join("anabranch.toml"), settings.to_string()).expect("the folder can be written to");
        site.write_views(views_sql);
        site
    }

    /// Replaces `views.sql`; services read it when they start.
    pub fn write_views(&self, views_sql: &str) {
        std::fs::write(self.path().join("views.sql"), views_sql).expect("the folder can be written to");
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The folder as an argument.
    pub fn config(&self) -> &str {
        self.path().to_str().expect("temporary folders have plain names")
    }

    /// A copy of the whole folder, with ports of its own. Files are as old as they were.
    ///
    /// # Panics
    /// When a file cannot be copied.
    pub fn fork(&self, extra_toml: &str) -> Self {
        let views = std::fs::read_to_string(self.file("views.sql")).expect("the site has views");
        let copy = Self::new(&views, extra_toml);
        copy_folder(&self.file(DATA), &copy.file(DATA));
        copy
    }

    /// Lets time pass, as the local store sees it: its objects look as if they had been written that much earlier, and
    /// nobody believes the leases of processes that are gone.
    ///
    /// # Panics
    /// When there is no local store in the folder.
    pub fn let_pass(&self, time: Duration) {
        let store = self.file(DATA).join("store");
        let leases = store.join("services");
        if leases.exists() {
            std::fs::remove_dir_all(leases).expect("the folder can be written to");
        }
        age(&store, time);
    }

    /// The HTTP API, if a serving layer runs here.
    pub fn http(&self) -> Http {
        Http::new(self.serving)
    }

    /// Ports of the speed, the batch and the serving layer.
    pub fn ports(&self) -> [u16; 3] {
        [self.speed, self.batch, self.serving]
    }

    /// What `speed`, `batch` or `serve` answers at its own port.
    pub fn http_of(&self, service: &str) -> Http {
        Http::new(match service {
            "speed" => self.speed,
            "batch" => self.batch,
            _ => self.serving,
        })
    }

    /// Starts `dev`, `speed`, `batch` or `serve`, and waits until it is ready.
    pub fn start(&self, service: &str) -> Process {
        let mut process = self.spawn(service);
        self.ready(service, &mut process);
        process
    }

    /// Starts a service without waiting for it.
    pub fn spawn(&self, service: &str) -> Process {
        self.spawn_with(service, &[])
    }

    /// As [`spawn`](Self::spawn), with variables in the child's environment.
    pub fn spawn_with(&self, service: &str, environment: &[(&str, &str)]) -> Process {
        Process::spawn(service, &[service, "--config", self.config()], self.path(), environment)
    }

    /// Waits for `/readyz` of every port that the service has.
    ///
    /// # Panics
    /// When it ends instead, or takes too long.
    pub fn ready(&self, service: &str, process: &mut Process) {
        let ports: &[u16] = match service {
            "speed" => &[self.speed],
            "batch" => &[self.batch],
            "serve" => &[self.serving],
            _ => &[self.speed, self.batch, self.serving],
        };
        for port in ports {
            let http = Http::new(*port);
            until(&format!("`{service}` is ready"), READY, || {
                if let Some(status) = process.ended() {
                    panic!("`{service}` ended with {status} instead of becoming ready");
                }
                http.try_get("/readyz").filter(|reply| reply.status == 200)
            });
        }
    }

    /// Runs a command to its end.
    pub fn cli(&self, args: &[&str]) -> Output {
        Process::run(args, b"")
    }

    /// Runs a command to its end, with something on its standard input.
    pub fn cli_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        Process::run(args, input)
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the folder can be written to");
    for entry in std::fs::read_dir(from).expect("the folder can be listed") {
        let entry = entry.expect("the folder can be listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("an entry has a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("a file can be copied");
            set_modified(&target, modified(&entry));
        }
    }
}

fn modified(entry: &std::fs::DirEntry) -> SystemTime {
    let metadata = entry.metadata().expect("an entry can be looked at");
    metadata.modified().expect("files have a time of modification")
}

fn set_modified(file: &Path, time: SystemTime) {
    let file = std::fs::File::options().append(true).open(file);
    file.and_then(|file| file.set_modified(time))
        .expect("a file's time of modification can be set");
}

/// Makes every file look as if it had been written `by` earlier.
fn age(folder: &Path, by: Duration) {
    for entry in std::fs::read_dir(folder).expect("the folder can be listed") {
        let entry = entry.expect("the folder can be listed");
        if entry.file_type().expect("an entry has a type").is_dir() {
            age(&entry.path(), by);
        } else {
            set_modified(&entry.path(), modified(&entry) - by);
        }
    }
}

/// Puts `over` into `settings`, section by section.
fn merge(settings: &mut Table, over: Table) {
    for (key, value) in over {
        match (settings.get_mut(&key), value) {
            (Some(Value::Table(section)), Value::Table(over)) => merge(section, over),
            (_, value) => {
                settings.insert(key, value);
            }
        }
    }
}
