use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::child;
use crate::runtime::until;

/// Longest that a graceful stop may take.
const STOP: Duration = Duration::from_secs(180);
/// Lines of a child's log that a failing test shows.
const TAIL_LINES: usize = 120;

/// A running child process. Killed when dropped; when its test fails, the end of its log is printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stderr: PathBuf,
    stdout: PathBuf,
}

/// How a command ended, and what it printed.
#[derive(Clone, Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// # Panics
    /// Unless the command succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(
            self.code,
            Some(0),
            "the command failed\n{}\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// # Panics
    /// Unless the command failed by itself: a panic or a signal is no refusal.
    #[track_caller]
    pub fn refused(self) -> Self {
        assert_eq!(
            self.code,
            Some(1),
            "the command was to be refused\n{}\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

fn command(args: &[&str], tethered: bool) -> Command {
    let binary = std::env::current_exe().expect("the test binary has a path");
    let mut command = Command::new(binary);
    command
        .args(["--exact", child::TEST, "--nocapture"])
        .env(child::ARGS, serde_json::to_string(args).expect("strings are JSON"))
        .env("RUST_BACKTRACE", "1")
        .env_remove("ANABRANCH_CONFIG")
        .env_remove("ANABRANCH_URL")
        .env_remove("RUST_LOG");
    if tethered {
        command.env(child::TETHER, "1");
    }
    command
}

impl Process {
    /// Starts a service; its output goes to files in `logs`.
    pub(crate) fn spawn(name: &str, args: &[&str], logs: &Path, environment: &[(&str, &str)]) -> Self {
        let (stdout, stderr) = (logs.join(format!("{name}.out")), logs.join(format!("{name}.err")));
        // A restarted service goes on in the files of the one before.
        let open = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .expect("log files can be opened")
        };
        let child = command(args, true)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(open(&stdout))
            .stderr(open(&stderr))
            .spawn()
            .expect("the test binary can be started");
        Self {
            name: name.to_owned(),
            child,
            stderr,
            stdout,
        }
    }

    /// Runs a command to its end, with `input` as its standard input.
    pub(crate) fn run(args: &[&str], input: &[u8]) -> Output {
        let mut child = command(args, false)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the test binary can be started");
        let (mut stdin, input) = (child.stdin.take().expect("it is piped"), input.to_vec());
        let writer = std::thread::spawn(move || {
            // A command that does not read its input closes it.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("a child can be waited for");
        writer.join().expect("writing does not panic");
        Output {
            code: output.status.code(),
            stdout: after_mark(&output.stdout),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let what = format!("`{}` ends", self.name);
        until(&what, within, || self.child.try_wait().expect("a child can be asked"))
    }

    /// `kill -9`: nothing runs any more in the process.
    pub fn kill9(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait(STOP)
    }

    /// SIGINT, as Ctrl-C sends it, and waits for the end.
    pub fn interrupt(&mut self) -> ExitStatus {
        self.signal("INT");
        self.wait(STOP)
    }

    /// SIGSTOP: the process stands still, and everybody else goes on.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// SIGCONT: it goes on as if nothing had happened.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "SIG{name} could not be sent to `{}`",
            self.name
        );
    }

    /// Everything it wrote to standard error, over all its restarts.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Everything it wrote to standard output, over all its restarts.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// The last lines of its log, for a person.
    pub fn tail(&self) -> String {
        let log = self.stderr();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        format!(
            "--- log of `{}` (last {} lines)\n{}",
            self.name,
            lines.len() - from,
            lines[from..].join("\n")
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .expect("a log file can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn after_mark(stdout: &[u8]) -> String {
    let text = String::from_utf8_lossy(stdout);
    match text.split_once(child::MARK) {
        Some((_, command)) => command.trim_start_matches('\n').to_owned(),
        None => text.into_owned(),
    }
}
