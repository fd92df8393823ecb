//! Definitions that change while everything runs: a client asks all the time, and each of its answers is held against what
//! it says it covers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anabranch_e2e::dev::{run_batch, wait_landed};
use anabranch_e2e::{Answer, Http, Output, Process, Site, data, gate, until};
use anabranch_model::TopicOffsets;
use serde_json::{Value, json};

const SETTINGS: &str = "[landing]\nmax_age = '200ms'\n[speed]\npublication_poll = '100ms'";
const WITHIN: Duration = Duration::from_secs(180);
/// Longest that one request may take.
const PATIENCE: Duration = Duration::from_secs(60);
const COLORS: [&str; 3] = ["red", "green", "blue"];

/// Without the columns that events have all the same.
const NARROW: &str = "
CREATE TABLE ticks (at TIMESTAMP NOT NULL, n BIGINT) WITH (connector = 'log', event_time = 'at', partitions = 1);
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS ticks, sum(n) AS n FROM ticks;
CREATE MATERIALIZED VIEW top AS SELECT max(n) AS n FROM ticks;
";

/// With two columns more, `totals` changed, `colors` added and `top` dropped.
const WIDE: &str = "
CREATE TABLE ticks (at TIMESTAMP NOT NULL, n BIGINT, size BIGINT, color TEXT)
WITH (connector = 'log', event_time = 'at', partitions = 1);
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS ticks, sum(n) AS n, sum(size) AS size FROM ticks;
CREATE MATERIALIZED VIEW colors AS SELECT color, count(*) AS ticks, sum(n) AS n FROM ticks GROUP BY color;
";

/// The event at offset `n`.
fn tick(n: i64) -> String {
    json!({"at": "2024-01-01T00:00:00Z", "n": n, "size": n % 10, "color": COLORS[n as usize % 3]}).to_string()
}

/// What must be answered over the events before `end`, by the version of `totals` that has these columns.
fn totals(columns: &[String], end: i64) -> Vec<Value> {
    let value = |column: &String| match column.as_str() {
        "ticks" => json!(end),
        "n" => json!((0..end).sum::<i64>()),
        "size" => json!((0..end).map(|n| n % 10).sum::<i64>()),
        other => panic!("no version of `totals` has column {other}"),
    };
    columns.iter().map(value).collect()
}

fn colors(end: i64) -> Vec<Vec<Value>> {
    let of = |color: &usize| {
        let events = (0..end).filter(|n| *n as usize % 3 == *color);
        vec![
            json!(COLORS[*color]),
            json!(events.clone().count()),
            json!(events.sum::<i64>()),
        ]
    };
    let mut rows: Vec<Vec<Value>> = (0..3)
        .filter(|color| (*color as i64) < end)
        .map(|color| of(&color))
        .collect();
    rows.sort_by_key(|row| row[0].to_string());
    rows
}

/// The services of one folder: all in one process, or one process each.
struct Stack {
    /// Before the folder, so that they end before it goes.
    processes: Vec<Process>,
    services: &'static [&'static str],
    site: Site,
}

impl Stack {
    fn start(services: &'static [&'static str], views: &str) -> Self {
        let mut stack = Self {
            site: Site::new(views, SETTINGS),
            services,
            processes: Vec::new(),
        };
        stack.run();
        stack
    }

    fn run(&mut self) {
        self.processes = self.services.iter().map(|service| self.site.start(service)).collect();
    }

    fn kill9(&mut self) {
        self.processes.iter_mut().for_each(Process::kill9);
        self.processes.clear();
    }

    fn terminate(&mut self) {
        for mut process in self.processes.drain(..).rev() {
            assert!(process.terminate().success(), "it stops in order");
        }
    }

    fn http(&self) -> Http {
        self.site.http()
    }

    fn apply(&self, views: &str, options: &[&str]) -> Output {
        self.site.write_views(views);
        let args = [&["views", "apply", "--config", self.site.config()], options].concat();
        self.site.cli(&args)
    }

    /// Answers `sql` over at least `ticks` events, exactly.
    fn over(&self, sql: &str, ticks: i64) -> Answer {
        let through = TopicOffsets::from([("ticks/0".to_owned(), ticks)]);
        self.http().query_at_least(sql, &through)
    }
}

/// Sends events without end.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicI64>,
    thread: JoinHandle<()>,
}

