//! Generated web-shop clicks: Zipf pages, sessions, late events, malformed lines, and the truth about all of them.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// Tables and views of the demo.
pub const VIEWS_SQL: &str = include_str!("views.sql");
/// Name of the table the generator fills.
pub const TABLE: &str = "clicks";
/// Seconds of a window of the view `actions`.
const WINDOW_SECONDS: i64 = 10;

const PAGES: usize = 200;
const USERS: u32 = 5_000;
const OPEN_SESSIONS: usize = 400;
const ACTIONS: [&str; 4] = ["view", "search", "cart", "buy"];
const SYSTEMS: [&str; 4] = ["linux", "macos", "windows", "android"];

/// What every group of every view must say, by plain counting.
#[derive(Debug, Default)]
pub struct Truth {
    pub events: u64,
    pub malformed: u64,
    pub late: u64,
    pub revenue_cents: i64,
    pub pages: BTreeMap<String, PageTruth>,
    /// (window start in seconds since the epoch, action) → clicks.
    pub actions: BTreeMap<(i64, &'static str), u64>,
}

/// One page's counts.
#[derive(Debug, Default)]
pub struct PageTruth {
    pub clicks: u64,
    pub duration_ms: i64,
    pub visitors: HashSet<u32>,
}

struct Session {
    id: u64,
    user: u32,
    clicks_left: u32,
}

/// An endless, seeded stream of clicks.
pub struct Clicks {
    random: StdRng,
    pages: Zipf<f64>,
    sessions: Vec<Session>,
    next_session: u64,
    truth: Truth,
}

impl Clicks {
    pub fn new(seed: u64) -> Self {
        let pages = Zipf::new(PAGES as f64, 1.1).expect("the parameters are positive constants");
        Self {
            random: StdRng::seed_from_u64(seed),
            pages,
            sessions: Vec::new(),
            next_session: 0,
            truth: Truth::default(),
        }
    }

    /// The truth about everything generated so far.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Appends one line to `out` (without a line feed). `now_ms` is the present, in milliseconds since the epoch. One
    /// line in 200 is malformed; one event in 20 is up to ten minutes late, and a few a whole day.
    pub fn write(&mut self, now_ms: i64, out: &mut Vec<u8>) {
        let (user, session) = self.step_session();
        let page = self.pages.sample(&mut self.random) as usize;
        let action = ACTIONS[[0, 0, 0, 0, 0, 1, 1, 2, 2, 3][self.random.random_range(0..10)]];
        let duration_ms: i64 = self.random.random_range(1..30_000);
        let cents: Option<i64> = (action == "buy").then(|| self.random.random_range(99..50_000));
        let late = match self.random.random_range(0..1_000) {
            0 => 86_400_000,
            1..50 => self.random.random_range(1_000..600_000),
            _ => 0,
        };
        let time_ms = now_ms - late;
        let system = SYSTEMS[self.random.random_range(0..SYSTEMS.len())];
        let mobile = system == "android";

        let start = out.len();
        let time = rfc3339(time_ms);
        let written = write!(
            out,
            r#"{{"time":"{time}","session":"s{session}","user":"u{user}","page":"/product/{page}","action":"{action}","duration_ms":{duration_ms},"client":{{"os":"{system}","mobile":{mobile}}}"#
        );
        written.expect("writing to memory cannot fail");
        if let Some(cents) = cents {
            write!(out, r#","price":{}.{:02}"#, cents / 100, cents % 100).expect("writing to memory cannot fail");
        }
        out.push(b'}');

        if self.random.random_ratio(1, 200) {
            self.spoil(start, out);
            self.truth.malformed += 1;
            return;
        }
        self.truth.events += 1;
        self.truth.late += u64::from(late > 0);
        self.truth.revenue_cents += cents.unwrap_or(0);
        let entry = self.truth.pages.entry(format!("/product/{page}")).or_default();
        entry.clicks += 1;
        entry.duration_ms += duration_ms;
        entry.visitors.insert(user);
        let window = time_ms.div_euclid(1_000 * WINDOW_SECONDS) * WINDOW_SECONDS;
        *self.truth.actions.entry((window, action)).or_default() += 1;
    }

    /// Picks an open session, opens new ones, closes finished ones.
    fn step_session(&mut self) -> (u32, u64) {
        while self.sessions.len() < OPEN_SESSIONS {
            self.next_session += 1;
            let user = self.random.random_range(0..USERS);
            let clicks_left = self.random.random_range(1..40);
            self.sessions.push(Session {
                id: self.next_session,
                user,
                clicks_left,
            });
        }
        let at = self.random.random_range(0..self.sessions.len());
        let session = &mut self.sessions[at];
        let ids = (session.user, session.id);
        session.clicks_left -= 1;
        if session.clicks_left == 0 {
            self.sessions.swap_remove(at);
        }
        ids
    }

    /// Makes the line that begins at `start` undecodable, in one of the ways that real producers do.
    fn spoil(&mut self, start: usize, out: &mut Vec<u8>) {
        match self.random.random_range(0..4) {
            // Cut off in the middle.
            0 => out.truncate(start + (out.len() - start) / 2),
            // No event time.
            1 => {
                out.truncate(start);
                out.extend_from_slice(br#"{"session":"s1","page":"/product/1","action":"view"}"#);
            }
            // A wrong type.
            2 => {
                out.truncate(start);
                out.extend_from_slice(br#"{"time":"soon","session":"s1","page":"/product/1","duration_ms":"long"}"#);
            }
            // Invalid UTF-8.
            _ => {
                out.truncate(start);
                out.extend_from_slice(b"{\"time\":\"2026-01-01T00:00:00Z\",\"session\":\"s1\",\"page\":\"\xff\xfe\"}");
            }
        }
    }
}

/// RFC 3339 with milliseconds, UTC.
fn rfc3339(ms: i64) -> impl std::fmt::Display {
    chrono::DateTime::from_timestamp_millis(ms)
        .unwrap_or_default()
        .format("%Y-%m-%dT%H:%M:%S%.3fZ")
}
