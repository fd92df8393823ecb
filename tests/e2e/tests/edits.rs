//! The Wikipedia edits, views of them, and what the views must say: plain loops over the file.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::OnceLock;

use anabranch_e2e::answer::integer;
use anabranch_e2e::compare::{assert_same_rows, assert_same_rows_in_order, time_us};
use anabranch_e2e::examples::{self, Case};
use anabranch_e2e::{Http, data};
use anabranch_model::TopicOffsets;
use serde_json::{Value, json};

/// Published totals of the whole file.
pub const EVENTS: i64 = 39_244;
pub const ADDED: i64 = 9_385_573;
pub const TABLE: &str = "wikipedia";

const HOUR_US: i64 = 3_600_000_000;

/// `views.sql`; `with` is what stands in the table's WITH, such as `connector = 'log', partitions = 3`.
pub fn views(with: &str) -> String {
    format!(
        r#"
CREATE TABLE wikipedia (
  time TIMESTAMP NOT NULL, channel TEXT, cityName TEXT, page TEXT, "user" TEXT, isRobot BOOLEAN,
  added BIGINT, deleted BIGINT, delta BIGINT
) WITH ({with}, format = 'json', event_time = 'time');

CREATE MATERIALIZED VIEW totals AS
SELECT count(*) AS edits, sum(added) AS added, count(DISTINCT "user") AS editors FROM wikipedia;

CREATE MATERIALIZED VIEW pages AS
SELECT page, count(*) AS edits FROM wikipedia GROUP BY page;

CREATE MATERIALIZED VIEW cities AS
SELECT cityName, count(CASE WHEN delta > 0 THEN channel END) AS cnt, count(*) AS aall
FROM wikipedia WHERE cityName IN ('New York', 'Aarhus') GROUP BY cityName;

CREATE MATERIALIZED VIEW hourly AS
SELECT channel, tumble(time, INTERVAL '1 hour') AS hour, count(*) AS edits, sum(added) AS added,
       count(DISTINCT "user") AS editors, min(delta) AS smallest, max(delta) AS largest, avg(added) AS average,
       count(*) FILTER (WHERE isRobot) AS by_robots
FROM wikipedia GROUP BY channel, hour;
"#
    )
}

/// The file, and what examples.json says about it.
pub struct Edits {
    pub file: PathBuf,
    pub lines: Vec<String>,
    events: Vec<Edit>,
    examples: Vec<Case>,
}

struct Edit {
    time_us: i64,
    channel: String,
    user: String,
    added: i64,
    delta: i64,
    robot: bool,
}

/// One group of `hourly`.
#[derive(Default)]
struct Hour {
    edits: i64,
    added: i64,
    editors: HashSet<String>,
    smallest: Option<i64>,
    largest: Option<i64>,
    by_robots: i64,
}

