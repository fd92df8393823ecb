//! An object store that does not answer when services start, and one that does not let them in.

use std::time::Duration;

use anabranch_e2e::dev::{run_batch, wait_landed};
use anabranch_e2e::{Backend, Http, Process, Site, data, gate, until};
use anabranch_testkit::servers::{self, S3Server};
use serde_json::json;

const SQL: &str = "
CREATE TABLE ticks (at TIMESTAMP NOT NULL, n BIGINT) WITH (connector = 'log', event_time = 'at', partitions = 1);
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS ticks, sum(n) AS n FROM ticks;
";
const SERVICES: [&str; 3] = ["speed", "batch", "serve"];
/// Ends a hang.
const WITHIN: Duration = Duration::from_secs(120);

/// A server of the test's own; it ends with this process.
fn own_s3(test: &str) -> Option<&'static S3Server> {
    match S3Server::provision_and_start() {
        Ok(s3) => Some(Box::leak(Box::new(s3))),
        Err(reason) => {
            servers::skip(&format!("{test}: {reason}"));
            None
        }
    }
}

/// Why a service is not ready, once it answers at all.
fn not_ready(process: &mut Process, http: &Http) -> Option<String> {
    if let Some(status) = process.ended() {
        panic!("it ended with {status} instead of waiting\n{}", process.tail());
    }
    let reply = http.try_get("/readyz")?;
    assert_eq!(reply.status, 503, "{}", reply.text());
    Some(reply.error(503).1)
}

#[test]
fn services_that_start_while_the_store_is_away_wait_and_say_so() {
    let Some(s3) = own_s3("services_that_start_while_the_store_is_away_wait_and_say_so") else {
        return;
    };
    let _gate = gate::heavy();
    let settings = Backend::log_and(s3).settings("away", None);
    let site = Site::new(SQL, &format!("{settings}\n[landing]\nmax_age = '100ms'"));
    s3.stop();
    let mut processes = SERVICES.map(|service| site.spawn(service));
    for (service, process) in SERVICES.iter().zip(&mut processes) {
        let http = site.http_of(service);
        let reason = until(&format!("`{service}` says what it waits for"), WITHIN, || {
            not_ready(process, &http)
        });
        assert!(
            reason.contains(service) && reason.contains("the object store"),
            "{service}: {reason}"
        );
        assert_eq!(http.get("/healthz").expect(200).json()["status"], "ok");
    }
    // One that is not wanted any more ends in order, store or no store.
    assert!(processes[2].terminate().success(), "{}", processes[2].tail());
    processes[2] = site.spawn("serve");

    s3.restart().expect("the store comes back");
    for (service, process) in SERVICES.iter().zip(&mut processes) {
        site.ready(service, process);
        assert!(
            process.stderr().contains("waits for its object store"),
            "{}",
            process.tail()
        );
    }
    let http = site.http();
    until("serving knows the speed layer", WITHIN, || {
        (http.status()["sources"]["ticks"]["partitions"].as_object()?.len() == 1).then_some(())
    });
    let line = |n: i64| json!({"at": "2024-01-01T00:00:00Z", "n": n}).to_string();
    let (_, through) = http.ingest("ticks", data::ndjson((0..100).map(line)));
    let check = |moment: &str| {
        let answer = http.query_at_least("SELECT ticks, n FROM totals", &through);
        assert_eq!(answer.integers(), [100, 4_950], "{moment}");
    };
    check("realtime");
    wait_landed(&http, "ticks", &through);
    run_batch(&http);
    check("recomputed");
}

#[test]
fn a_store_that_lets_nobody_in_is_an_error_that_says_what_to_change() {
    let Some(s3) = servers::s3() else { return };
    let settings = Backend::log_and(s3).settings("refused", None);
    let refusal = |service: &str, settings: &str| {
        let site = Site::new(SQL, settings);
        site.cli(&[service, "--config", site.config()]).refused().stderr
    };
    let secret = s3.options["aws_secret_access_key"].as_str();
    for service in SERVICES {
        let said = refusal(service, &settings.replace(secret, "wrong"));
        for part in ["storage.url = s3://", "aws_secret_access_key", "[storage.options]"] {
            assert!(said.contains(part), "{service}: no `{part}` in {said}");
        }
        assert!(!said.contains(secret), "{service}: {said}");
    }
    let said = refusal("dev", &settings.replace(&s3.url, "s3://no-such-bucket"));
    for part in ["s3://no-such-bucket", "no such bucket", "[storage]"] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
}