impl Load {
    fn start(http: &Http) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let (http, stopped, counted) = (http.within(PATIENCE), Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let from = counted.load(Ordering::Relaxed);
                let (accepted, _) = http.ingest("ticks", data::ndjson((from..from + 20).map(tick)));
                counted.store(from + accepted as i64, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { stop, sent, thread }
    }

    fn sent(&self) -> i64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn wait_for(&self, events: i64) {
        until(&format!("{events} events are sent"), WITHIN, || {
            (self.sent() >= events).then_some(())
        });
    }

    fn finish(self) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("sending does not fail");
        self.sent.load(Ordering::Relaxed)
    }
}

/// Asks one question without end, and checks each answer at once.
struct Asker {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicI64>,
    refused: Arc<AtomicI64>,
    thread: JoinHandle<Heard>,
}

#[derive(Default)]
struct Heard {
    inexact: Vec<String>,
    /// Answers of which the columns were others than those of the answer before.
    changes: Vec<Vec<String>>,
    refusals: Vec<String>,
}

impl Asker {
    fn start(http: &Http, sql: &'static str, check: fn(&Answer, i64)) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (http, stopped) = (http.within(PATIENCE), Arc::clone(&stop));
        let (answered, refused) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
        let (answers, refusals) = (Arc::clone(&answered), Arc::clone(&refused));
        let thread = std::thread::spawn(move || {
            let mut heard = Heard::default();
            while !stopped.load(Ordering::Relaxed) {
                let reply = http.try_post("/v1/sql", &json!({"sql": sql})).expect("it is answered");
                if reply.status != 200 {
                    heard.refusals.push(format!("{} {}", reply.status, reply.text()));
                    refusals.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                let answer = Answer::parse(&reply.json());
                if answer.covered().exact {
                    check(&answer, answer.events_covered());
                } else {
                    heard.inexact.push(format!("{:?}", answer.covered()));
                }
                if heard.changes.last() != Some(&answer.columns) {
                    heard.changes.push(answer.columns);
                }
                answers.fetch_add(1, Ordering::Relaxed);
            }
            heard
        });
        Self {
            stop,
            answered,
            refused,
            thread,
        }
    }

    /// Waits until it has heard so many answers, or refusals; or has failed, which `finish` tells.
    fn wait_for(&self, answers: i64, refusals: i64) {
        until(&format!("{answers} answers and {refusals} refusals"), WITHIN, || {
            let heard =
                self.answered.load(Ordering::Relaxed) >= answers && self.refused.load(Ordering::Relaxed) >= refusals;
            (heard || self.thread.is_finished()).then_some(())
        });
    }

    fn finish(self) -> Heard {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every answer is right")
    }
}

fn check_totals(answer: &Answer, end: i64) {
    // Over nothing, a sum is null.
    if end > 0 {
        assert_eq!(
            answer.row(),
            totals(&answer.columns, end),
            "over {end} events: {answer:?}"
        );
    }
}

fn check_colors(answer: &Answer, end: i64) {
    let mut rows = answer.rows.clone();
    rows.sort_by_key(|row| row[0].to_string());
    assert_eq!(rows, colors(end), "over {end} events: {answer:?}");
}

/// What becomes of views while a client asks them and events come in.
fn change_under_load(services: &'static [&'static str]) {
    let mut stack = Stack::start(services, NARROW);
    let http = stack.http();
    let load = Load::start(&http);
    load.wait_for(400);
    wait_landed(&http, "ticks", &TopicOffsets::from([("ticks/0".to_owned(), 200)]));
    run_batch(&http);
    let answer = stack.over("SELECT * FROM totals", 400);
    check_totals(&answer, answer.events_covered());

    let asked = Asker::start(&http, "SELECT * FROM totals", check_totals);
    let top = Asker::start(&http, "SELECT * FROM top", |answer, end| {
        assert_eq!(answer.integers(), [end - 1], "{answer:?}");
    });
    load.wait_for(800);
    let applied = stack.apply(WIDE, &[]).success();
    for told in [
        "size, color, filled from the raw bytes",
        "totals",
        "colors",
        "from history",
    ] {
        assert!(
            applied.stdout.contains(told),
            "nothing of `{told}` in\n{}",
            applied.stdout
        );
    }
    // A view that is new is there at once, and says what it lacks until it is built.
    until("the new view is known", WITHIN, || {
        http.try_post("/v1/sql", &json!({"sql": "SELECT * FROM colors"}))
            .filter(|reply| reply.status == 200)
    });
    let added = Asker::start(&http, "SELECT * FROM colors", check_colors);
    let now = load.sent();
    until(
        "both views answer by their new definitions, over all of history",
        WITHIN,
        || {
            let views = http.get("/v1/views").expect(200).json();
            let views = views["views"].as_array().expect("there are views").clone();
            let is_new = |view: &Value| view["changing"] == false && view["publication"].is_number();
            (views.len() == 2 && views.iter().all(is_new)).then_some(())
        },
    );
    let answer = stack.over("SELECT * FROM colors", now);
    assert!(answer.covered().exact, "{answer:?}");
    check_colors(&answer, answer.events_covered());
    let after = load.sent();
    load.wait_for(after + 400);

    asked.wait_for(50, 0);
    let heard = asked.finish();
    assert_eq!(heard.refusals, [""; 0], "a view that changes answers all the time");
    assert_eq!(heard.inexact, [""; 0], "and exactly, by one version or the other");
    assert_eq!(
        heard.changes,
        [vec!["ticks", "n"], vec!["ticks", "n", "size"]],
        "it changes once"
    );
    // A dropped view is gone in the end.
    top.wait_for(0, 1);
    let heard = top.finish();
    assert_eq!(
        heard.inexact, [""; 0],
        "a dropped view answers exactly while it answers"
    );
    added.wait_for(20, 0);
    let heard = added.finish();
    assert_eq!(heard.refusals, [""; 0]);

    let end = load.finish();
    let all_right = |stack: &Stack, moment: &str| {
        let answer = stack.over("SELECT * FROM totals", end);
        assert!(answer.covered().exact, "{moment}");
        assert_eq!(answer.columns, ["ticks", "n", "size"], "{moment}");
        check_totals(&answer, end);
        check_colors(&stack.over("SELECT * FROM colors", end), end);
    };
    all_right(&stack, "at the end");
    stack.kill9();
    stack.run();
    all_right(&stack, "after kill -9");
    // A file that was replaced reverts nothing: whoever restarts with an old copy runs what the others run.
    stack.terminate();
    stack.site.write_views(NARROW);
    stack.run();
    all_right(&stack, "with an old file");
    // Nor does it on purpose: landed events have the columns.
    let refused = stack.apply(NARROW, &["--force"]).refused();
    assert!(refused.stdout.contains("cannot be dropped"), "{}", refused.stdout);
}

