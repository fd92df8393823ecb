//! The whole speed path: read, decode, three views, landing with `_raw`, as fast as it goes.
//!
//! ```text
//! cargo bench -p anabranch-speed                          # all cores
//! taskset -c 0 cargo bench -p anabranch-speed             # one core
//! EVENTS=10000000 DECODERS=2 VIEW_BOLTS=2 cargo bench -p anabranch-speed
//! ```
//! The embedded log is filled first; time runs from the start of the worker until every event is visible, and until every
//! event is landed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_catalog::Catalog;
use anabranch_dataset::{MasterDataset, Store};
use anabranch_definitions::Definitions;
use anabranch_log::{IngestLog, Retention};
use anabranch_model::RawRecord;
use anabranch_runtime::{Settings, Shutdown};
use anabranch_speed::{SpeedLayer, SpeedOptions};
use anabranch_view::View;

const PARTITIONS: u32 = 4;
const BATCH: u64 = 20_000;

const VIEWS: &str = r"
CREATE TABLE clicks (ts TIMESTAMP NOT NULL, url TEXT, user_id BIGINT, status BIGINT, ms BIGINT)
WITH (connector = 'log', topic = 'clicks', format = 'json', event_time = 'ts');
CREATE MATERIALIZED VIEW per_page_minute AS
SELECT url, tumble(ts, INTERVAL '1 minute') AS minute, count(*) AS clicks, sum(ms) AS ms, approx_distinct(user_id) AS users
FROM clicks GROUP BY url, minute;
CREATE MATERIALIZED VIEW per_status AS SELECT status, count(*) AS clicks, max(ms) AS slowest FROM clicks GROUP BY status;
CREATE MATERIALIZED VIEW total AS SELECT count(*) AS clicks, sum(ms) AS ms, min(ts) AS first FROM clicks;
";

