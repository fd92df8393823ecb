//! The HTTP API and the commands that talk to it: formats, filters, errors, demands.

use std::collections::BTreeSet;
use std::time::Duration;

use anabranch_e2e::{Answer, Dev, Http, Site, data, gate, until};
use anabranch_model::TopicOffsets;
use arrow::ipc::reader::StreamReader;
use serde_json::{Value, json};

const SQL: &str = "
CREATE TABLE wikipedia (
  time TIMESTAMP NOT NULL, channel TEXT, page TEXT, \"user\" TEXT, added BIGINT, price DECIMAL(12, 2), day DATE
) WITH (connector = 'log', event_time = 'time', partitions = 1);
CREATE MATERIALIZED VIEW edits_per_channel AS
SELECT channel, tumble(time, INTERVAL '1 hour') AS hour, count(*) AS edits, sum(added) AS added, sum(price) AS price,
       max(day) AS day, avg(added) AS average
FROM wikipedia GROUP BY channel, hour;
CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS edits FROM wikipedia GROUP BY page;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS edits FROM wikipedia;
";
const SOON: &str = "[landing]\nmax_age = '200ms'";

/// Channel, hour and added of each event; small enough to know every answer by heart.
const EVENTS: [(&str, u32, i64); 10] = [
    ("#en.wikipedia", 0, 10),
    ("#en.wikipedia", 0, 20),
    ("#en.wikipedia", 0, 30),
    ("#en.wikipedia", 1, 40),
    ("#en.wikipedia", 1, 50),
    ("#de.wikipedia", 0, 1),
    ("#de.wikipedia", 1, 2),
    ("#de.wikipedia", 1, 3),
    ("#fr, \"oui\"", 2, 7),
    ("", 3, -5),
];

fn start() -> (Dev, TopicOffsets) {
    let dev = Dev::start(SQL, SOON);
    let lines = EVENTS.iter().enumerate().map(|(n, (channel, hour, added))| {
        json!({
            "time": format!("2024-05-01T0{hour}:30:00.250Z"), "channel": channel, "page": format!("p{}", n % 4), "user": "u",
            "added": added, "price": format!("{added}.50"), "day": "2024-05-01",
        })
        .to_string()
    });
    let through = dev.ingest("wikipedia", data::ndjson(lines));
    // Answers are waited for here, so that the tests need not.
    dev.query_at_least("SELECT edits FROM totals", &through);
    (dev, through)
}

fn rows(http: &Http, path: &str) -> Answer {
    Answer::parse(&http.get(path).expect(200).json())
}

#[test]
fn answers_in_every_format() {
    let _gate = gate::heavy();
    let (dev, _) = start();
    let body = json!({"sql": "SELECT channel, hour, edits, price, day, average FROM edits_per_channel ORDER BY hour, channel"});

    let reply = dev.http().sql_as(&body, "application/json").expect(200);
    assert!(
        reply.content_type.starts_with("application/json"),
        "{}",
        reply.content_type
    );
    let answer = Answer::parse(&reply.json());
    assert_eq!(answer.columns, ["channel", "hour", "edits", "price", "day", "average"]);
    let en = answer
        .rows
        .iter()
        .find(|row| row[0] == "#en.wikipedia")
        .expect("the channel is there");
    assert_eq!(en[1], "2024-05-01T00:00:00Z", "timestamps in RFC 3339 UTC");
    assert_eq!(en[2], json!(3), "integers as numbers");
    assert_eq!(en[3], "61.50", "decimals as strings");
    assert_eq!(en[4], "2024-05-01", "dates as YYYY-MM-DD");
    assert_eq!(en[5].as_f64(), Some(20.0), "doubles as numbers");
    let coverage = answer.covered();
    assert!(coverage.exact && coverage.missing.is_empty());
    assert_eq!(
        coverage.served_through,
        TopicOffsets::from([("wikipedia/0".into(), EVENTS.len() as i64)])
    );

    let csv = dev.http().sql_as(&body, "text/csv").expect(200);
    assert!(csv.content_type.starts_with("text/csv"), "{}", csv.content_type);
    let text = csv.text();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    assert_eq!(lines[0], "channel,hour,edits,price,day,average");
    assert_eq!(lines.len(), answer.rows.len() + 1);
    assert!(
        lines.iter().any(|line| line.starts_with("\"#fr, \"\"oui\"\"\",")),
        "quotes are doubled: {text}"
    );

    let ndjson = dev.http().sql_as(&body, "application/x-ndjson").expect(200);
    assert!(
        ndjson.content_type.starts_with("application/x-ndjson"),
        "{}",
        ndjson.content_type
    );
    let objects: Vec<Value> = ndjson
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    let as_rows: Vec<Vec<Value>> = objects
        .iter()
        .map(|object| answer.columns.iter().map(|c| object[c].clone()).collect())
        .collect();
    assert_eq!(as_rows, answer.rows, "the same rows, with names");

    let arrow = dev
        .http()
        .sql_as(&body, "application/vnd.apache.arrow.stream")
        .expect(200);
    assert!(
        arrow.content_type.starts_with("application/vnd.apache.arrow.stream"),
        "{}",
        arrow.content_type
    );
    let reader = StreamReader::try_new(arrow.body.as_slice(), None).expect("it is an Arrow stream");
    let names: Vec<String> = reader
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    assert_eq!(names, answer.columns);
    let count: usize = reader.map(|batch| batch.expect("a batch can be read").num_rows()).sum();
    assert_eq!(count, answer.rows.len());

    dev.http().sql_as(&body, "image/png").error(400);
}

