//! A site with tokens and TLS: who may do what, and what strangers learn.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anabranch_e2e::data::workspace;
use anabranch_e2e::{Process, Site, block_on, until};
use anabranch_testkit::servers::Certificates;
use anabranch_testkit::skip;
use reqwest::Method;
use serde_json::{Value, json};

const VIEWS: &str = "
CREATE TABLE clicks (ts TIMESTAMP NOT NULL, page TEXT, amount BIGINT)
WITH (connector = 'log', topic = 'clicks', format = 'json', event_time = 'ts', partitions = 2);
CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS clicks FROM clicks GROUP BY page;
CREATE MATERIALIZED VIEW revenue AS SELECT sum(amount) AS total FROM clicks;
";
const EVENTS: &str = "{\"ts\":\"2026-01-01T00:00:00Z\",\"page\":\"a\",\"amount\":7}\n\
    {\"ts\":\"2026-01-01T00:00:01Z\",\"page\":\"b\",\"amount\":8}\n\
    {\"ts\":\"2026-01-01T00:00:02Z\",\"page\":\"a\",\"amount\":9}\n";
/// Generous: the tests share few cores.
const WAIT: Duration = Duration::from_secs(90);

/// A site that lets in nobody without a token, and takes nothing but TLS.
struct Guarded {
    /// Goes first: what it wrote is read while its folder is there.
    dev: Process,
    site: Site,
    certificates: Certificates,
    _folder: tempfile::TempDir,
}

struct Reply {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: String,
}

impl Reply {
    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.body))
    }
}

/// Asks one port, with a certificate or without.
struct Asker {
    client: reqwest::Client,
    base: String,
}

impl Asker {
    fn try_ask(&self, method: Method, path: &str, token: Option<&str>, body: &str) -> Result<Reply, reqwest::Error> {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .body(body.to_owned());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        block_on(async {
            let answer = request.send().await?;
            Ok(Reply {
                status: answer.status().as_u16(),
                headers: answer.headers().clone(),
                body: answer.text().await?,
            })
        })
    }

    #[track_caller]
    fn ask(&self, method: Method, path: &str, token: Option<&str>, body: &str) -> Reply {
        self.try_ask(method, path, token, body)
            .unwrap_or_else(|error| panic!("{} does not answer: {error:?}", self.base))
    }

    #[track_caller]
    fn get(&self, path: &str, token: &str) -> Reply {
        self.ask(Method::GET, path, Some(token), "")
    }

    #[track_caller]
    fn post(&self, path: &str, token: &str, body: &Value) -> Reply {
        self.ask(Method::POST, path, Some(token), &body.to_string())
    }
}

impl Guarded {
    /// `None` where certificates cannot be made.
    fn start(tokens: impl FnOnce(&Site) -> Vec<String>) -> Option<(Self, Vec<String>)> {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let certificates = match Certificates::make(folder.path()) {
            Ok(certificates) => certificates,
            Err(reason) => {
                skip(&reason);
                return None;
            }
        };
        let (pem, authority) = (certificates.server.display(), certificates.authority.display());
        let settings = format!(
            "[access]\nmode = 'tokens'\nrefresh = '100ms'\nfailures_per_minute = 100000\n\
             [tls]\ncert = '{pem}'\nkey = '{pem}'\nclient_ca = '{authority}'\n\
             [landing]\nmax_age = '200ms'\n\
             [telemetry]\nlog = 'debug'\n"
        );
        let site = Site::new(VIEWS, &settings);
        let tokens = tokens(&site);
        let dev = site.spawn("dev");
        let mut guarded = Self {
            site,
            certificates,
            dev,
            _folder: folder,
        };
        guarded.wait_ready();
        Some((guarded, tokens))
    }

    fn wait_ready(&mut self) {
        for port in self.site.ports() {
            let asker = self.asker(port, true);
            until("the site is ready", WAIT, || {
                assert!(self.dev.ended().is_none(), "`dev` ended instead of becoming ready");
                let reply = asker.try_ask(Method::GET, "/readyz", None, "").ok()?;
                (reply.status == 200).then_some(())
            });
        }
    }

