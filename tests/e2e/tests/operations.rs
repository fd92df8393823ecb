//! What operators do: look for what is wrong, pack it up, and restart everything while people ask.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anabranch_e2e::dev::{run_batch, wait_landed};
use anabranch_e2e::{Answer, Backend, Cluster, Dev, Http, Site, gate};
use serde_json::{Value, json};

const SQL: &str = "
CREATE TABLE clicks (time TIMESTAMP NOT NULL, page TEXT) WITH (connector = 'log', event_time = 'time', partitions = 1);
CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS clicks FROM clicks GROUP BY page;
";

/// `check` → (`state`, `found`) of each finding.
fn findings(stdout: &str) -> Vec<(String, String, String)> {
    let document: Value = serde_json::from_str(stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let findings = document["findings"].as_array().expect("there are findings");
    findings
        .iter()
        .map(|finding| {
            assert_eq!(
                finding["do"].is_string(),
                finding["state"] != "ok",
                "only what is wrong needs advice: {finding}"
            );
            (text(finding, "check"), text(finding, "state"), text(finding, "found"))
        })
        .collect()
}

#[test]
fn the_doctor_finds_a_running_platform_well_and_says_what_is_wrong_with_a_broken_one() {
    let _gate = gate::heavy();
    let dev = Dev::start(SQL, "");
    let site = dev.site();
    let output = site.cli(&["doctor", "--json", "--config", site.config()]).success();
    let found = findings(&output.stdout);
    let state = |check: &str| {
        let of = found
            .iter()
            .find(|(name, ..)| name == check || name.starts_with(&format!("{check} ")));
        of.map(|(_, state, _)| state.as_str())
    };
    for check in [
        "settings",
        "views",
        "table clicks",
        "object store",
        "clock",
        "definitions",
        "speed",
        "batch",
        "serve",
        "versions",
    ] {
        assert_eq!(state(check), Some("ok"), "{check}: {found:?}");
    }
    let table = site.cli(&["doctor", "--config", site.config()]).success().stdout;
    assert!(table.contains("object store") && !table.contains("fail"), "{table}");

    // The text is changed and not applied; nobody runs.
    let mut dev = dev;
    dev.terminate();
    let changed = format!("{SQL}\nCREATE MATERIALIZED VIEW totals AS SELECT count(*) AS clicks FROM clicks;");
    std::fs::write(dev.site().file("views.sql"), changed).expect("the folder can be written to");
    let output = dev
        .site()
        .cli(&["doctor", "--json", "--config", dev.site().config()])
        .success();
    let found = findings(&output.stdout);
    let warned: Vec<&str> = found
        .iter()
        .filter(|(_, state, _)| state == "warn")
        .map(|(check, ..)| check.as_str())
        .collect();
    for check in ["definitions", "speed", "batch", "serve"] {
        assert!(warned.contains(&check), "{check}: {found:?}");
    }

    // Nothing can work like this: no broker there, and no store.
    let kafka = SQL.replace("'log'", "'kafka'");
    let nowhere = "[kafka]\n\"bootstrap.servers\" = \"127.0.0.1:1\"\n[storage]\nurl = \"s3://bucket/x\"\n[storage.options]\n\
                   aws_endpoint = \"http://127.0.0.1:1\"\naws_allow_http = \"true\"\naws_access_key_id = \"k\"\n\
                   aws_secret_access_key = \"hush-hush\"\naws_region = \"r\"";
    let site = Site::new(&kafka, nowhere);
    let output = site.cli(&["doctor", "--json", "--config", site.config()]).refused();
    let found = findings(&output.stdout);
    for check in ["table clicks", "object store"] {
        let (_, state, said) = found.iter().find(|(name, ..)| name == check).expect("it was looked at");
        assert_eq!(state, "fail", "{check}: {said}");
    }
    assert!(!output.stdout.contains("hush-hush"), "{}", output.stdout);

    // A certificate that is none is said at its place, and what to do about it.
    let site = Site::new(SQL, "[tls]\ncert = 'views.sql'\nkey = 'views.sql'");
    let printed = site.cli(&["doctor", "--config", site.config()]).refused().stdout;
    let line = printed.lines().position(|line| line.starts_with("fail  certificate"));
    let line = line.unwrap_or_else(|| panic!("{printed}"));
    assert!(
        printed
            .lines()
            .nth(line + 1)
            .is_some_and(|line| line.contains("→ correct the files that [tls] names"))
    );

    let site = Site::new(SQL, "");
    std::fs::write(site.file("anabranch.toml"), "[speeed]\nlisten = 'x'\n").expect("the folder can be written to");
    let output = site.cli(&["doctor", "--json", "--config", site.config()]).refused();
    let found = findings(&output.stdout);
    assert!(
        found[0].1 == "fail" && found[0].2.contains("did you mean `speed`"),
        "{found:?}"
    );
}

#[test]
fn a_support_bundle_has_what_helps_and_no_secret() {
    let _gate = gate::heavy();
    let dev = Dev::start(SQL, "[kafka]\n\"sasl.password\" = \"hush-hush\"");
    let through = dev.ingest(
        "clicks",
        b"{\"time\": \"2026-01-31T12:00:00Z\", \"page\": \"/\"}\n".to_vec(),
    );
    dev.land_and_run("clicks", &through);
    let site = dev.site();
    let (output, log) = (site.file("bundle.tar.gz"), site.file("a.log"));
    std::fs::write(&log, "a line\nlogin with hush-hush failed\n").expect("the folder can be written to");
    let (output, log) = (output.to_str().expect("plain"), log.to_str().expect("plain"));
    site.cli(&[
        "support-bundle",
        "--config",
        site.config(),
        "--output",
        output,
        "--log",
        log,
    ])
    .success();
    let file = std::fs::File::open(output).expect("the bundle is there");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut names = Vec::new();
    for entry in archive.entries().expect("the bundle is an archive") {
        let mut entry = entry.expect("the archive is whole");
        let (name, mut text) = (entry.path().expect("a name").display().to_string(), String::new());
        entry.read_to_string(&mut text).expect("a file of the bundle is text");
        assert!(!text.contains("hush-hush"), "{name} tells a secret:\n{text}");
        assert!(!text.contains("not_available"), "{name} could not be had:\n{text}");
        let (_, bare) = name.split_once('/').expect("all files are in one folder");
        match bare {
            "runs.json" => assert!(text.contains("\"published\""), "{text}"),
            "definitions.sql" | "views.sql" => assert!(text.contains("CREATE MATERIALIZED VIEW pages"), "{text}"),
            "logs/a.log" => assert_eq!(text, "a line\nlogin with *** failed\n"),
            _ => {}
        }
        names.push(bare.to_owned());
    }
    for name in [
        "anabranch.toml",
        "views.sql",
        "definitions.sql",
        "doctor.json",
        "leases.json",
        "status.json",
        "runs.json",
        "publications.json",
        "maintenance.json",
        "logs/a.log",
    ] {
        assert!(names.iter().any(|found| found == name), "{name} is not in {names:?}");
    }
    assert_eq!(
        names.iter().filter(|name| name.starts_with("metrics/")).count(),
        3,
        "{names:?}"
    );
}

#[test]
fn shells_get_completions_and_every_command_has_a_page() {
    let site = Site::new(SQL, "");
    for (shell, sign) in [
        ("bash", "complete"),
        ("zsh", "#compdef anabranch"),
        ("fish", "complete -c anabranch"),
    ] {
        let script = site.cli(&["completions", shell]).success().stdout;
        assert!(
            script.contains(sign) && script.contains("dead-letters"),
            "{shell}:\n{script}"
        );
    }
    let dir = site.file("man");
    site.cli(&["man", dir.to_str().expect("plain")]).success();
    for page in [
        "anabranch",
        "anabranch-dev",
        "anabranch-runs-rollback",
        "anabranch-dead-letters-redrive",
    ] {
        let text =
            std::fs::read_to_string(dir.join(format!("{page}.1"))).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(".SH SYNOPSIS"), "{page}:\n{text}");
    }
}

