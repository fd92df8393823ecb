//! One embedded log, one process: the second is refused at the lock, and producers go through the first one's HTTP.

use anabranch_e2e::dev::acknowledged;
use anabranch_e2e::{Dev, Site, data, gate};
use serde_json::json;

const SQL: &str = "
CREATE TABLE ticks (at TIMESTAMP NOT NULL, n BIGINT) WITH (connector = 'log', event_time = 'at', partitions = 1);
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS ticks, sum(n) AS n FROM ticks;
";

fn ticks(range: std::ops::Range<i64>) -> Vec<u8> {
    data::ndjson(range.map(|n| json!({"at": "2024-01-01T00:00:00Z", "n": n}).to_string()))
}

#[test]
fn the_second_process_on_an_embedded_log_is_refused() {
    let _gate = gate::heavy();
    let mut dev = Dev::start(SQL, "");
    // Ports of its own, so that nothing but the log is in its way.
    let anabranch = dev.site().file(".anabranch");
    let shared = format!(
        "[storage]\nurl = 'file://{0}/store'\n[ingest_log]\ndir = '{0}/log'",
        anabranch.display()
    );
    let second = Site::new(SQL, &shared);
    for service in ["dev", "speed"] {
        let output = second.cli(&[service, "--config", second.config()]).refused();
        let holder = format!("process {}", dev.process().id());
        assert!(
            output.stderr.contains(&holder),
            "{service}: the error names who holds the log: {}",
            output.stderr
        );
        assert!(
            output.stderr.contains("log"),
            "{service}: the error names the folder: {}",
            output.stderr
        );
    }

    // Producing goes through the process that holds it.
    let ingest = |site: &Site, lines: Vec<u8>| {
        site.cli_with_input(&["ingest", "ticks", "-", "--config", site.config()], &lines)
            .success()
    };
    let output = ingest(dev.site(), ticks(0..100));
    assert!(
        output.stderr.contains("another process holds the embedded log"),
        "{}",
        output.stderr
    );
    let (events, through) = acknowledged(&output);
    assert_eq!((events, through.values().sum::<i64>()), (100, 100));
    assert_eq!(
        dev.query_at_least("SELECT ticks, n FROM totals", &through).integers(),
        [100, 4_950]
    );

    // Without it, straight into the log; it is there when the process comes back.
    dev.kill9();
    let output = ingest(dev.site(), ticks(100..200));
    assert!(!output.stderr.contains("another process"), "{}", output.stderr);
    let (events, through) = acknowledged(&output);
    assert_eq!((events, through.values().sum::<i64>()), (100, 200));
    dev.restart();
    assert_eq!(
        dev.query_at_least("SELECT ticks, n FROM totals", &through).integers(),
        [200, 19_900]
    );
}