#[test]
fn rows_of_a_view_are_filtered_ordered_and_limited() {
    let _gate = gate::heavy();
    let (dev, through) = start();
    for moment in ["realtime", "after a batch run"] {
        let http = dev.http();
        let all = rows(http, "/v1/views/edits_per_channel/rows");
        assert_eq!(all.rows.len(), 6, "{moment}");
        assert_eq!(all.coverage.keys().collect::<Vec<_>>(), ["edits_per_channel"]);

        let path = "/v1/views/edits_per_channel/rows?channel=%23en.wikipedia&edits.gte=3&order=-edits&limit=10&columns=channel,hour,edits,added";
        let answer = rows(http, path);
        let expected = [vec![
            json!("#en.wikipedia"),
            json!("2024-05-01T00:00:00Z"),
            json!(3),
            json!(60),
        ]];
        assert_eq!(answer.rows, expected, "{moment}");

        let ordered = rows(
            http,
            "/v1/views/edits_per_channel/rows?channel=%23en.wikipedia&order=-edits,hour&columns=edits",
        );
        assert_eq!(ordered.rows, [vec![json!(3)], vec![json!(2)]], "{moment}");
        let limited = rows(
            http,
            "/v1/views/edits_per_channel/rows?order=-added&limit=2&columns=added",
        );
        assert_eq!(limited.rows, [vec![json!(90)], vec![json!(60)]], "{moment}");
        let between = rows(
            http,
            "/v1/views/edits_per_channel/rows?hour.gte=2024-05-01T01:00:00Z&hour.lt=2024-05-01T03:00:00Z&columns=edits,channel&order=channel",
        );
        let expected = [
            vec![json!(2), json!("#de.wikipedia")],
            vec![json!(2), json!("#en.wikipedia")],
            vec![json!(1), json!("#fr, \"oui\"")],
        ];
        assert_eq!(between.rows, expected, "{moment}");
        let none = rows(http, "/v1/views/edits_per_channel/rows?channel=nobody");
        assert!(none.rows.is_empty() && none.covered().exact, "{moment}");

        if moment == "realtime" {
            dev.land_and_run("wikipedia", &through);
        }
    }
    let csv = dev.http().get("/v1/views/pages/rows").expect(200);
    assert_eq!(Answer::parse(&csv.json()).rows.len(), 4);
}