impl Edits {
    /// `None`, said loudly, where the data is not there.
    pub fn load(test: &str) -> Option<&'static Self> {
        static EDITS: OnceLock<Edits> = OnceLock::new();
        let file = data::file(test, data::WIKIPEDIA)?;
        let cases = data::file(test, data::EXAMPLES)?;
        Some(EDITS.get_or_init(|| {
            let lines = data::lines(&file);
            let events = lines.iter().map(|line| Edit::parse(line)).collect();
            Self {
                file,
                lines,
                events,
                examples: examples::load(&cases),
            }
        }))
    }

    /// Half of the events, rounded down.
    pub fn half(&self) -> usize {
        self.lines.len() / 2
    }

    pub fn body(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        data::ndjson(&self.lines[range])
    }

    /// Edits, sum of added, and distinct users of the first `n` events, for every `n`.
    pub fn prefixes(&self) -> Vec<[i64; 3]> {
        let mut users = HashSet::new();
        let mut prefixes = vec![[0; 3]];
        for (at, edit) in self.events.iter().enumerate() {
            users.insert(&edit.user);
            let [_, added, _] = prefixes[at];
            prefixes.push([at as i64 + 1, added + edit.added, users.len() as i64]);
        }
        prefixes
    }

    /// Compares every group of every view with the first `events` events of the file; the answers must cover `through`.
    #[track_caller]
    pub fn check(&self, moment: &str, http: &Http, events: usize, through: &TopicOffsets) {
        let prefix = self.prefixes()[events];
        let totals = http.query_at_least("SELECT edits, added, editors FROM totals", through);
        assert_eq!(totals.integers(), prefix, "{moment}: totals");
        self.check_hours(moment, http, events, through);
        if events == self.lines.len() {
            assert_eq!(prefix[..2], [EVENTS, ADDED], "the published totals of the file");
            self.check_published(moment, http, through);
        }
        check_one_snapshot(moment, http, through);
    }

    /// The cases that others published.
    #[track_caller]
    fn check_published(&self, moment: &str, http: &Http, through: &TopicOffsets) {
        let top = http.query_at_least(
            "SELECT page, edits FROM pages ORDER BY edits DESC, page LIMIT 10",
            through,
        );
        let expected = examples::find(&self.examples, "wiki-02-top10-pages").rows("expected", &["page", "edits"]);
        assert_same_rows_in_order(&format!("{moment}: top pages"), &expected, &top.rows);
        let cities = http.query_at_least("SELECT cityName, cnt, aall FROM cities ORDER BY cityName", through);
        let expected = examples::find(&self.examples, "wiki-04-city-filtered-count")
            .rows("expected", &["cityName", "cnt", "aall"]);
        assert_same_rows_in_order(&format!("{moment}: cities"), &expected, &cities.rows);
    }

    #[track_caller]
    fn check_hours(&self, moment: &str, http: &Http, events: usize, through: &TopicOffsets) {
        let mut hours: BTreeMap<(&str, i64), Hour> = BTreeMap::new();
        for edit in &self.events[..events] {
            let hour = hours
                .entry((&edit.channel, edit.time_us.div_euclid(HOUR_US) * HOUR_US))
                .or_default();
            hour.edits += 1;
            hour.added += edit.added;
            hour.editors.insert(edit.user.clone());
            hour.smallest = Some(hour.smallest.map_or(edit.delta, |smallest| smallest.min(edit.delta)));
            hour.largest = Some(hour.largest.map_or(edit.delta, |largest| largest.max(edit.delta)));
            hour.by_robots += i64::from(edit.robot);
        }
        let expected: Vec<Vec<Value>> = hours
            .iter()
            .map(|((channel, start), hour)| hour.row(channel, *start))
            .collect();
        let sql = "SELECT channel, hour, edits, added, editors, smallest, largest, average, by_robots FROM hourly";
        assert_same_rows(
            &format!("{moment}: hourly"),
            &expected,
            &http.query_at_least(sql, through).rows,
        );
    }
}

impl Edit {
    fn parse(line: &str) -> Self {
        let event: Value = serde_json::from_str(line).expect("the file is NDJSON");
        let text = |key: &str| {
            event[key]
                .as_str()
                .unwrap_or_else(|| panic!("no {key}: {line}"))
                .to_owned()
        };
        Self {
            time_us: time_us(&text("time")).expect("the time is RFC 3339"),
            channel: text("channel"),
            user: text("user"),
            added: integer(&event["added"]),
            delta: integer(&event["delta"]),
            robot: event["isRobot"] == true,
        }
    }
}

impl Hour {
    fn row(&self, channel: &str, start_us: i64) -> Vec<Value> {
        let start = chrono::DateTime::from_timestamp_micros(start_us)
            .expect("the time is in range")
            .to_rfc3339();
        let average = self.added as f64 / self.edits as f64;
        vec![
            json!(channel),
            json!(start),
            json!(self.edits),
            json!(self.added),
            json!(self.editors.len()),
            json!(self.smallest),
            json!(self.largest),
            json!(average),
            json!(self.by_robots),
        ]
    }
}

/// Two views in one query are of one publication and one prefix of the log: they count the same events.
#[track_caller]
pub fn check_one_snapshot(moment: &str, http: &Http, through: &TopicOffsets) {
    let sql = "SELECT t.edits, p.edits FROM totals t CROSS JOIN (SELECT sum(edits) AS edits FROM pages) p";
    let answer = http.query_at_least(sql, through);
    let counts: BTreeSet<i64> = answer.integers().into_iter().collect();
    assert_eq!(
        counts.len(),
        1,
        "{moment}: two views of one answer count different events: {counts:?}"
    );
    let [pages, totals] = [&answer.coverage["pages"], &answer.coverage["totals"]];
    assert_eq!(
        pages, totals,
        "{moment}: two views of one answer cover different events"
    );
}