/// Asks the services that are ready, as a load balancer does: a connection that is refused leads to the next. One that breaks
/// before its answer is there is a failure: a service that goes away answers what it has taken.
struct Balancer<'a> {
    members: Vec<Http>,
    events: i64,
    ended: &'a AtomicBool,
    answers: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Balancer<'_> {
    fn run(&self, body: &Value) {
        let mut turn = 0;
        while !self.ended.load(Ordering::Relaxed) {
            turn += 1;
            match self.ask(turn, body) {
                Ok(()) => self.answers.fetch_add(1, Ordering::Relaxed),
                Err(failure) => {
                    self.failures.lock().expect("nobody panics with it").push(failure);
                    0
                }
            };
        }
    }

    fn ask(&self, turn: usize, body: &Value) -> Result<(), String> {
        for member in 0..self.members.len() {
            let http = &self.members[(turn + member) % self.members.len()];
            if http.try_get("/readyz").is_none_or(|reply| reply.status != 200) {
                continue;
            }
            match http.post_unless_refused("/v1/sql", body) {
                Ok(Some(reply)) if reply.status == 200 => return self.check(&Answer::parse(&reply.json())),
                Ok(Some(reply)) => return Err(format!("{}: {}", reply.status, reply.text())),
                Ok(None) => {}
                Err(broken) => return Err(format!("{broken:?}")),
            }
        }
        Err("no service is ready".into())
    }

    /// Workers that restart may be missing from an answer, which says so; one that is exact has everything.
    fn check(&self, answer: &Answer) -> Result<(), String> {
        let is_exact = answer.coverage.values().all(|coverage| coverage.exact);
        if is_exact && answer.integers() != [self.events] {
            return Err(format!("an exact answer is wrong: {answer:?}"));
        }
        Ok(())
    }
}