    fn asker(&self, port: u16, certified: bool) -> Asker {
        let read = |path: &Path| std::fs::read(path).expect("the certificate can be read");
        let authority = reqwest::Certificate::from_pem(&read(&self.certificates.authority));
        let mut builder = reqwest::Client::builder()
            .use_rustls_tls()
            .tls_built_in_root_certs(false)
            .add_root_certificate(authority.expect("it is a certificate"))
            .timeout(WAIT);
        if certified {
            let identity = reqwest::Identity::from_pem(&read(&self.certificates.server));
            builder = builder.identity(identity.expect("it is a key with its certificate"));
        }
        Asker {
            client: builder.build().expect("a client can be built"),
            base: format!("https://127.0.0.1:{port}"),
        }
    }

    fn serving(&self) -> Asker {
        self.asker(self.site.ports()[2], false)
    }

    /// Runs a command against the site, with a token.
    fn cli(&self, args: &[&str], token: &str) -> anabranch_e2e::Output {
        let url = self.serving().base;
        let authority = self.certificates.authority.to_str().expect("a plain path");
        let common = ["--url", &url, "--ca", authority, "--token", token];
        self.site.cli(&[args, &common].concat())
    }
}

/// Makes a token with the command; it works on the store, so no service need run.
fn token(site: &Site, args: &[&str]) -> String {
    let made = site.cli(&[&["token", "create"], args, &["--config", site.config()]].concat());
    made.success().stdout.trim().to_owned()
}

fn tokens(site: &Site) -> Vec<String> {
    vec![
        token(site, &["--role", "admin", "--name", "boss"]),
        token(site, &["--role", "ingest", "--name", "feeder"]),
        token(
            site,
            &["--role", "read", "--name", "reader", "--views", "pages,nothing_*"],
        ),
        token(site, &["--role", "read", "--name", "viewer", "--expires", "90d"]),
    ]
}

