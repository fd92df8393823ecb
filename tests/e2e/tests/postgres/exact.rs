//! `anabranch.require = 'exact'` over PostgreSQL and Flight SQL: while nobody owns a partition, an answer is refused rather than
//! incomplete, and is given again once somebody does.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anabranch_e2e::{Site, clients, data, gate, ports, python, until};
use serde_json::{Value, json};

const VIEWS: &str = "
CREATE TABLE clicks (ts TIMESTAMP NOT NULL, page TEXT)
WITH (connector = 'log', format = 'json', event_time = 'ts', partitions = 2);
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS clicks FROM clicks;
";
const ASK: &str = "SELECT clicks FROM totals";
const DEMAND: &str = "SET anabranch.require = 'exact'";
/// Generous: the tests share few cores.
const WAIT: Duration = Duration::from_secs(180);
const PATIENT: &str = "60s";

/// What is asked while both partitions have an owner, while none has, and when they have one again.
trait Moments {
    fn owned(&mut self);
    fn without_owner(&mut self);
    /// In the same connection, if it is one.
    fn owned_again(&mut self);
}

#[test]
fn an_answer_without_an_owner_is_refused_where_exactness_is_required() {
    const TEST: &str = "an_answer_without_an_owner_is_refused_where_exactness_is_required";
    let _gate = gate::heavy();
    let (port, flight_sql) = (ports::free(), ports::free());
    let settings = format!(
        "[landing]\nmax_age = '200ms'\n\
         [serving]\npostgres_listen = '127.0.0.1:{port}'\nflight_sql_listen = '127.0.0.1:{flight_sql}'"
    );
    let site = Site::new(VIEWS, &settings);
    let mut speed = site.start("speed");
    let (_batch, _serve) = (site.start("batch"), site.start("serve"));
    let http = site.http();
    until("serving knows the speed layer", WAIT, || {
        (http.status()["sources"]["clicks"]["partitions"].as_object()?.len() == 2).then_some(())
    });
    let line = |n: i64| json!({"ts": "2026-01-01T00:00:00Z", "page": n.to_string()}).to_string();
    let (_, through) = http.ingest("clicks", data::ndjson((0..100).map(line)));
    anabranch_e2e::dev::wait_landed(&http, "clicks", &through);
    anabranch_e2e::dev::run_batch(&http);

    let mut clients: Vec<Box<dyn Moments>> = Vec::new();
    match clients::psql() {
        Ok(program) => clients.push(Box::new(Psql { program, port })),
        Err(reason) => gate::skip(TEST, &reason),
    }
    match python::sql_clients() {
        Ok(python) => {
            clients.push(Box::new(Psycopg::start(&python, port)));
            clients.push(Box::new(Adbc::start(&python, flight_sql)));
        }
        Err(reason) => gate::skip(TEST, &format!("no Python with psycopg: {reason}")),
    }
    clients.iter_mut().for_each(|client| client.owned());
    speed.kill9();
    // Its leases end by themselves; until then an answer could not be exact either, but for another reason.
    until("nobody owns a partition", WAIT, || {
        let demand = json!({"sql": ASK, "require": "exact", "timeout": "0s"});
        let (_, message, _) = http.post("/v1/sql", &demand).error(503);
        (message.matches("no speed worker owns it").count() == 2).then_some(())
    });
    clients.iter_mut().for_each(|client| client.without_owner());
    let _speed = site.start("speed");
    clients.iter_mut().for_each(|client| client.owned_again());
}

/// The refusal says which partitions are missing, and why.
#[track_caller]
fn assert_names_partitions(message: &str) {
    for partition in ["clicks/0", "clicks/1"] {
        assert!(message.contains(partition), "{partition} is not in {message}");
    }
    assert!(message.contains("no speed worker owns it"), "{message}");
}

/// A process, and a connection, for each question.
struct Psql {
    program: std::path::PathBuf,
    port: u16,
}

impl Psql {
    fn ask(&self, options: &str, script: &str) -> Output {
        Command::new(&self.program)
            .args(["-X", "-q", "-At", "-h", "127.0.0.1", "-U", "tester", "-d", "anabranch"])
            .args(["-v", "VERBOSITY=verbose", "-p", &self.port.to_string(), "-c", script])
            .env("PGOPTIONS", options)
            .output()
            .expect("psql can be run")
    }

    #[track_caller]
    fn told(&self, options: &str, script: &str) -> String {
        super::printed(&self.ask(options, script))
    }

    #[track_caller]
    fn refused(&self, options: &str, script: &str) {
        let output = self.ask(options, script);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{script} is answered with {options:?}");
        assert!(said.contains("ERROR:  55000"), "{said}");
        assert_names_partitions(&said);
    }
}

impl Moments for Psql {
    fn owned(&mut self) {
        let patient = format!("-c anabranch.require=exact -c anabranch.timeout={PATIENT}");
        assert_eq!(self.told(&patient, ASK), "100\n");
    }

    fn without_owner(&mut self) {
        let hasty = "-c anabranch.timeout=0";
        let exact = "-c anabranch.require=exact -c anabranch.timeout=0";
        self.refused(hasty, &format!("{DEMAND}; {ASK}"));
        self.refused(hasty, &format!("SET LOCAL anabranch.require = 'exact'; {ASK}"));
        self.refused(exact, ASK);
        self.refused(
            exact,
            &format!("SET anabranch.require = ''; RESET anabranch.require; {ASK}"),
        );
        assert_eq!(self.told(exact, &format!("SET anabranch.require = ''; {ASK}")), "100\n");
        // Not asked for, it is answered, and what is missing is said beside.
        let output = self.ask("", ASK);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(super::printed(&output), "100\n");
        assert!(
            said.contains("WARNING:  01000") && said.contains("clicks/0, clicks/1"),
            "{said}"
        );
        let coverage = "SELECT partition, missing, exact FROM anabranch.coverage ORDER BY partition";
        assert_eq!(
            self.told(exact, coverage).matches("|t|f\n").count(),
            2,
            "{}",
            self.told(exact, coverage)
        );
    }

