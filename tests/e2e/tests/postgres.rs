//! SQL clients that other people made see the numbers that `/v1/sql` answers.

mod commands;
mod drivers;
mod exact;
mod golang;
mod page;
mod secure;
mod types;

use std::process::Output;

use anabranch_e2e::{Answer, Dev, clients, data, gate, ports, python};
use anabranch_model::TopicOffsets;
use serde_json::{Value, json};

use crate::edits::{ADDED, EVENTS, Edits, TABLE, views};

const HOURS: &str = "SELECT channel, hour, edits, average FROM hourly
    WHERE channel IN ('#en.wikipedia', '#de.wikipedia') AND edits >= 10 ORDER BY channel DESC, hour";

/// The view of the documentation's examples.
const PER_CHANNEL: &str = "CREATE MATERIALIZED VIEW edits_per_channel AS
    SELECT channel, count(*) AS edits FROM wikipedia GROUP BY channel;";
const NAMES: [&str; 5] = ["cities", "edits_per_channel", "hourly", "pages", "totals"];

/// Half of the edits in a batch view, all of them in the merged one, and SQL clients let in.
struct Served {
    dev: Dev,
    port: u16,
    flight_sql: u16,
    through: TopicOffsets,
}

impl Served {
    fn start(edits: &Edits) -> Self {
        let (port, flight_sql) = (ports::free(), ports::free());
        let settings = format!(
            "[landing]\nmax_age = '200ms'\n\
             [serving]\npostgres_listen = '127.0.0.1:{port}'\nflight_sql_listen = '127.0.0.1:{flight_sql}'"
        );
        let views = views("connector = 'log', partitions = 3") + PER_CHANNEL;
        let dev = Dev::start(&views, &settings);
        let first = dev.ingest(TABLE, edits.body(0..edits.half()));
        dev.land_and_run(TABLE, &first);
        let rest = dev.ingest(TABLE, edits.body(edits.half()..edits.lines.len()));
        let through = first.into_iter().chain(rest).collect();
        Self {
            dev,
            port,
            flight_sql,
            through,
        }
    }

    /// As `anabranch.at_least` takes it.
    fn at_least(&self) -> String {
        let offsets = self
            .through
            .iter()
            .map(|(partition, next)| format!("{partition}={next}"));
        offsets.collect::<Vec<_>>().join(",")
    }

    fn ask(&self, sql: &str) -> Answer {
        self.dev.query_at_least(sql, &self.through)
    }

    fn pages(&self) -> i64 {
        self.ask("SELECT count(*) FROM pages").integers()[0]
    }

    /// How many hours the two channels have.
    fn channels(&self) -> Vec<i64> {
        self.ask("SELECT count(*) FROM hourly WHERE channel IN ('#en.wikipedia', '#de.wikipedia')")
            .integers()
    }

    fn totals(&self) -> Vec<i64> {
        let totals = self.ask("SELECT edits, added, editors FROM totals").integers();
        assert_eq!(totals[..2], [EVENTS, ADDED]);
        totals
    }

    /// Channel, instant, edits and average of each hour.
    fn hours(&self) -> Vec<(String, String, i64, String)> {
        let rows = self.ask(HOURS).rows;
        assert!(rows.len() > 20, "both channels have hours");
        rows.iter().map(|row| hour(row)).collect()
    }
}

fn hour(row: &[Value]) -> (String, String, i64, String) {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let at = text(&row[1]).replace("+00:00", "Z");
    (
        text(&row[0]),
        at.replace(".000000Z", "Z"),
        row[2].as_i64().expect("a count"),
        figure(row[3].as_f64().expect("an average")),
    )
}

/// A float to 14 digits: the JSON parser of these tests may miss the last one.
fn figure(value: f64) -> String {
    format!("{value:.13e}")
}

fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn sql_clients_see_what_http_answers() {
    const TEST: &str = "sql_clients_see_what_http_answers";
    let Some(edits) = Edits::load(TEST) else { return };
    let _gate = gate::heavy();
    let served = Served::start(edits);
    match clients::psql() {
        Ok(psql) => {
            psql_sees_it(&served, &|args| clients::ask_psql(&psql, served.port, args));
            commands::all_are_answered(&served, &psql);
            page::psql_runs_what_stands_there(&served, &psql);
        }
        Err(reason) => gate::skip(TEST, &reason),
    }
    match python::sql_clients() {
        Ok(python) => {
            psycopg_sees_it(&served, &python);
            if let Ok(psql) = clients::psql() {
                commands::names_are_completed(&served, &python, &psql);
            }
            sqlalchemy_sees_it(&served, &python);
            drivers::see_it(&served, &python);
            adbc_sees_it(&served, &python);
            page::python_runs_what_stands_there(&served, &python);
        }
        Err(reason) => gate::skip(TEST, &format!("no Python with psycopg: {reason}")),
    }
    match golang::program() {
        Ok(program) => golang::sees_it(&served, &program),
        Err(reason) => gate::skip(TEST, &reason),
    }
    match clients::jdbc() {
        Ok(jar) => jdbc_sees_it(&served, &jar),
        Err(reason) => gate::skip(TEST, &reason),
    }
}