#[test]
fn errors_say_what_to_do() {
    let _gate = gate::heavy();
    let (dev, _) = start();
    let http = dev.http();
    let sql = |sql: &str| http.post("/v1/sql", &json!({"sql": sql}));

    let (code, message, hint) = sql("SELECT * FROM edits_per_chanel").error(404);
    assert_eq!(code, "not_found");
    assert!(
        message.contains("edits_per_chanel") && hint.contains("edits_per_channel"),
        "{message} ({hint})"
    );
    let (code, message, hint) = sql("SELECT chanel FROM edits_per_channel").error(400);
    assert_eq!(code, "invalid");
    assert!(
        message.contains("chanel") && hint.contains("`channel`"),
        "{message} ({hint})"
    );
    let (_, _, hint) = http.get("/v1/views/page/rows").error(404);
    assert!(hint.contains("pages"), "{hint}");
    let (_, _, hint) = http.get("/v1/views/page").error(404);
    assert!(hint.contains("pages"), "{hint}");
    let (_, message, hint) = http.get("/v1/views/pages/rows?edit.gte=1").error(400);
    assert!(message.contains("edit") && hint.contains("edits"), "{message} ({hint})");
    http.get("/v1/views/pages/rows?edits.above=1").error(400);
    http.get("/v1/views/pages/rows?edits=many").error(400);
    http.get("/v1/views/pages/rows?limit=few").error(400);

    for statement in [
        "DROP TABLE pages",
        "CREATE TABLE x AS SELECT 1",
        "SELECT 1; SELECT 2",
        "SELEC",
        "",
        "INSERT INTO pages VALUES ('x', 1)",
    ] {
        sql(statement).error(400);
    }
    sql("SELECT * FROM wikipedia").error(404);
    http.post("/v1/sql", &json!({"sq": "SELECT 1"})).error(400);
    http.post(
        "/v1/sql",
        &json!({"sql": "SELECT edits FROM totals", "require": "almost"}),
    )
    .error(400);
    http.post(
        "/v1/sql",
        &json!({"sql": "SELECT edits FROM totals", "at_least": {"wikipedia/0": "all"}}),
    )
    .error(400);
    http.post_bytes("/v1/sql", b"no json".to_vec()).error(400);
    http.post_bytes("/v1/ingest/wikipedi", b"{}\n".to_vec()).error(404);
    http.get("/v1/batch/runs/20260101T000000Z-abcdef").error(404);
    http.get("/v1/nothing").error(404);
    http.get("/v1/sql").error(405);
    http.delete("/v1/views").error(405);
    http.post("/v1/views/pages/rows", &json!({})).error(405);
}

#[test]
fn an_answer_can_be_waited_for() {
    let _gate = gate::heavy();
    let (dev, through) = start();
    let ask = |timeout: &str, at_least: &TopicOffsets| {
        let body = json!({"sql": "SELECT edits FROM totals", "at_least": at_least, "timeout": timeout});
        dev.http().post("/v1/sql", &body)
    };
    ask("60s", &through).expect(200);
    let beyond = TopicOffsets::from([("wikipedia/0".to_owned(), EVENTS.len() as i64 + 1)]);
    let (_, message, hint) = ask("100ms", &beyond).error(504);
    assert!(
        message.contains("wikipedia/0") && !hint.is_empty(),
        "{message} ({hint})"
    );

    // Asked first, produced afterwards.
    let http = dev.http().clone();
    let waiting = std::thread::spawn(move || http.query_at_least("SELECT edits FROM totals", &beyond).integers());
    let line = json!({"time": "2024-05-01T00:00:00Z", "channel": "late"}).to_string();
    dev.ingest("wikipedia", data::ndjson([line]));
    assert_eq!(waiting.join().expect("the answer comes"), [EVENTS.len() as i64 + 1]);

    let at_least = "%7B%22wikipedia/0%22:11%7D";
    let answer = rows(
        dev.http(),
        &format!("/v1/views/totals/rows?require=exact&at_least={at_least}"),
    );
    assert_eq!(answer.integers(), [11]);
}

/// Three processes; without the speed layer an exact answer is refused rather than wrong, and an inexact one says so.
#[test]
fn exactness_is_refused_when_the_speed_layer_is_gone() {
    let _gate = gate::heavy();
    let site = Site::new(SQL, SOON);
    let mut speed = site.start("speed");
    let (_batch, _serve) = (site.start("batch"), site.start("serve"));
    let http = site.http();
    until("serving knows the speed layer", Duration::from_secs(120), || {
        (http.status()["sources"]["wikipedia"]["partitions"].as_object()?.len() == 1).then_some(())
    });
    let line = |n: i64| json!({"time": "2024-05-01T00:00:00Z", "channel": "c", "added": n}).to_string();
    let (_, through) = http.ingest("wikipedia", data::ndjson((0..100).map(line)));
    assert_eq!(
        http.query_at_least("SELECT edits FROM totals", &through).integers(),
        [100]
    );
    anabranch_e2e::dev::wait_landed(&http, "wikipedia", &through);
    anabranch_e2e::dev::run_batch(&http);

    speed.kill9();
    let demand = |require: &str| json!({"sql": "SELECT edits FROM totals", "require": require, "timeout": "200ms"});
    let (code, message, hint) = http.post("/v1/sql", &demand("exact")).error(503);
    assert_eq!(code, "unavailable");
    assert!(
        message.contains("wikipedia/0") && !hint.is_empty(),
        "{message} ({hint})"
    );
    http.get("/v1/views/totals/rows?require=exact&timeout=200ms").error(503);
    let inexact = http.query("SELECT edits FROM totals");
    assert!(
        !inexact.covered().exact,
        "an answer without the speed layer says so: {:?}",
        inexact.coverage
    );
    assert_eq!(inexact.covered().missing, ["wikipedia/0"]);
    assert_eq!(inexact.integers(), [100], "the batch view still answers");

    let _speed = site.start("speed");
    assert_eq!(
        http.query_at_least("SELECT edits FROM totals", &through).integers(),
        [100]
    );
}

