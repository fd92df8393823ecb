use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server process with a folder of its own. Both are gone when this is dropped, and also when this process ends without
/// dropping it, however it ends: a shell stands between them and sees its standard input close.
#[derive(Debug)]
pub(super) struct Guarded {
    shell: Child,
    log: PathBuf,
}

/// Starts the command, waits for its input to end or to say `keep`, then kills it and removes the folder, or keeps it.
const GUARD: &str = r#"
dir="$1"; shift
"$@" </dev/null &
server=$!
word=""
read -r word
kill -9 "$server" 2>/dev/null
wait "$server" 2>/dev/null
[ "$word" = keep ] || rm -rf "$dir"
"#;

impl Guarded {
    /// Starts `command` for the server in `dir`; its output goes to `server.log` there.
    pub(super) fn spawn(dir: &Path, command: &Command) -> Result<Self, String> {
        let log = dir.join("server.log");
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|error| format!("create {}: {error}", log.display()))?;
        let errors = output
            .try_clone()
            .map_err(|error| format!("share {}: {error}", log.display()))?;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", GUARD, "guard"])
            .arg(dir)
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let shell = shell
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("sh cannot be run: {error}"))?;
        Ok(Self { shell, log })
    }

    /// Kills the server (as `kill -9` does) and keeps its folder.
    pub(super) fn kill(mut self) {
        if let Some(mut input) = self.shell.stdin.take() {
            let _ = input.write_all(b"keep\n");
        }
        let _ = self.shell.wait();
    }

    /// The last lines that the server printed.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