fn psql_sees_it(served: &Served, psql: &dyn Fn(&[&str]) -> Output) {
    let at_least = format!(
        "SET anabranch.require = 'exact'; SET anabranch.at_least = '{}'",
        served.at_least()
    );
    let ask = |sql: &str| printed(&psql(&["-q", "-At", "-F", "\t", "-c", &at_least, "-c", sql]));
    let totals: Vec<String> = served.totals().iter().map(i64::to_string).collect();
    assert_eq!(
        ask("SELECT edits, added, editors FROM totals").trim(),
        totals.join("\t")
    );
    let hours = ask(HOURS);
    let seen = hours.lines().map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let at = cells[1].replace(' ', "T").replace("+00", "Z");
        (
            cells[0].to_owned(),
            at,
            cells[2].parse().expect("a count"),
            figure(cells[3].parse().expect("an average")),
        )
    });
    assert_eq!(seen.collect::<Vec<(String, String, i64, String)>>(), served.hours());
    let covered = ask(
        "SELECT view, sum(served_through), bool_and(exact), count(*) FROM anabranch.coverage GROUP BY view ORDER BY view",
    );
    let per_view = NAMES.map(|view| format!("{view}\t{EVENTS}\tt\t3"));
    assert_eq!(covered.trim(), per_view.join("\n"));
    // What people type, and what completion asks.
    let shown = |command: &str| printed(&psql(&["-c", command]));
    let views = shown("\\dv");
    assert!(NAMES.iter().all(|view| views.contains(view)), "{views}");
    let tables = shown("\\dt");
    assert!(tables.contains("coverage") && !tables.contains("hourly"), "{tables}");
    let columns = shown("\\d hourly");
    for column in [
        "channel",
        "timestamp with time zone",
        "edits",
        "bigint",
        "average",
        "double precision",
        "by_robots",
    ] {
        assert!(columns.contains(column), "{column} is not in {columns}");
    }
    assert!(shown("\\d").contains("totals"));
    assert!(shown("\\l").contains("anabranch"));
    assert!(shown("\\dn").contains("public"));
    assert!(
        shown("\\d+ hourly").contains("GROUP BY channel, hour"),
        "the definition of a view is shown"
    );
    assert!(shown("\\dv+ hourly").contains("view"));
    let failed = |sql: &str| {
        let output = psql(&["-v", "VERBOSITY=verbose", "-c", sql]);
        assert!(!output.status.success(), "{sql}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let unknown = failed("SELECT editz FROM totals");
    assert!(unknown.contains("42703") && unknown.contains("edits"), "{unknown}");
    assert!(unknown.contains("LINE 1:"), "the place is shown: {unknown}");
    assert!(failed("DROP TABLE totals").contains("25006"));
    assert!(failed("SELECT * FROM totalz").contains("42P01"));
    assert!(failed("SELECT edits FROM totals WHERE").contains("42601"));
    let misspelled = failed("SELEC 1");
    assert!(
        misspelled.contains("42601") && misspelled.contains("LINE 1: SELEC 1"),
        "{misspelled}"
    );
    assert!(
        failed("SELECT * FROM hourlyy").contains("did you mean"),
        "the nearest name is told"
    );
}

fn psycopg_sees_it(served: &Served, python: &std::path::Path) {
    let script = include_str!("clients/psycopg_client.py");
    let found = python::script(python, script, &[&served.port.to_string(), &served.at_least()]);
    let found: Value =
        serde_json::from_str(&found.unwrap_or_else(|error| panic!("{error}"))).expect("the script prints JSON");
    assert_eq!(found["totals"], json!(served.totals()));
    for format in ["hours_text", "hours_binary"] {
        let hours = found[format].as_array().expect("rows");
        let hours = hours.iter().map(|row| hour(row.as_array().expect("a row")));
        assert_eq!(hours.collect::<Vec<_>>(), served.hours(), "{format}");
    }
    for format in ["types_text", "types_binary"] {
        assert_eq!(
            found[format],
            json!([
                "12345678901234567891.1250000000",
                "True",
                "[1, None]",
                "2026-11-21",
                "1 day, 0:00:00"
            ]),
            "{format}"
        );
    }
    assert_eq!(found["in_transaction"], json!(served.pages()));
    for format in ["arrays_text", "arrays_binary"] {
        let found = &found[format];
        assert_eq!(found["channels"], json!(served.channels()), "{format}");
        assert_eq!(found["none"], json!(0), "{format}");
        assert_eq!(
            found["types"],
            json!([
                [1007, "[1, 2, None]"],
                [1016, "[3]"],
                [1009, "['a,b', 'c\"d', '', None]"],
                [1022, "[0.5]"],
                [1185, "['2026-11-21 00:00:00+00:00']"],
                [1000, "[True, None]"],
                [1231, "['1.50']"],
                [1182, "['2026-11-21']"],
                [1009, "[]"]
            ]),
            "{format}"
        );
    }
    assert_eq!(
        found["errors"],
        json!([
            ["42703", "8"],
            ["42P01", "15"],
            ["42601", null],
            ["42601", "1"],
            ["25006", null]
        ])
    );
    assert_eq!(found["cancelled"], "57014");
    assert_eq!(found["coverage"], json!([EVENTS, true]));
    let tables = &found["tables"];
    assert_eq!(
        (&tables["views"], &tables["partitions"], &tables["workers"]),
        (&json!(5), &json!(3), &json!(3))
    );
    assert_eq!(
        (&tables["runs"], &tables["coverage"], &tables["dead_letters"]),
        (&json!(1), &json!(15), &json!(0))
    );
}

/// SQLAlchemy as people use it: it looks at what there is, and builds its queries of that.
fn sqlalchemy_sees_it(served: &Served, python: &std::path::Path) {
    let script = include_str!("clients/sqlalchemy_client.py");
    let found = python::script(python, script, &[&served.port.to_string(), &served.at_least()]);
    let found: Value =
        serde_json::from_str(&found.unwrap_or_else(|error| panic!("{error}"))).expect("the script prints JSON");
    assert_eq!(found["views"], json!(NAMES));
    assert_eq!(found["schemas"], json!(["anabranch", "information_schema", "public"]));
    assert_eq!(
        found["system_tables"],
        json!(["coverage", "dead_letters", "partitions", "runs", "views", "workers"])
    );
    let columns = found["columns"].as_array().expect("columns");
    assert_eq!(
        columns[..4],
        [
            json!(["channel", "TEXT", true]),
            json!(["hour", "TIMESTAMP", true]),
            json!(["edits", "BIGINT", true]),
            json!(["added", "BIGINT", true])
        ]
    );
    assert_eq!(
        found["keys"],
        json!([[], [], [], []]),
        "views have no keys, indexes or constraints"
    );
    assert_eq!(found["has"], json!([true, false]));
    let definition = found["definition"].as_str().expect("a text");
    assert!(definition.contains("GROUP BY channel, hour"), "{definition}");
    let hours = found["hours"].as_array().expect("rows");
    let hours = hours.iter().map(|row| hour(row.as_array().expect("a row")));
    assert_eq!(hours.collect::<Vec<_>>(), served.hours());
    assert_eq!(found["aggregated"], json!(EVENTS));
    assert_eq!(found["unknown"], "42P01");
}

fn adbc_sees_it(served: &Served, python: &std::path::Path) {
    let script = include_str!("clients/adbc_client.py");
    let at_least = serde_json::to_string(&served.through).expect("offsets are JSON");
    let found = python::script(python, script, &[&served.flight_sql.to_string(), &at_least]);
    let found: Value =
        serde_json::from_str(&found.unwrap_or_else(|error| panic!("{error}"))).expect("the script prints JSON");
    assert_eq!(found["totals"], json!(served.totals()));
    let hours = found["hours"].as_array().expect("rows");
    let hours = hours.iter().map(|row| hour(row.as_array().expect("a row")));
    assert_eq!(hours.collect::<Vec<_>>(), served.hours());
    assert_eq!(found["channels"], json!(served.channels()));
    assert_eq!(found["large"], json!(served.pages() * 20));
    assert_eq!(found["covered"], json!(EVENTS));
    assert_eq!(
        found["errors"],
        json!(["INVALID_ARGUMENT", "NOT_FOUND", "INVALID_ARGUMENT"])
    );
    let tables = found["tables"].as_array().expect("a list");
    assert!(tables.contains(&json!(["public", "hourly", "VIEW"])), "{tables:?}");
    assert!(
        tables.contains(&json!(["anabranch", "coverage", "TABLE"])),
        "{tables:?}"
    );
    assert_eq!(found["columns"][0], json!(["edits", "int64"]));
    assert_eq!(found["server"], "Anabranch");
}

fn jdbc_sees_it(served: &Served, jar: &std::path::Path) {
    let source = data::workspace().join("tests/e2e/tests/clients/Jdbc.java");
    let url = format!("jdbc:postgresql://127.0.0.1:{}/anabranch", served.port);
    let printed = clients::java(jar, &source, &[&url, &served.at_least()]).unwrap_or_else(|error| panic!("{error}"));
    let lines: Vec<Vec<&str>> = printed.lines().map(|line| line.split('\t').collect()).collect();
    let of = |name: &str| {
        lines
            .iter()
            .filter(|line| line[0] == name)
            .map(|line| &line[1..])
            .collect::<Vec<_>>()
    };
    let totals: Vec<String> = served.totals().iter().map(i64::to_string).collect();
    assert_eq!(of("totals"), [totals], "{printed}");
    let hours = of("hour").into_iter().map(|cells| {
        let (edits, average) = (cells[2].parse(), cells[3].parse());
        (
            cells[0].to_owned(),
            cells[1].to_owned(),
            edits.expect("a count"),
            figure(average.expect("an average")),
        )
    });
    assert_eq!(hours.collect::<Vec<(String, String, i64, String)>>(), served.hours());
    assert_eq!(of("view"), NAMES.map(|name| [name]));
    let columns = of("column");
    // java.sql.Types: VARCHAR 12, TIMESTAMP 93, BIGINT -5.
    assert_eq!(
        columns[..3],
        [
            ["channel", "text", "12"],
            ["hour", "timestamptz", "93"],
            ["edits", "int8", "-5"]
        ]
    );
    assert!(of("schema").contains(&&["public"][..]), "{printed}");
    assert_eq!(of("keys"), [["0"]]);
    assert_eq!(of("system"), [["coverage"]]);
    assert_eq!(of("catalog")[0], ["anabranch"]);
    assert!(of("type").contains(&&["timestamptz", "93"][..]), "{printed}");
    assert_eq!(of("array"), [["int8", "[1, 2, null]"], ["text", "[a,b, null]"]]);
    let channels: Vec<String> = served.channels().iter().map(i64::to_string).collect();
    assert_eq!(of("any"), [[channels[0].as_str()], ["0"]]);
    assert_eq!(of("pages"), [[served.pages().to_string(), EVENTS.to_string()]]);
    assert_eq!(of("refused"), [["25006"]]);
    assert_eq!(of("cancelled"), [["57014"]]);
}
