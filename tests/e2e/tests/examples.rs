//! Every case of examples.json that a view can state, in one platform.
//!
//! Those systems drop late events; here the truth over all events counts, in both layers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anabranch_e2e::compare::{assert_same_rows, assert_same_rows_in_order, time_us};
use anabranch_e2e::dev::acknowledged;
use anabranch_e2e::examples::{Case, find, load};
use anabranch_e2e::{Backend, Dev, Http, Site, data, gate};
use anabranch_model::TopicOffsets;
use serde_json::{Map, Value, json};

const PARTITIONS: u32 = 2;

/// Views of all cases. `@table@` stands for where its events come from.
const SQL: &str = r#"
CREATE TABLE wikipedia (
  time TIMESTAMP NOT NULL, page TEXT, channel TEXT, cityName TEXT, "user" TEXT, added BIGINT, delta BIGINT
)
WITH (@wikipedia@, format = 'json', event_time = 'time');
CREATE MATERIALIZED VIEW edits AS
SELECT count(*) AS edits, sum(added) AS added, count(DISTINCT "user") AS editors FROM wikipedia;
CREATE MATERIALIZED VIEW channels AS
SELECT channel, count(*) AS edits, sum(added) AS added, count(DISTINCT "user") AS editors FROM wikipedia GROUP BY channel;
CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS edits FROM wikipedia GROUP BY page;
CREATE MATERIALIZED VIEW cities AS
SELECT cityName, count(CASE WHEN delta > 0 THEN channel END) AS cnt, count(*) AS aall
FROM wikipedia WHERE cityName IN ('New York', 'Aarhus') GROUP BY cityName;

CREATE TABLE cars ("timestamp" TIMESTAMP NOT NULL, driver_id BIGINT, event_type TEXT, location TEXT)
WITH (@cars@, format = 'json', event_time = 'timestamp');
CREATE MATERIALIZED VIEW active_drivers AS
SELECT driver_id, count(*) AS events FROM cars GROUP BY driver_id HAVING count(*) > 85;
CREATE MATERIALIZED VIEW hourly_by_type AS
SELECT event_type, tumble("timestamp", INTERVAL '1 hour') AS hour, count(*) AS events FROM cars GROUP BY event_type, hour;
CREATE MATERIALIZED VIEW hourly_cars AS
SELECT tumble("timestamp", INTERVAL '1 hour') AS hour, count(*) AS events FROM cars GROUP BY hour;
CREATE MATERIALIZED VIEW dropoffs AS
SELECT tumble("timestamp", INTERVAL '1 hour') AS hour, count(DISTINCT driver_id) AS drivers
FROM cars WHERE event_type = 'dropoff' GROUP BY hour;
CREATE MATERIALIZED VIEW pickups AS
SELECT tumble("timestamp", INTERVAL '1 hour') AS hour, count(DISTINCT driver_id) AS drivers
FROM cars WHERE event_type = 'pickup' GROUP BY hour;

CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP NOT NULL, extra TEXT)
WITH (@bid@, format = 'json', event_time = 'date_time');
-- A view that keeps the bids themselves, for joins.
CREATE MATERIALIZED VIEW bids AS
SELECT auction, bidder, price, date_time, tumble(date_time, INTERVAL '10 seconds') AS w, count(*) AS n
FROM bid GROUP BY auction, bidder, price, date_time, w;
CREATE MATERIALIZED VIEW highest_bids AS
SELECT tumble(date_time, INTERVAL '10 seconds') AS w, max(price) AS price FROM bid GROUP BY w;
CREATE MATERIALIZED VIEW auctions AS
SELECT auction, count(*) AS n, count(*) FILTER (WHERE price < 10000) AS r1,
       count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS r2, count(*) FILTER (WHERE price >= 1000000) AS r3,
       min(price) AS mn, max(price) AS mx, avg(price) AS av, sum(price) AS s
FROM bid GROUP BY auction;

CREATE TABLE flink (ts_ms TIMESTAMP NOT NULL, "int" INT, "double" DOUBLE, "float" DOUBLE, bigdec DECIMAL(10, 2), string TEXT, name TEXT)
WITH (@flink@, format = 'json', event_time = 'ts_ms', timestamp_format = 'epoch_millis');
CREATE MATERIALIZED VIEW flink_tumble AS
SELECT name, tumble(ts_ms, INTERVAL '5 seconds') AS window_start, count(*) AS "count", sum(bigdec) AS sum_bigdec,
       max("double") AS max_double, min("float") AS min_float, count(DISTINCT string) AS count_distinct_string
FROM flink GROUP BY name, window_start;