#[test]
fn rolling_restart_of_every_service_fails_no_query() {
    const TEST: &str = "rolling-restart";
    const EVENTS: i64 = 2_000;
    let Some(backend) = Backend::kafka_and_folder() else {
        return;
    };
    let _gate = gate::heavy();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let topic = format!("{TEST}-{}", std::process::id());
    let sql = format!(
        "CREATE TABLE clicks (time TIMESTAMP NOT NULL, page TEXT) WITH ({}, event_time = 'time');
         CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS clicks FROM clicks GROUP BY page;",
        backend.with(&topic, 4)
    );
    let settings = format!(
        "{}\n[landing]\nmax_age = '300ms'\n[serving]\ndrain = '3s'",
        backend.settings(TEST, Some(folder.path()))
    );
    let mut cluster = Cluster::new(&sql, &settings, 2, 2);
    cluster.start();
    let lines: String = (0..EVENTS)
        .map(|n| format!("{{\"time\": \"2026-01-31T12:00:00Z\", \"page\": \"p{}\"}}\n", n % 7))
        .collect();
    let http = cluster.http();
    let (accepted, through) = http.ingest("clicks", lines.into_bytes());
    assert_eq!(accepted, EVENTS as u64);
    wait_landed(&http, "clicks", &through);
    run_batch(&http);
    let ended = AtomicBool::new(false);
    let balancer = Balancer {
        members: cluster.serve.iter().map(|member| member.http()).collect(),
        events: EVENTS,
        ended: &ended,
        answers: AtomicU64::new(0),
        failures: Mutex::default(),
    };
    let body = json!({"sql": "SELECT sum(clicks) AS clicks FROM pages"});
    std::thread::scope(|scope| {
        let asking = [scope.spawn(|| balancer.run(&body)), scope.spawn(|| balancer.run(&body))];
        let restarted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for member in cluster.members() {
                member.restart();
            }
        }));
        ended.store(true, Ordering::Relaxed);
        asking
            .into_iter()
            .for_each(|thread| thread.join().expect("asking does not panic"));
        restarted.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let failures = balancer.failures.into_inner().expect("nobody panics with it");
    let answers = balancer.answers.load(Ordering::Relaxed);
    println!("{answers} queries while every service was restarted");
    assert!(
        failures.is_empty(),
        "{} of {answers} queries failed: {:#?}",
        failures.len(),
        failures.first()
    );
    assert!(answers > 0, "nothing was asked meanwhile");
    let answer = cluster
        .http()
        .query_at_least("SELECT sum(clicks) AS clicks FROM pages", &through);
    assert_eq!(answer.integers(), [EVENTS]);
}