#[test]
fn views_status_and_metrics_are_listed() {
    let _gate = gate::heavy();
    let (dev, through) = start();
    dev.land_and_run("wikipedia", &through);
    let http = dev.http();
    let views = http.get("/v1/views").expect(200).json();
    let names: BTreeSet<&str> = views["views"]
        .as_array()
        .expect("views are listed")
        .iter()
        .filter_map(|view| view["name"].as_str())
        .collect();
    assert_eq!(names, BTreeSet::from(["edits_per_channel", "pages", "totals"]));
    let view = http.get("/v1/views/pages").expect(200).json();
    assert_eq!(view["name"], "pages");
    assert_eq!(view["coverage"]["exact"], true, "{view}");

    let status = dev.status();
    let source = &status["sources"]["wikipedia"];
    let partition = &source["partitions"]["wikipedia/0"];
    assert_eq!(partition["next_landed"], EVENTS.len(), "{source}");
    assert_eq!(partition["lag"], 0, "{source}");
    for key in ["open_segments", "sealed_segments", "dead_letters"] {
        assert!(source[key].is_u64(), "status has no {key}: {source}");
    }
    assert_eq!(source["columns_never_seen"], json!([]), "{source}");
    assert!(status["publication"]["number"].is_u64(), "{status}");

    assert_eq!(http.get("/healthz").expect(200).json()["status"], "ok");
    let metrics = http.get("/metrics").expect(200).text();
    let names: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .filter(|name| !name.is_empty())
        .collect();
    assert!(
        names.len() > 5 && names.iter().all(|name| name.starts_with("anabranch_")),
        "{names:?}"
    );
}

#[test]
fn queries_and_runs_on_the_command_line() {
    let _gate = gate::heavy();
    let (dev, through) = start();
    dev.wait_landed("wikipedia", &through);
    let site = dev.site();
    let query = |args: &[&str]| {
        let sql = "SELECT channel, edits FROM edits_per_channel WHERE edits > 2";
        site.cli(&[&["query", sql, "--config", site.config()], args].concat())
            .success()
            .stdout
    };
    let table = query(&[]);
    for part in ["channel", "edits", "#en.wikipedia", "3", "1 row in", "exact"] {
        assert!(table.contains(part), "no `{part}` in\n{table}");
    }
    assert_eq!(
        query(&["--format", "csv"]).replace('\r', ""),
        "channel,edits\n#en.wikipedia,3\n"
    );
    assert_eq!(
        query(&["--format", "ndjson"]),
        "{\"channel\":\"#en.wikipedia\",\"edits\":3}\n"
    );
    let json: Value = serde_json::from_str(&query(&["--format", "json", "--exact"])).expect("it is JSON");
    assert_eq!(json["rows"], json!([["#en.wikipedia", 3]]));
    let refused = site
        .cli(&["query", "SELECT edit FROM totals", "--url", dev.http().base()])
        .refused();
    assert!(refused.stderr.contains("did you mean `edits`?"), "{}", refused.stderr);

    let run = |args: &[&str]| {
        site.cli(&[&["runs"], args, &["--config", site.config()]].concat())
            .success()
            .stdout
    };
    let shown = run(&["start"]);
    assert!(shown.contains("published"), "{shown}");
    let id = run(&["start", "--detach"]).trim().to_owned();
    until("the run publishes", Duration::from_secs(180), || {
        run(&["show", &id]).contains("published").then_some(())
    });
    let list = run(&["list"]);
    assert!(list.contains(&id) && list.matches("published").count() >= 2, "{list}");
    let unknown = site
        .cli(&["runs", "show", "20260101T000000Z-abcdef", "--config", site.config()])
        .refused();
    assert!(unknown.stderr.contains("20260101T000000Z-abcdef"), "{}", unknown.stderr);
    let views = site.cli(&["views", "--config", site.config()]).success().stdout;
    assert!(
        views.contains("edits_per_channel") && views.contains("totals"),
        "{views}"
    );
}