CREATE TABLE risingwave (row_id INT, uid INT, v INT, created_at TIMESTAMP NOT NULL)
WITH (@risingwave@, format = 'json', event_time = 'created_at');
CREATE MATERIALIZED VIEW risingwave_tumble AS
SELECT tumble(created_at, INTERVAL '30 minutes') AS window_start, sum(v) AS sum_v FROM risingwave GROUP BY window_start;
CREATE MATERIALIZED VIEW risingwave_hop AS
SELECT hop(created_at, INTERVAL '15 minutes', INTERVAL '30 minutes') AS window_start, sum(v) AS sum_v
FROM risingwave GROUP BY window_start;

CREATE TABLE impulse ("timestamp" TIMESTAMP NOT NULL, counter BIGINT, subtask_index INT)
WITH (@impulse@, format = 'json', event_time = 'timestamp');
CREATE MATERIALIZED VIEW sliding AS
SELECT hop("timestamp", INTERVAL '2 seconds', INTERVAL '10 seconds') AS start, count(*) AS "count",
       min(counter) AS "min", max(counter) AS "max"
FROM impulse GROUP BY start;
"#;

/// A case as a question to views of [`SQL`].
struct Stated {
    id: &'static str,
    table: &'static str,
    sql: &'static str,
    /// Columns of the case, in the order of the question.
    columns: &'static [&'static str],
    /// Where the case keeps its rows. A trace shows live rows only where they are also the truth over all events.
    key: &'static str,
    ordered: bool,
    /// How the case spells a value that the API spells otherwise.
    spelling: fn(&str, Value) -> Value,
}

const fn stated(
    id: &'static str,
    table: &'static str,
    key: &'static str,
    columns: &'static [&'static str],
    sql: &'static str,
) -> Stated {
    Stated {
        id,
        table,
        sql,
        columns,
        key,
        ordered: false,
        spelling: |_, value| value,
    }
}

const STATED: [Stated; 12] = [
    Stated {
        ordered: true,
        ..stated(
            "wiki-02-top10-pages",
            "wikipedia",
            "expected",
            &["page", "edits"],
            "SELECT page, edits FROM pages ORDER BY edits DESC, page LIMIT 10",
        )
    },
    stated(
        "wiki-04-city-filtered-count",
        "wikipedia",
        "expected",
        &["cityName", "cnt", "aall"],
        "SELECT cityName, cnt, aall FROM cities",
    ),
    stated(
        "cars-05-having",
        "cars",
        "expected",
        &["drivers"],
        "SELECT count(*) AS drivers FROM active_drivers",
    ),
    Stated {
        ordered: true,
        ..stated(
            "nex-q7",
            "bid",
            "expected",
            &["auction", "price", "bidder", "date_time"],
            "SELECT b.auction, b.price, b.bidder, b.date_time FROM bids b \
             JOIN highest_bids h ON b.w = h.w AND b.price = h.price ORDER BY b.date_time",
        )
    },
    stated(
        "nex-q17",
        "bid",
        "expected",
        &["auction", "n", "r1", "r2", "r3", "mn", "mx", "av", "s"],
        "SELECT auction, n, r1, r2, r3, mn, mx, av, s FROM auctions",
    ),
    Stated {
        spelling: from_millis,
        ..stated(
            "flink-tumble-5s",
            "flink",
            "expected_batch",
            &[
                "name",
                "window_start_ms",
                "window_end_ms",
                "count",
                "sum_bigdec",
                "max_double",
                "min_float",
                "count_distinct_string",
            ],
            "SELECT name, window_start, window_start + INTERVAL '5 seconds' AS window_end, \"count\", sum_bigdec, max_double, \
             min_float, count_distinct_string FROM flink_tumble",
        )
    },
    Stated {
        spelling: from_clock,
        ..stated(
            "risingwave-tumble-30m",
            "risingwave",
            "expected_speed",
            &["sum_v", "window_start"],
            "SELECT sum_v, window_start FROM risingwave_tumble",
        )
    },
    Stated {
        spelling: from_clock,
        ..stated(
            "risingwave-hop-15m-30m",
            "risingwave",
            "expected_speed",
            &["sum_v", "window_start"],
            "SELECT sum_v, window_start FROM risingwave_hop",
        )
    },
    stated(
        "arroyo-hourly_by_event_type",
        "cars",
        "expected",
        &["event_type", "hour", "count"],
        "SELECT event_type, hour, events FROM hourly_by_type",
    ),
    stated(
        "arroyo-sliding_window_end",
        "impulse",
        "expected",
        &["count", "min", "max", "start", "end"],
        "SELECT \"count\", \"min\", \"max\", start, start + INTERVAL '10 seconds' AS \"end\" FROM sliding",
    ),
    stated(
        "arroyo-tight_watermark",
        "cars",
        "expected",
        &["count", "timestamp"],
        "SELECT events, hour + INTERVAL '1 hour' AS \"timestamp\" FROM hourly_cars",
    ),
    stated(
        "arroyo-windowed_inner_join",
        "cars",
        "expected",
        &["hour", "drivers", "pickups"],
        "SELECT d.hour, d.drivers, p.drivers AS pickups FROM dropoffs d JOIN pickups p ON d.hour = p.hour",
    ),
];

