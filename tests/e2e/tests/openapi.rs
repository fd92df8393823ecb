//! The OpenAPI document and the serving port agree: by a fuzzer that reads the one and asks the other, and method by method.

use std::process::Command;

use anabranch_e2e::{Dev, gate, python};
use anabranch_testkit::fuzz;
use serde_json::Value;

/// Tables and views that the document's examples name.
const SQL: &str = "
CREATE TABLE clicks (time TIMESTAMP NOT NULL, session TEXT, page TEXT, duration_ms BIGINT)
WITH (connector = 'log', event_time = 'time', partitions = 1);
CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS clicks, avg(duration_ms) AS avg_ms FROM clicks GROUP BY page;
";

const FUZZER: &str = "schemathesis==4.32.5";

/// What the fuzzer must not find: an answer of 500, a status or type that is not documented, a body of another shape. 503 and 504
/// are documented answers of a healthy platform to demands that it cannot meet yet, such as `at_least` of the far future.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
const SETTINGS: &str = "
[checks.not_a_server_error]
expected-statuses = ['2xx', '3xx', '4xx', 503, 504]
";
/// Cases per operation: enough to leave the beaten track, few enough for every run of CI. The seed makes them the same each time;
/// [`fuzz`] says how to have more, and others.
const CASES: u32 = 25;
const SEED: u64 = 20_260_131;

const METHODS: [&str; 5] = ["get", "post", "put", "delete", "patch"];

fn start() -> Dev {
    let dev = Dev::start(SQL, "[landing]\nmax_age = '200ms'");
    let lines =
        "{\"time\": \"2026-01-31T12:00:00Z\", \"session\": \"s\", \"page\": \"/\", \"duration_ms\": 5}\nno JSON\n";
    let through = dev.ingest("clicks", lines.as_bytes().to_vec());
    // Something of everything: a publication, a dead letter, an exclusion.
    dev.land_and_run("clicks", &through);
    dev
}

#[test]
fn a_fuzzer_finds_the_api_as_its_document_says() {
    const TEST: &str = "a_fuzzer_finds_the_api_as_its_document_says";
    let python = match python::with("schemathesis", &[FUZZER]) {
        Ok(python) => python,
        Err(reason) => return gate::skip(TEST, &format!("no schemathesis: {reason}")),
    };
    let _gate = gate::heavy();
    let dev = start();
    let config = dev.site().file("schemathesis.toml");
    std::fs::write(&config, SETTINGS).expect("the folder can be written to");
    let fuzzer = python
        .parent()
        .expect("an interpreter lies in a folder")
        .join("schemathesis");
    let output = Command::new(fuzzer)
        .current_dir(dev.site().path())
        .arg("--config-file")
        .arg(&config)
        .arg("--no-color")
        .args(["run", &format!("{}/openapi.json", dev.http().base())])
        .args(["--checks", CHECKS, "--max-examples", &fuzz::cases(CASES).to_string()])
        .args(["--seed", &fuzz::seed().unwrap_or(SEED).to_string()])
        .args([
            "--phases",
            "examples,coverage,fuzzing",
            "--suppress-health-check",
            "all",
        ])
        // A stream that ends with the service; it has tests of its own.
        .args(["--exclude-path", "/v1/views/{view}/live"])
        // A stream of events has no end to wait for; a test of its own reads it.
        .args(["--exclude-path-regex", "/live$"])
        .args(["--request-timeout", "120", "--continue-on-failure"])
        .output()
        .expect("the fuzzer can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Nobody was left hanging. What is served may have changed: the fuzzer may apply definitions, too.
    dev.http().get("/readyz").expect(200);
    dev.http().get("/v1/views").expect(200);
}

#[test]
fn every_documented_method_is_taken_and_no_other() {
    let _gate = gate::heavy();
    let dev = start();
    let document = dev.http().get("/openapi.json").expect(200).json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("the document has paths");
    for (path, item) in paths {
        // Names that are nowhere: what is asked for does not exist, but the path does.
        let asked: Vec<&str> = path
            .split('/')
            .map(|part| if part.starts_with('{') { "7" } else { part })
            .collect();
        let asked = asked.join("/");
        for method in METHODS {
            let status = dev.http().status_of(method, &asked);
            let documented = item.get(method).is_some_and(Value::is_object);
            assert_eq!(status != 405, documented, "{method} {asked} is answered with {status}");
        }
    }
}