    fn owned_again(&mut self) {
        self.owned();
    }
}

/// One connection, from before the owner goes until there is one again.
struct Psycopg {
    session: python::Dialogue,
    /// One that began with the demand.
    demanding: python::Dialogue,
}

impl Psycopg {
    fn start(python: &Path, port: u16) -> Self {
        let start = |options: &str| {
            let script = include_str!("../clients/psycopg_session.py");
            python::Dialogue::start(python, script, &[&port.to_string(), options])
        };
        Self {
            session: start("-c anabranch.timeout=0"),
            demanding: start("-c anabranch.require=exact -c anabranch.timeout=0"),
        }
    }

    #[track_caller]
    fn run(session: &mut python::Dialogue, sql: &str) {
        let answer = session.ask(&json!({"sql": sql}));
        assert!(answer["error"].is_null(), "{sql}: {answer}");
    }

    #[track_caller]
    fn shown(session: &mut python::Dialogue) -> Value {
        session.ask(&json!({"sql": "SHOW anabranch.require"}))["rows"][0][0].take()
    }

    /// In both protocols: as a simple query, and as a prepared statement.
    fn each(session: &mut python::Dialogue, mut look: impl FnMut(&mut python::Dialogue, Value)) {
        look(session, json!({"sql": ASK}));
        let prepared =
            json!({"sql": "SELECT clicks FROM totals WHERE clicks > %s", "parameters": [0], "prepare": true});
        look(session, prepared);
    }

    #[track_caller]
    fn answered(session: &mut python::Dialogue) {
        Self::each(session, |session, question| {
            let answer = session.ask(&question);
            assert_eq!(answer["rows"], json!([[100]]), "{answer}");
        });
    }

    #[track_caller]
    fn refused(session: &mut python::Dialogue) {
        Self::each(session, |session, question| {
            let answer = session.ask(&question);
            assert_eq!(answer["error"], "55000", "{answer}");
            assert_names_partitions(answer["message"].as_str().expect("a text"));
            assert!(answer["hint"].is_string(), "{answer}");
        });
    }
}

impl Moments for Psycopg {
    fn owned(&mut self) {
        let Self { session, demanding } = self;
        assert_eq!(
            (Self::shown(session), Self::shown(demanding)),
            (json!(""), json!("exact"))
        );
        for session in [session, demanding] {
            Self::run(session, &format!("SET anabranch.timeout = '{PATIENT}'"));
            Self::answered(session);
            Self::run(session, "RESET anabranch.timeout");
        }
    }

    fn without_owner(&mut self) {
        let Self { session, demanding } = self;
        Self::answered(session);
        Self::run(session, DEMAND);
        assert_eq!(Self::shown(session), "exact");
        Self::refused(session);
        Self::run(session, "RESET anabranch.require");
        assert_eq!(Self::shown(session), "");
        Self::answered(session);
        // For one transaction; a refusal ends it, as every error does.
        Self::run(session, "BEGIN");
        Self::run(session, "SET LOCAL anabranch.require = 'exact'");
        assert_eq!(Self::shown(session), "exact");
        assert_eq!(session.ask(&json!({"sql": ASK}))["error"], "55000");
        assert_eq!(session.ask(&json!({"sql": ASK}))["error"], "25P02");
        Self::run(session, "ROLLBACK");
        assert_eq!(Self::shown(session), "");
        Self::answered(session);
        // What came with the connection: it can be lifted, and comes back.
        Self::refused(demanding);
        Self::run(demanding, "BEGIN");
        Self::run(demanding, "SET LOCAL anabranch.require = ''");
        Self::answered(demanding);
        Self::run(demanding, "COMMIT");
        Self::refused(demanding);
        Self::run(demanding, "SET anabranch.require = ''");
        Self::answered(demanding);
        Self::run(demanding, "RESET ALL");
        Self::refused(demanding);
        Self::run(session, DEMAND);
    }

    fn owned_again(&mut self) {
        for session in [&mut self.session, &mut self.demanding] {
            Self::run(session, &format!("SET anabranch.timeout = '{PATIENT}'"));
            assert_eq!(Self::shown(session), "exact");
            Self::answered(session);
        }
    }
}

struct Adbc {
    session: python::Dialogue,
}

impl Adbc {
    fn start(python: &Path, port: u16) -> Self {
        let script = include_str!("../clients/adbc_session.py");
        Self {
            session: python::Dialogue::start(python, script, &[&port.to_string()]),
        }
    }

    fn ask(&mut self, require: &str, timeout: &str) -> Value {
        let headers = json!({"require": require, "timeout": timeout});
        self.session.ask(&json!({"sql": ASK, "headers": headers}))
    }
}

impl Moments for Adbc {
    fn owned(&mut self) {
        assert_eq!(self.ask("exact", PATIENT)["rows"], json!([[100]]));
    }

    fn without_owner(&mut self) {
        let refused = self.ask("exact", "0s");
        let message = refused["message"].as_str().unwrap_or_else(|| panic!("{refused}"));
        // The code of gRPC; ADBC has none for it.
        assert!(message.contains("FailedPrecondition"), "{message}");
        assert_names_partitions(message);
        assert_eq!(self.ask("", "0s")["rows"], json!([[100]]));
    }

    fn owned_again(&mut self) {
        self.owned();
    }
}