/// Cases that no view can state, and why.
const NOT_STATED: [(&str, &str); 4] = [
    (
        "storm-rolling-count-1",
        "counts per slot of processing time, not of event time: another run gives other numbers",
    ),
    (
        "storm-rolling-count-5",
        "counts per slot of processing time, not of event time: another run gives other numbers",
    ),
    (
        "arroyo-session_window",
        "session windows are refused until their state merges",
    ),
    (
        "arroyo-global_session_window",
        "session windows are refused until their state merges",
    ),
];

fn from_millis(column: &str, value: Value) -> Value {
    match value.as_i64() {
        Some(millis) if column.ends_with("_ms") => {
            json!(
                chrono::DateTime::from_timestamp_millis(millis)
                    .expect("the time is in range")
                    .to_rfc3339()
            )
        }
        _ => value,
    }
}

/// `10:30` is a time of 2022-01-01, as the case's heading says.
fn from_clock(column: &str, value: Value) -> Value {
    match value.as_str() {
        Some(clock) if column == "window_start" => json!(format!("2022-01-01T{clock}:00Z")),
        _ => value,
    }
}

/// The inline events of a case as NDJSON.
fn inline(case: &Case, columns: &[&str], spelling: fn(&str, Value) -> Value) -> Vec<u8> {
    data::ndjson(case.events().into_iter().map(|values| {
        let fields = columns
            .iter()
            .zip(values)
            .map(|(column, value)| ((*column).to_owned(), spelling(column, value)));
        Value::Object(fields.collect::<Map<_, _>>()).to_string()
    }))
}

/// Events by hour, counted plainly, beside the hour's end.
fn cars_per_hour(cars: &Path) -> Vec<Vec<Value>> {
    let mut hours: BTreeMap<i64, i64> = BTreeMap::new();
    for event in data::events(cars) {
        let time = time_us(event["timestamp"].as_str().expect("cars have a time")).expect("it is RFC 3339");
        *hours.entry(time.div_euclid(3_600_000_000) + 1).or_default() += 1;
    }
    let end = |hour: i64| {
        chrono::DateTime::from_timestamp(hour * 3_600, 0)
            .expect("the time is in range")
            .to_rfc3339()
    };
    hours
        .into_iter()
        .map(|(hour, events)| vec![json!(events), json!(end(hour))])
        .collect()
}

/// Tables of [`SQL`], each with events of its own.
pub const TABLES: [&str; 6] = ["wikipedia", "cars", "bid", "flink", "risingwave", "impulse"];

/// The cases, and where their events are.
pub struct Examples {
    cases: Vec<Case>,
    /// Table → the file with its events, of those that have one.
    pub files: BTreeMap<&'static str, PathBuf>,
}

/// Topic of a table whose test calls itself `prefix`.
pub fn topic(prefix: &str, table: &str) -> String {
    format!("{prefix}-{table}")
}

/// `views.sql` of all cases on a backend.
pub fn views(backend: &Backend, prefix: &str) -> String {
    TABLES.iter().fold(SQL.to_owned(), |sql, table| {
        sql.replace(&format!("@{table}@"), &backend.with(&topic(prefix, table), PARTITIONS))
    })
}

impl Examples {
    /// `None`, said loudly, where the data is not there.
    ///
    /// # Panics
    /// When examples.json has other cases than this test knows.
    pub fn load(test: &str) -> Option<Self> {
        let files = [
            ("wikipedia", data::WIKIPEDIA),
            ("cars", "cars.ndjson"),
            ("bid", "nexmark_bid.ndjson.gz"),
            ("impulse", "impulse.ndjson"),
        ];
        let files = files
            .into_iter()
            .map(|(table, name)| Some((table, data::file(test, name)?)))
            .collect::<Option<_>>()?;
        let cases = load(&data::file(test, data::EXAMPLES)?);
        let known: BTreeSet<&str> = STATED
            .iter()
            .map(|case| case.id)
            .chain(NOT_STATED.map(|(id, _)| id))
            .collect();
        let there: BTreeSet<&str> = cases.iter().map(Case::id).collect();
        assert_eq!(there, known, "examples.json has other cases than this test knows");
        for (id, reason) in NOT_STATED {
            println!("not stated as a view: {id}: {reason}");
        }
        Some(Self { cases, files })
    }