/// A click of about 113 bytes; pages follow a steep distribution.
fn click(i: u64) -> Vec<u8> {
    let mut x = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 31;
    let page = 1000 / (1 + x % 1000);
    let second = i / 20_000;
    format!(
        r#"{{"ts":"2024-05-01T{:02}:{:02}:{:02}.{:03}Z","url":"/products/item-{page}","user_id":{},"status":{},"ms":{}}}"#,
        second / 3600 % 24,
        second / 60 % 60,
        second % 60,
        i / 20 % 1000,
        x >> 8 & 0xffff,
        if x.is_multiple_of(50) { 404 } else { 200 },
        x >> 24 & 0x3ff
    )
    .into_bytes()
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` and `--list` only want to know that it runs.
    let testing = std::env::args().any(|arg| arg == "--test" || arg == "--list");
    let default = if testing { 40_000 } else { 3_000_000 };
    let events: u64 = from_env("EVENTS").unwrap_or(default);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let log = IngestLog::open(folder.path().join("log")).expect("the log opens");
    let log = log
        .topic("clicks", PARTITIONS, Retention::default())
        .expect("the topic is made");
    let mut bytes = 0;
    for from in (0..events).step_by(usize::try_from(BATCH).expect("a small number")) {
        let record = |i| RawRecord {
            payload: Some(click(i)),
            ..RawRecord::default()
        };
        let records: Vec<_> = (from..(from + BATCH).min(events)).map(record).collect();
        bytes += records
            .iter()
            .filter_map(|record| record.payload.as_ref())
            .map(Vec::len)
            .sum::<usize>();
        log.append(records).await.expect("the log takes records");
    }
    let ends = log.ends().await.expect("the log has ends");

    let url = format!("file://{}", folder.path().join("store").display());
    std::fs::create_dir_all(folder.path().join("store")).expect("the store's folder can be made");
    let store = Store::open(&url, &BTreeMap::new()).expect("the store opens");
    let catalog = Arc::new(Catalog::parse(VIEWS).expect("the views parse"));
    let views = catalog
        .views
        .values()
        .map(|view| View::compile(view).expect("the view compiles"))
        .collect();
    let source = Arc::clone(&catalog.sources["clicks"]);
    let mut settings = Settings::default();
    settings.speed.decoders = from_env("DECODERS").unwrap_or(0);
    settings.speed.view_bolts = from_env("VIEW_BOLTS").unwrap_or(0);
    let shutdown = Shutdown::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let cpu = cpu_seconds();
    let since = Instant::now();
    let handle = SpeedLayer::start(SpeedOptions {
        settings: Arc::new(settings),
        definitions: Arc::new(Definitions::fixed(catalog, Arc::new(views))),
        open_log: None,
        store: store.clone(),
        logs: [("clicks".to_owned(), log)].into(),
        listener,
        worker_id: "bench".into(),
        shutdown: shutdown.clone(),
    })
    .await
    .expect("the speed layer starts");
    let status_url = format!("http://{}/v1/status", handle.address());
    // A batch is one tuple for the decoder and one for each view task.
    let visible = loop {
        let components = components(&status_url).await;
        let number = |component: &str, key: &str| {
            let of = components.iter().find(|stats| stats["component"] == component);
            of.and_then(|stats| stats[key].as_u64()).unwrap_or(0)
        };
        let done = number("view", "executed") == number("decode", "executed") * number("view", "tasks");
        if consumed(&status_url).await == events && done && number("spout", "emitted") == number("decode", "executed") {
            break since.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    for stats in components(&status_url).await {
        let number = |key: &str| stats[key].as_u64().unwrap_or(0);
        println!(
            "  {:<7} {} tasks  {:>5} executed  {:>6} ms busy  {:>6} ms of it waiting to send",
            stats["component"].as_str().unwrap_or_default(),
            number("tasks"),
            number("executed"),
            number("busy_ms"),
            number("blocked_ms")
        );
    }
    shutdown.cancel();
    handle.stopped().await.expect("it stops in order");
    let landed = since.elapsed();
    let cpu = cpu_seconds() - cpu;
    let dataset = MasterDataset::open_existing(&store, &source)
        .await
        .expect("the dataset opens")
        .expect("it is there");
    let snapshot = dataset.snapshot(None).await.expect("it has a snapshot");
    assert_eq!(snapshot.next, ends, "everything is landed");
    let file_bytes: u64 = snapshot.files.iter().map(|file| file.bytes).sum();
    let rate = |elapsed: Duration| events as f64 / elapsed.as_secs_f64() / 1e6;
    println!(
        "speed path, {events} events, {:.1} bytes each, three views, landed with _raw (zstd)",
        bytes as f64 / events as f64
    );
    println!(
        "  visible  {:6.2} s  {:5.2} M events/s  {:6.1} MB/s",
        visible.as_secs_f64(),
        rate(visible),
        bytes as f64 / visible.as_secs_f64() / 1e6
    );
    println!(
        "  landed   {:6.2} s  {:5.2} M events/s  {:6.1} MB/s",
        landed.as_secs_f64(),
        rate(landed),
        bytes as f64 / landed.as_secs_f64() / 1e6
    );
    println!(
        "  CPU      {cpu:6.2} s  {:5.2} M events/s per core",
        events as f64 / cpu / 1e6
    );
    println!(
        "  files    {} of {:.1} MB in all; peak memory {} MB",
        snapshot.files.len(),
        file_bytes as f64 / 1e6,
        peak_memory_mb()
    );
}

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

async fn status(url: &str) -> serde_json::Value {
    let answer = reqwest::get(url).await.expect("it answers");
    answer.json().await.expect("the status is JSON")
}

async fn components(url: &str) -> Vec<serde_json::Value> {
    status(url).await["sources"]["clicks"]["topology"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

async fn consumed(url: &str) -> u64 {
    status(url).await["sources"]["clicks"]["events_consumed"]
        .as_u64()
        .unwrap_or(0)
}

/// User and system time of this process, in seconds (Linux; 100 ticks a second).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn peak_memory_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    peak.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}