/// The routes that the sources of a layer name, with something in the place of parameters.
fn routes(folder: &str) -> BTreeSet<String> {
    fn walk(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("sources can be listed") {
            let path = entry.expect("sources can be listed").path();
            if path.is_dir() {
                if !path.ends_with("tests") && !path.ends_with("benches") {
                    walk(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).expect("a source can be read");
                let registered = text.split(".route(").chain(text.split(".route_service("));
                // Handlers that are registered with their description name the route there.
                let described = text.split(", path = ").skip(1);
                for call in registered.skip(1).chain(described) {
                    let literal = call
                        .trim_start()
                        .strip_prefix('"')
                        .and_then(|rest| rest.split('"').next());
                    found.extend(literal.filter(|route| route.starts_with('/')).map(filled));
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&workspace().join(folder), &mut found);
    found
}

fn filled(route: &str) -> String {
    let parts = route.split('/').map(|part| match part {
        "{view}" => "pages",
        "{table}" => "clicks",
        part if part.starts_with('{') => "1",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Routes that need no token: they tell nothing of the site, or are how to come in.
fn is_public(method: &Method, route: &str) -> bool {
    let reads = *method == Method::GET;
    match route {
        "/healthz" | "/readyz" | "/" | "/favicon.ico" => reads,
        "/v1/login" | "/v1/logout" => *method == Method::POST,
        route => reads && route.starts_with("/console"),
    }
}

#[test]
fn a_read_token_does_nothing_but_read_its_views_and_a_stranger_learns_nothing() {
    let Some((guarded, made)) = Guarded::start(tokens) else {
        return;
    };
    let [boss, feeder, reader, viewer] = &made[..] else {
        unreachable!("four tokens were made")
    };
    let serving = guarded.serving();

    strangers_learn_nothing(&guarded);

    // Who may send events sends some, through the command line and over HTTP, and may do nothing else.
    let file = guarded.site.file("events.ndjson");
    std::fs::write(&file, EVENTS).expect("the folder can be written to");
    let file = file.to_str().expect("a plain path");
    guarded.cli(&["ingest", "clicks", file], feeder).success();
    let sent = serving
        .ask(Method::POST, "/v1/ingest/clicks", Some(feeder), EVENTS)
        .expect(200)
        .json();
    for (method, path) in [
        (Method::POST, "/v1/sql"),
        (Method::GET, "/v1/views"),
        (Method::GET, "/v1/status"),
        (Method::GET, "/metrics"),
        (Method::POST, "/v1/batch/runs"),
    ] {
        serving
            .ask(method, path, Some(feeder), "{\"sql\": \"SELECT 1\"}")
            .expect(403);
    }

    // A reader sees its view, exactly as it is, and nothing of the other.
    let first = |token: &str, sql: &str| {
        let body = json!({"sql": sql, "require": "exact", "at_least": sent["through"], "timeout": "60s"});
        serving.post("/v1/sql", token, &body).expect(200).json()["rows"][0][0].clone()
    };
    until("the reader sees all events", WAIT, || {
        (first(reader, "SELECT sum(clicks) FROM pages") == 6).then_some(())
    });
    until("the administrator sees the other view", WAIT, || {
        (first(boss, "SELECT CAST(total AS BIGINT) FROM revenue") == 48).then_some(())
    });
    guarded
        .cli(&["query", "SELECT page, clicks FROM pages"], reader)
        .success();

    every_documented_route_has_a_rule_that_holds(&serving, [boss, feeder, reader, viewer].map(String::as_str));
    nothing_of_another_view(&serving, reader);
    for (method, path, body) in [
        (Method::POST, "/v1/ingest/clicks", EVENTS),
        (Method::POST, "/v1/batch/runs", ""),
        (Method::POST, "/v1/batch/rollback", ""),
        (Method::POST, "/v1/batch/verify", ""),
        (Method::POST, "/v1/batch/maintenance/run", ""),
        (Method::POST, "/v1/views/apply?dry_run=true", VIEWS),
        (Method::POST, "/v1/views/apply", VIEWS),
        (Method::GET, "/v1/batch/runs", ""),
        (Method::GET, "/metrics", ""),
        (Method::GET, "/v1/tables/clicks/dead-letters", ""),
        (Method::POST, "/v1/tables/clicks/dead-letters/redrive", "{}"),
        (Method::GET, "/v1/tables/clicks/exclusions", ""),
        (Method::POST, "/v1/tables/clicks/exclusions", "{}"),
        (Method::DELETE, "/v1/tables/clicks/exclusions/1", ""),
    ] {
        serving.ask(method.clone(), path, Some(reader), body).expect(403);
    }
    // Who may see every view may see runs and metrics too, and still changes nothing.
    serving.get("/metrics", viewer).expect(200);
    serving.get("/v1/batch/runs", viewer).expect(200);
    serving
        .ask(Method::POST, "/v1/batch/runs", Some(viewer), "")
        .expect(403);

    guarded.cli(&["runs", "start"], boss).success();
    assert!(
        guarded
            .cli(&["runs", "start"], reader)
            .refused()
            .stderr
            .contains("does not permit")
    );

    a_session_is_for_pages_of_our_own(&serving, boss);
    workers_refuse_strangers(&guarded, reader);

    // Revoked, a token counts no more within the refresh.
    let config = guarded.site.config();
    guarded
        .site
        .cli(&["token", "revoke", "reader", "--config", config])
        .success();
    until("the revoked token lets nobody in", WAIT, || {
        (serving.get("/v1/views", reader).status == 401).then_some(())
    });
    serving.get("/v1/views", viewer).expect(200);

    let audit = guarded
        .site
        .cli(&["audit", "list", "--json", "--config", config])
        .success()
        .stdout;
    let records: Vec<Value> = audit
        .lines()
        .map(|line| serde_json::from_str(line).expect("a record is JSON"))
        .collect();
    for (who, action, outcome) in [
        ("boss", "POST /v1/batch/runs", "ok 202"),
        ("reader", "POST /v1/batch/rollback", "denied 403"),
        ("feeder", "POST /v1/batch/runs", "denied 403"),
        ("boss", "POST /v1/login", "ok 200"),
    ] {
        let found = records
            .iter()
            .any(|record| record["who"] == who && record["action"] == action && record["outcome"] == outcome);
        assert!(found, "{who} {action} {outcome} is not in\n{audit}");
    }
    for action in ["token create reader", "token revoke reader"] {
        assert!(audit.contains(action), "{action} is not in\n{audit}");
    }

    let listed = guarded
        .site
        .cli(&["token", "list", "--config", config])
        .success()
        .stdout;
    let told = [
        guarded.dev.stderr(),
        guarded.dev.stdout(),
        audit,
        listed,
        serving.get("/v1/status", boss).expect(200).body,
        serving.get("/metrics", boss).expect(200).body,
    ];
    no_secret_is_told(&guarded, &made, &told);
}

/// Every route of every port, with every method, answers a stranger alike.
fn strangers_learn_nothing(guarded: &Guarded) {
    let methods = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
    ];
    let [speed, batch, serving] = guarded.site.ports();
    let common = [
        "/healthz",
        "/readyz",
        "/metrics",
        "/nowhere",
        "/v1/login",
        "/v1/logout",
        "/v1/whoami",
    ];
    let expected = guarded
        .serving()
        .ask(Method::GET, "/nowhere", None, "")
        .expect(401)
        .body;
    for name in ["pages", "revenue", "clicks", "anabranch_speed"] {
        assert!(!expected.contains(name), "{expected}");
    }
    for (folder, port) in [("serving", serving), ("batch-layer", batch), ("speed-layer", speed)] {
        let mut routes = routes(folder);
        assert!(routes.len() > 1, "{folder} has no routes; were they moved?");
        routes.extend(common.map(str::to_owned));
        if folder == "serving" {
            assert!(
                routes.contains("/v1/sql") && routes.contains("/v1/views/pages/rows"),
                "{routes:?}"
            );
        }
        let asker = guarded.asker(port, true);
        for route in &routes {
            for method in &methods {
                if folder == "serving" && is_public(method, route) || matches!(route.as_str(), "/healthz" | "/readyz") {
                    continue;
                }
                for token in [None, Some("ab_0123456789ab_c2VjcmV0"), Some("eyJhbGciOiJub25lIn0.e30.")] {
                    let reply = asker.ask(method.clone(), route, token, "{}");
                    assert_eq!(
                        (reply.status, reply.body.as_str()),
                        (401, expected.as_str()),
                        "{method} {folder} {route} {token:?}"
                    );
                }
            }
        }
    }
    let health = guarded.serving().ask(Method::GET, "/healthz", None, "").expect(200);
    assert_eq!(health.headers["x-content-type-options"], "nosniff");
}

/// What a documented route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    Nothing,
    Known,
    Read,
    /// Of somebody who may see every view.
    ReadAll,
    Ingest,
    Admin,
}

/// Whoever documents a route says here what it asks for.
const RULES: [(&str, &str, Asks); 37] = [
    ("get", "/healthz", Asks::Nothing),
    ("get", "/readyz", Asks::Nothing),
    ("get", "/metrics", Asks::ReadAll),
    ("get", "/openapi.json", Asks::Known),
    ("post", "/v1/login", Asks::Nothing),
    ("post", "/v1/logout", Asks::Nothing),
    ("get", "/v1/whoami", Asks::Known),
    ("post", "/v1/sql", Asks::Read),
    ("get", "/v1/status", Asks::Read),
    ("get", "/v1/views", Asks::Read),
    ("get", "/v1/views/{view}", Asks::Read),
    ("get", "/v1/views/{view}/live", Asks::Read),
    ("get", "/v1/views/{view}/rows", Asks::Read),
    ("post", "/v1/views/apply", Asks::Admin),
    ("post", "/v1/ingest/{table}", Asks::Ingest),
    ("get", "/v1/batch/status", Asks::ReadAll),
    ("get", "/v1/batch/runs", Asks::ReadAll),
    ("get", "/v1/batch/runs/{run_id}", Asks::ReadAll),
    ("get", "/v1/batch/publications", Asks::ReadAll),
    ("get", "/v1/batch/maintenance", Asks::ReadAll),
    ("post", "/v1/batch/runs", Asks::Admin),
    ("post", "/v1/batch/runs/{run_id}/publish", Asks::Admin),
    ("post", "/v1/batch/runs/{run_id}/discard", Asks::Admin),
    ("post", "/v1/batch/rollback", Asks::Admin),
    ("post", "/v1/batch/verify", Asks::Admin),
    ("post", "/v1/batch/maintenance/run", Asks::Admin),
    ("post", "/v1/batch/maintenance/compact", Asks::Admin),
    ("post", "/v1/batch/maintenance/vacuum", Asks::Admin),
    ("post", "/v1/batch/maintenance/retention", Asks::Admin),
    ("get", "/v1/tables/{table}/exclusions", Asks::Admin),
    ("post", "/v1/tables/{table}/exclusions", Asks::Admin),
    ("delete", "/v1/tables/{table}/exclusions/{id}", Asks::Admin),
    ("get", "/v1/tables/{table}/dead-letters", Asks::Admin),
    (
        "get",
        "/v1/tables/{table}/dead-letters/{partition}/{offset}",
        Asks::Admin,
    ),
    ("post", "/v1/tables/{table}/dead-letters/redrive", Asks::Admin),
    ("get", "/v1/tables/{table}/dead-letters/redrives", Asks::Admin),
    ("get", "/v1/tables/{table}/dead-letters/redrives/{number}", Asks::Admin),
];

impl Asks {
    /// Whether it lets in the administrator, who sends events, the reader of one view and the reader of all.
    fn lets_in(self) -> [bool; 4] {
        match self {
            Self::Nothing | Self::Known => [true; 4],
            Self::Read => [true, false, true, true],
            Self::ReadAll => [true, false, false, true],
            Self::Ingest => [true, true, false, false],
            Self::Admin => [true, false, false, false],
        }
    }
}

/// Each operation of the OpenAPI document, asked by each role: who may not is told so, who may is told something else.
fn every_documented_route_has_a_rule_that_holds(serving: &Asker, tokens: [&str; 4]) {
    let document = serving.get("/openapi.json", tokens[0]).expect(200).json();
    let paths = document["paths"].as_object().expect("the document has paths");
    let mut asked = 0;
    for (path, item) in paths {
        let of_path = item.as_object().expect("a path has operations").keys();
        for method in of_path.filter(|key| matches!(key.as_str(), "get" | "post" | "put" | "delete" | "patch")) {
            let rule = RULES.iter().find(|(of, route, _)| of == method && route == path);
            let (_, _, asks) = rule.unwrap_or_else(|| panic!("nobody said what {method} {path} asks for"));
            let ask = |token| {
                let method: Method = method.to_uppercase().parse().expect("it is a method");
                // A stream ends with its client; what nobody can read is as good for this.
                let path = filled(path).replace("/live", "/live?order=nothing");
                serving.ask(method, &path, token, "{}").status
            };
            let stranger = ask(None);
            assert_eq!(stranger == 401, *asks != Asks::Nothing, "{method} {path}: {stranger}");
            for (token, is_let_in) in tokens.into_iter().zip(asks.lets_in()) {
                // What they may do that changes something is done elsewhere.
                let acts = method != "get" && *asks == Asks::Admin;
                if acts && is_let_in {
                    continue;
                }
                let status = ask(Some(token));
                assert_eq!(!matches!(status, 401 | 403), is_let_in, "{method} {path}: {status}");
                asked += 1;
            }
        }
    }
    assert!(asked > 100, "only {asked} requests: was the document read properly?");
}

fn nothing_of_another_view(serving: &Asker, reader: &str) {
    let views = serving.get("/v1/views", reader).expect(200);
    assert!(
        views.body.contains("pages") && !views.body.contains("revenue"),
        "{}",
        views.body
    );
    let status = serving.get("/v1/status", reader).expect(200);
    assert!(
        !status.body.contains("revenue") && !status.body.contains("https://"),
        "{}",
        status.body
    );
    // A view that it may not see is like one that does not exist.
    for (real, absent) in [
        ("/v1/views/revenue", "/v1/views/reveune"),
        ("/v1/views/revenue/rows", "/v1/views/reveune/rows"),
    ] {
        let (real, absent) = (
            serving.get(real, reader).expect(404),
            serving.get(absent, reader).expect(404),
        );
        assert_eq!(real.body.replace("revenue", "?"), absent.body.replace("reveune", "?"));
    }
    for table in ["views", "partitions", "coverage"] {
        let sql = format!("SELECT * FROM anabranch.{table}");
        let seen = serving.post("/v1/sql", reader, &json!({"sql": sql})).expect(200);
        assert!(
            !seen.body.contains("revenue") && !seen.body.contains("https://"),
            "{table}: {}",
            seen.body
        );
    }
    for table in ["runs", "workers", "dead_letters"] {
        let sql = format!("SELECT * FROM anabranch.{table}");
        serving.post("/v1/sql", reader, &json!({"sql": sql})).expect(404);
    }
    for sql in [
        "SELECT * FROM revenue",
        "SELECT * FROM pages, revenue",
        "SELECT * FROM pages WHERE clicks IN (SELECT total FROM revenue)",
        "WITH r AS (SELECT * FROM revenue) SELECT * FROM r",
        "SELECT * FROM public.revenue",
        "EXPLAIN SELECT * FROM revenue",
    ] {
        let real = serving.post("/v1/sql", reader, &json!({"sql": sql}));
        let absent = serving.post("/v1/sql", reader, &json!({"sql": sql.replace("revenue", "reveune")}));
        assert_eq!(real.status, 404, "{sql}: {}", real.body);
        assert_eq!(
            (real.status, real.body.replace("revenue", "?")),
            (absent.status, absent.body.replace("reveune", "?")),
            "{sql}"
        );
    }
}

fn a_session_is_for_pages_of_our_own(serving: &Asker, boss: &str) {
    let login = serving
        .ask(Method::POST, "/v1/login", None, &json!({"token": boss}).to_string())
        .expect(200);
    let set = login.headers["set-cookie"]
        .to_str()
        .expect("a cookie is text")
        .to_owned();
    assert!(
        set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Secure"),
        "{set}"
    );
    let cookie = set.split(';').next().expect("it has a value").to_owned();
    let with = |method: Method, path: &str, csrf: bool| {
        let request = serving.client.request(method, format!("{}{path}", serving.base));
        let request = request.header("cookie", &cookie);
        let request = if csrf {
            request.header("x-anabranch-csrf", "1")
        } else {
            request
        };
        block_on(async { request.send().await })
            .expect("it answers")
            .status()
            .as_u16()
    };
    assert_eq!(with(Method::GET, "/v1/whoami", false), 200);
    assert_eq!(
        with(Method::POST, "/v1/batch/maintenance/compact?dry_run=true", false),
        403
    );
    assert_eq!(
        with(Method::POST, "/v1/batch/maintenance/compact?dry_run=true", true),
        200
    );
    serving
        .ask(Method::POST, "/v1/login", None, r#"{"token": "ab_0123456789ab_x"}"#)
        .expect(401);
}

/// The ports of the speed and the batch layer: no connection without a certificate, no answer without a credential.
fn workers_refuse_strangers(guarded: &Guarded, reader: &str) {
    let [speed, batch, _] = guarded.site.ports();
    for port in [speed, batch] {
        let uncertified = guarded.asker(port, false).try_ask(Method::GET, "/healthz", None, "");
        assert!(uncertified.is_err(), "a connection without a certificate was taken");
        guarded
            .asker(port, true)
            .ask(Method::GET, "/healthz", None, "")
            .expect(200);
    }
    let worker = guarded.asker(speed, true);
    let flight = "/arrow.flight.protocol.FlightService/DoGet";
    worker.ask(Method::POST, flight, None, "").expect(401);
    worker.ask(Method::POST, flight, Some(reader), "").expect(403);
    worker.ask(Method::GET, "/v1/status", Some(reader), "").expect(403);
    worker
        .ask(Method::POST, "/v1/ingest/clicks", Some(reader), EVENTS)
        .expect(403);
    guarded
        .asker(batch, true)
        .ask(Method::POST, "/v1/batch/runs", Some(reader), "")
        .expect(403);
}

/// Nothing that was logged or told holds a token or the key of the site.
fn no_secret_is_told(guarded: &Guarded, tokens: &[String], told: &[String]) {
    let key = guarded.site.file(".anabranch/store/access/site-key.json");
    let key: Value = serde_json::from_slice(&std::fs::read(key).expect("the site has a key")).expect("it is JSON");
    let mut secrets = vec![key["key"].as_str().expect("it is text").to_owned()];
    for token in tokens {
        let (_, secret) = token
            .strip_prefix("ab_")
            .and_then(|rest| rest.split_once('_'))
            .expect("a token's shape");
        secrets.push(secret.to_owned());
    }
    secrets.extend(["Bearer ".to_owned(), "PRIVATE KEY".to_owned(), "abs1.".to_owned()]);
    for text in told {
        for secret in &secrets {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "a secret was told: {}", line.unwrap_or_default());
        }
    }
    // Nor does the store hold a token.
    let store = guarded.site.file(".anabranch/store/access/tokens");
    for entry in std::fs::read_dir(store).expect("there are tokens") {
        let text = std::fs::read_to_string(entry.expect("it can be listed").path()).expect("it can be read");
        assert!(secrets.iter().all(|secret| !text.contains(secret.as_str())), "{text}");
    }
}

#[test]
fn an_address_that_strangers_reach_is_refused_unless_it_is_secured_or_meant() {
    let site = Site::new(VIEWS, "[serving]\nlisten = '0.0.0.0:0'\n");
    let refused = site.cli(&["serve", "--config", site.config()]).refused();
    for part in [
        "serving.listen",
        "[tls]",
        "mode = \"tokens\"",
        "127.0.0.1",
        "insecure = true",
    ] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
}