    /// Produces the events of a table with `anabranch ingest`; returns how far each partition gets by them.
    pub fn produce(&self, site: &Site, table: &str) -> TopicOffsets {
        let (file, input) = match self.files.get(table) {
            Some(file) => (file.to_str().expect("the file has a plain name"), Vec::new()),
            None => ("-", self.inline(table)),
        };
        let output = site.cli_with_input(&["ingest", table, file, "--config", site.config()], &input);
        acknowledged(&output.success()).1
    }

    /// The events of a table whose case has them inline, as NDJSON.
    fn inline(&self, table: &str) -> Vec<u8> {
        if table == "flink" {
            let columns = ["ts_ms", "int", "double", "float", "bigdec", "string", "name"];
            return inline(find(&self.cases, "flink-tumble-5s"), &columns, |_, value| value);
        }
        let at = |column: &str, value: Value| match value.as_str() {
            Some(clock) if column == "created_at" => json!(format!("2022-01-01T{clock}:00Z")),
            _ => value,
        };
        let columns = ["row_id", "uid", "v", "created_at"];
        inline(find(&self.cases, "risingwave-tumble-30m"), &columns, at)
    }

    /// Compares every stated case; the answers must cover `through` of its table.
    pub fn check(&self, moment: &str, http: &Http, through: &BTreeMap<&str, TopicOffsets>) {
        for stated in &STATED {
            let case = find(&self.cases, stated.id);
            let what = format!("{} ({}), {moment}", stated.id, case.question());
            let respell = |row: Vec<Value>| {
                stated
                    .columns
                    .iter()
                    .zip(row)
                    .map(|(c, v)| (stated.spelling)(c, v))
                    .collect()
            };
            let expected: Vec<Vec<Value>> = case.rows(stated.key, stated.columns).into_iter().map(respell).collect();
            let found = http.query_at_least(stated.sql, &through[stated.table]);
            let assert_same = if stated.ordered {
                assert_same_rows_in_order
            } else {
                assert_same_rows
            };
            assert_same(&what, &expected, &found.rows);
        }
        // Arroyo ran this one without allowing for lateness. Our answer is the plain count of all events; that the published
        // rows passed as well says that the disorder of this file never crosses an hour that Arroyo had closed.
        let found = http.query_at_least(
            "SELECT events, hour + INTERVAL '1 hour' FROM hourly_cars",
            &through["cars"],
        );
        assert_same_rows(
            &format!("all cars per hour, {moment}"),
            &cars_per_hour(&self.files["cars"]),
            &found.rows,
        );
    }
}

/// All cases in one platform: realtime, recomputed, and after kill -9.
pub fn every_case(examples: &Examples, backend: &Backend, prefix: &str) {
    let settings = backend.settings(prefix, None);
    let mut dev = Dev::start(
        &views(backend, prefix),
        &format!("{settings}\n[landing]\nmax_age = '200ms'"),
    );
    let through: BTreeMap<&str, TopicOffsets> = TABLES
        .into_iter()
        .map(|table| (table, examples.produce(dev.site(), table)))
        .collect();
    examples.check("realtime", dev.http(), &through);
    for (table, through) in &through {
        dev.wait_landed(table, through);
    }
    dev.kill9();
    dev.restart();
    examples.check("realtime, rebuilt after kill -9", dev.http(), &through);
    dev.run_batch();
    for (view, coverage) in &dev
        .query("SELECT count(*) FROM cities, flink_tumble, sliding, bids, hourly_cars")
        .coverage
    {
        assert!(coverage.exact, "`{view}`: {coverage:?}");
        assert_eq!(
            coverage.batch_cut, coverage.served_through,
            "`{view}` comes from the batch run alone"
        );
    }
    examples.check("after a batch run", dev.http(), &through);
    dev.kill9();
    dev.restart();
    examples.check("after a batch run and kill -9", dev.http(), &through);
}

#[test]
fn every_case_that_a_view_can_state() {
    let Some(examples) = Examples::load("every_case_that_a_view_can_state") else {
        return;
    };
    let _gate = gate::heavy();
    every_case(&examples, &Backend::LOCAL, "examples");
}

#[test]
fn a_session_window_is_refused_with_a_hint() {
    let table =
        "CREATE TABLE impulse (\"timestamp\" TIMESTAMP NOT NULL, counter BIGINT) WITH (event_time = 'timestamp');";
    let view = "CREATE MATERIALIZED VIEW s AS SELECT session(\"timestamp\", INTERVAL '20 seconds') AS w, count(*) AS n FROM impulse GROUP BY w;";
    let site = Site::new(&format!("{table}\n{view}\n"), "");
    let output = site.cli(&["check", "--config", site.config()]).refused();
    assert!(
        output.stderr.contains("session windows are not supported yet"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("views.sql:2:"), "no place: {}", output.stderr);
    assert!(
        output.stderr.contains("help: ") && output.stderr.contains("tumble("),
        "no hint: {}",
        output.stderr
    );
}
