//! Crash points: named places before and after every durable step, at which a test can have the process die.
//!
//! `ANABRANCH_CRASH_AT=land.commit.after:2` ends the process at the second pass of that point, as `kill -9` would: nothing is
//! flushed, dropped or answered any more. Without the variable a pass costs one relaxed load.
//!
//! A point is placed with [`crash_point!`](crate::crash_point), which refuses at compile time a name that [`POINTS`] does not
//! list. The crash tests iterate over the list, and fail for a point that is never passed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Environment variable that arms a point: `name` or `name:n`, with `n` counted from 1.
pub const VARIABLE: &str = "ANABRANCH_CRASH_AT";

/// All points, in the order in which an event meets them.
pub const POINTS: &[&str] = &[
    // The embedded log's shared fsync; an answer to the producer comes after it.
    "log.append.before",
    "log.append.after",
    // Version 0 of a master dataset.
    "table.create.before",
    "table.create.after",
    // Columns declared since, at the start of a speed process.
    "table.columns.before",
    "table.columns.after",
    // A commit of higher ownership epochs.
    "claim.commit.before",
    "claim.commit.after",
    // A landing is closed: what comes behind belongs to the next segment.
    "seal.before",
    "seal.after",
    // A landing's Parquet files.
    "land.upload.before",
    "land.upload.after",
    // The landing commit: files and next offsets.
    "land.commit.before",
    "land.commit.after",
    // A Delta checkpoint, then the hint that points to it.
    "checkpoint.before",
    "checkpoint.written",
    "checkpoint.after",
    // The next generation of definitions.
    "definitions.append.before",
    "definitions.append.after",
    // Who is there.
    "lease.renew.before",
    "lease.renew.after",
    // A batch run's status record.
    "run.record.before",
    "run.record.after",
    // One state file of a batch view.
    "state_file.before",
    "state_file.after",
    // What a run is about to publish.
    "run.manifest.before",
    "run.manifest.after",
    // The publication, which holds the manifest.
    "publish.before",
    "publish.after",
    // Realtime state that a publication has replaced.
    "expire.before",
    "expire.after",
    // A term of leadership among several batch services.
    "leader.claim.before",
    "leader.claim.after",
    // What an interrupted run left behind, removed once nobody can publish it any more.
    "run.remove_results.before",
    "run.remove_results.after",
    // A file that holds the rows of several, then the commit that puts it in their place.
    "compact.upload.before",
    "compact.upload.after",
    "compact.commit.before",
    "compact.commit.after",
    // The commit that lets events expire.
    "retention.commit.before",
    "retention.commit.after",
    // The commit that keeps late landings away, then the removal of files.
    "vacuum.fence.before",
    "vacuum.fence.after",
    "vacuum.delete.before",
    "vacuum.delete.after",
    // The removal of commits before a checkpoint.
    "clean_log.delete.before",
    "clean_log.delete.after",
    // The removal of state files and records that no publication needs.
    "clean_runs.delete.before",
    "clean_runs.delete.after",
    // A redrive of dead letters: asked for, some of its records produced, done.
    "redrive.ask.before",
    "redrive.ask.after",
    "redrive.append.before",
    "redrive.append.after",
    "redrive.done.before",
    "redrive.done.after",
    // Any object of a local store: written and synced beside its place, then put there.
    "local.place.before",
    "local.place.after",
];

/// Whether [`POINTS`] lists the name.
pub const fn is_listed(name: &str) -> bool {
    let mut at = 0;
    while at < POINTS.len() {
        if same(POINTS[at].as_bytes(), name.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

/// `==` of slices is not const.
const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

const UNKNOWN: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;

static MODE: AtomicU8 = AtomicU8::new(UNKNOWN);
static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// Passes a point. Called by [`crash_point!`](crate::crash_point) only, so that no unlisted name gets here.
#[doc(hidden)]
pub fn pass(name: &'static str) {
    if MODE.load(Ordering::Relaxed) != OFF {
        pass_armed(name);
    }
}

#[cold]
fn pass_armed(name: &'static str) {
    let armed = ARMED.get_or_init(|| std::env::var(VARIABLE).ok().map(|text| Armed::parse(&text)));
    MODE.store(if armed.is_some() { ON } else { OFF }, Ordering::Relaxed);
    if armed.as_ref().is_some_and(|armed| armed.is_due(name)) {
        // Standard error is not buffered: the test sees which point it was.
        eprintln!("crash point {name}: the process ends here, as {VARIABLE} asks");
        std::process::abort();
    }
}

/// The point that the environment names.
#[derive(Debug)]
struct Armed {
    name: String,
    /// Passes before the last one.
    left: AtomicU64,
}

impl Armed {
    fn parse(text: &str) -> Self {
        let (name, nth) = match text.rsplit_once(':') {
            Some((name, nth)) => (name, nth.parse().unwrap_or(1)),
            None => (text, 1),
        };
        if !is_listed(name) {
            eprintln!("{VARIABLE}: there is no crash point `{name}`");
        }
        Self {
            name: name.to_owned(),
            left: AtomicU64::new(u64::max(nth, 1)),
        }
    }

    /// Whether this pass is the one.
    fn is_due(&self, name: &str) -> bool {
        self.name == name && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// Passes a crash point: `crash_point!("land.commit.before")`. The name must be one of [`crash::POINTS`](crate::crash::POINTS).
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {{
        const {
            assert!(
                $crate::crash::is_listed($name),
                concat!("crash::POINTS does not list ", $name)
            )
        };
        $crate::crash::pass($name)
    }};
}

#[cfg(test)]
mod tests;