#[test]
fn views_change_under_load_in_one_process() {
    let _gate = gate::heavy();
    change_under_load(&["dev"]);
}

#[test]
fn views_change_under_load_in_separate_processes() {
    let _gate = gate::heavy();
    change_under_load(&["speed", "batch", "serve"]);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let _gate = gate::heavy();
    let stack = Stack::start(&["dev"], WIDE);
    let http = stack.http();
    let (_, through) = http.ingest("ticks", data::ndjson((0..100).map(tick)));
    wait_landed(&http, "ticks", &through);
    let number = || http.get("/v1/views").expect(200).json()["definitions"].clone();
    let before = number();
    let refused = [
        (
            WIDE.replace("size BIGINT", "size DOUBLE"),
            "`size` cannot change its type",
        ),
        (
            WIDE.replace("color TEXT)", "colour TEXT)")
                .replace("color,", "colour,")
                .replace("BY color", "BY colour"),
            "`color` cannot be dropped",
        ),
        (
            WIDE.replace("partitions = 1", "topic = 'other', partitions = 1"),
            "topic cannot change",
        ),
        (WIDE.replace("event_time = 'at', ", ""), "event_time cannot change"),
        (WIDE.replace("sum(size)", "sum(sizes)"), "sizes"),
    ];
    for (views, why) in &refused {
        let output = stack.apply(views, &[]);
        assert_eq!(output.code, Some(1), "{why}: {output:?}");
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(said.contains(why), "nothing of `{why}` in\n{said}");
        let (_, message, _) = http
            .post_bytes("/v1/views/apply", views.clone().into_bytes())
            .error(400);
        assert!(message.contains(why), "{message}");
    }
    // Nor does a dry run change anything.
    let dry = stack
        .apply(&WIDE.replace("sum(size)", "max(size)"), &["--dry-run"])
        .success();
    assert!(dry.stdout.contains("nothing was changed"), "{}", dry.stdout);
    assert_eq!(number(), before);
    check_totals(&stack.over("SELECT * FROM totals", 100), 100);
}