#[test]
fn a_command_without_a_platform_says_what_to_start() {
    let site = Site::new(SQL, "");
    let output = site.cli(&["query", "SELECT 1", "--config", site.config()]).refused();
    assert!(output.stderr.contains("anabranch dev"), "{}", output.stderr);
}

const BROKEN_TABLES: &str = "CREATE TABLE t (
  ts TIMESTAMP NOT NULL, added BIGNIT, name TEXT
) WITH (connector = 'log', event_time = 'ts');

CREATE TABLE u (ts TIMESTAMP NOT NULL, n BIGINT) WITH (event_time = 'tz');

CREATE TABLE v (ts TIMESTAMP NOT NULL, n BIGINT, N BIGINT) WITH (event_time = 'ts', retain = '1');

CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM nowhere;
";

const BROKEN_VIEWS: &str = "CREATE TABLE u (ts TIMESTAMP NOT NULL, n BIGINT, name TEXT) WITH (event_time = 'ts');

CREATE MATERIALIZED VIEW medians AS SELECT median(n) AS m FROM u;
CREATE MATERIALIZED VIEW nows AS SELECT count(*) AS c FROM u WHERE ts < now();
CREATE MATERIALIZED VIEW names AS
SELECT nam, count(*) AS c FROM u GROUP BY nam;
CREATE MATERIALIZED VIEW months AS
SELECT tumble(ts, INTERVAL '1 month') AS month, count(*) AS c FROM u GROUP BY month;
CREATE MATERIALIZED VIEW lists AS SELECT name, array_agg(n) AS ns FROM u GROUP BY name;
";

#[test]
fn check_points_at_every_problem() {
    for (sql, golden) in [
        (BROKEN_TABLES, include_str!("golden/check_tables.txt")),
        (BROKEN_VIEWS, include_str!("golden/check_views.txt")),
    ] {
        let site = Site::new(sql, "");
        let output = site.cli(&["check", "--config", site.config()]).refused();
        let file = site.file("views.sql").display().to_string();
        assert_eq!(output.stderr.replace(&file, "{file}"), golden);
        let json = site.cli(&["check", "--json", "--config", site.config()]).refused();
        let errors: Value = serde_json::from_str(&json.stdout).expect("it is JSON");
        let errors = errors["errors"].as_array().expect("errors are listed");
        assert_eq!(errors.len(), golden.matches("error: ").count());
        assert!(
            errors
                .iter()
                .all(|error| error["place"]["line"].as_u64() > Some(0) && error["message"].is_string()),
            "{errors:?}"
        );
    }
}

#[test]
fn check_shows_the_plan() {
    let site = Site::new(SQL, "");
    let output = site.cli(&["check", "--config", site.config()]).success();
    assert!(
        output.stdout.contains("1 tables and 3 views are in order"),
        "{}",
        output.stdout
    );
    let output = site.cli(&["check", "--json", "--config", site.config()]).success();
    let plan: Value = serde_json::from_str(&output.stdout).expect("it is JSON");
    let views = plan["views"].as_array().expect("views are listed");
    assert_eq!(views.len(), 3);
    for view in views {
        for part in ["prepare", "keys", "state", "finalise"] {
            let known = view
                .as_object()
                .expect("a plan is an object")
                .keys()
                .any(|key| key.contains(part));
            assert!(known, "the plan has no {part}: {view}");
        }
    }
    assert_eq!(plan["sources"].as_array().map(Vec::len), Some(1));
}

#[test]
fn settings_that_are_wrong_are_refused_with_the_nearest_key() {
    let site = Site::new(SQL, "[landing]\nmax_agee = '1s'");
    let output = site.cli(&["check", "--config", site.config()]).refused();
    assert!(
        output.stderr.contains("max_agee") && output.stderr.contains("did you mean `max_age`?"),
        "{}",
        output.stderr
    );
}
