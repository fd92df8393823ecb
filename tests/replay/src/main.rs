//! End-to-end measurements of one process, on data it generates itself.
//!
//! ```text
//! cargo run --release -p anabranch-replay -- all
//! taskset -c 0 cargo run --release -p anabranch-replay -- speed-path --events 3000000
//! ```
//! Figures are of the whole process, with the embedded log and a local folder; peak memory is `VmHWM` of the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch::client::Client;
use anabranch::platform::{AllLayers, Platform, bind};
use anabranch_dataset::MasterDataset;
use anabranch_log::PartitionedLog;
use anabranch_model::RawRecord;
use anabranch_runtime::{Settings, Shutdown, telemetry};
use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};

mod compaction;
mod events;
mod point_queries;
mod recompute;
mod recovery;

use events::{Events, TABLE_SQL, VIEWS_SQL};

#[derive(Parser)]
#[command(about = "End-to-end measurements of Anabranch on generated events")]
struct Args {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Measure {
    /// Log → decode → three views → landing with `_raw`: events/s until everything has landed.
    SpeedPath {
        #[arg(long, default_value_t = 3_000_000)]
        events: u64,
    },
    /// Log → decode → landing with `_raw`, without any view: what landing costs.
    Landing {
        #[arg(long, default_value_t = 3_000_000)]
        events: u64,
    },
    /// A batch run over landed events, against one plain DataFusion query over the same Parquet files.
    Recompute {
        #[arg(long, default_value_t = 5_000_000)]
        events: u64,
    },
    /// Batch runs before and after many small files are merged while landing goes on.
    Compaction {
        #[arg(long, default_value_t = 2_000)]
        files: usize,
        /// Events of each file.
        #[arg(long, default_value_t = 500)]
        events: u64,
    },
    /// Merged point queries over HTTP: latency.
    PointQuery {
        #[arg(long, default_value_t = 500_000)]
        events: u64,
        #[arg(long, default_value_t = 2_000)]
        queries: u32,
    },
    /// Point queries of many clients at once on a large view, while events come in.
    PointQueries(point_queries::Options),
    /// From acknowledged event to an answer that includes it, under load.
    Latency {
        #[arg(long, default_value_t = 20_000)]
        rate: u64,
        #[arg(long, default_value_t = 15)]
        seconds: u64,
    },
    /// A worker is killed: how long until answers are exact again, against the number of events since the last publication.
    Recovery {
        /// Numbers of events to measure with.
        #[arg(long, value_delimiter = ',', default_values_t = [100_000, 500_000, 1_000_000, 2_000_000, 4_000_000])]
        events: Vec<u64>,
    },
    /// Plays the process that is killed.
    #[command(hide = true)]
    RecoveryChild { folder: std::path::PathBuf, fill: u64 },
    /// All of the above, each in a process of its own.
    All,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.measure {
            Measure::SpeedPath { events } => {
                speed_path(VIEWS_SQL, "decode, three views, landing with _raw", events).await
            }
            Measure::Landing { events } => speed_path(TABLE_SQL, "decode, landing with _raw, no view", events).await,
            Measure::Recompute { events } => recompute::run(events).await,
            Measure::Compaction { files, events } => compaction::run(files, events).await,
            Measure::PointQuery { events, queries } => point_query(events, queries).await,
            Measure::PointQueries(options) => point_queries::run(options).await,
            Measure::Latency { rate, seconds } => latency(rate, seconds).await,
            Measure::Recovery { events } => recovery::run(&events).await,
            Measure::RecoveryChild { folder, fill } => recovery::child(&folder, fill).await,
            Measure::All => all(),
        }
    })
}

fn all() -> Result<()> {
    for name in [
        "speed-path",
        "landing",
        "recompute",
        "compaction",
        "point-query",
        "point-queries",
        "latency",
        "recovery",
    ] {
        let status = std::process::Command::new(std::env::current_exe()?)
            .arg(name)
            .status()?;
        ensure!(status.success(), "{name} failed");
    }
    Ok(())
}

/// A platform in a temporary folder, on free loopback ports.
pub struct Bench {
    pub platform: Platform,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub fn new(sql: &str) -> Result<Self> {
        Self::with(sql, |_| {})
    }

    /// As [`new`](Self::new), with settings of its own.
    pub fn with(sql: &str, change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut settings = Settings::default();
        change(&mut settings);
        settings.speed.listen = "127.0.0.1:0".into();
        settings.batch.listen = "127.0.0.1:0".into();
        settings.serving.listen = "127.0.0.1:0".into();
        settings.telemetry.log = "warn".into();
        settings.resolve(dir.path());
        telemetry::init(&settings.telemetry, "replay")?;
        Ok(Self {
            platform: Platform::new(settings, sql, "views.sql")?,
            _dir: dir,
        })
    }
}

/// Fills the log with `count` events; returns their bytes.
pub async fn fill(log: &Arc<dyn PartitionedLog>, events: &mut Events, count: u64) -> Result<u64> {
    let (mut done, mut bytes) = (0, 0);
    while done < count {
        let records: Vec<RawRecord> = (0..(count - done).min(50_000))
            .map(|_| RawRecord {
                payload: Some(events.line()),
                ..RawRecord::default()
            })
            .collect();
        done += records.len() as u64;
        bytes += records
            .iter()
            .filter_map(|r| r.payload.as_ref())
            .map(|p| p.len() as u64)
            .sum::<u64>();
        log.append(records).await?;
    }
    Ok(bytes)
}

async fn speed_path(sql: &str, what: &str, count: u64) -> Result<()> {
    let bench = Bench::new(sql)?;
    let store = bench.platform.store().await?;
    let opener = bench.platform.opener();
    let logs = bench.platform.logs(&opener).await?;
    let log = Arc::clone(&logs["clicks"]);
    let began = Instant::now();
    let bytes = fill(&log, &mut Events::new(1), count).await?;
    report("append to the embedded log", count, bytes, began.elapsed());

    let cpu = cpu_seconds();
    let shutdown = Shutdown::new();
    let began = Instant::now();
    let layer = bench
        .platform
        .speed(
            &store,
            (logs, opener),
            bind("127.0.0.1:0", "speed.listen").await?,
            &shutdown,
        )
        .await?;
    landed(&bench.platform, &store, count).await?;
    let elapsed = began.elapsed();
    let cpu = cpu_seconds() - cpu;
    report(&format!("speed path: {what}"), count, bytes, elapsed);
    println!(
        "  {:.2} cores busy, {:.0} events/s per busy core, peak memory of the process {} MiB",
        cpu / elapsed.as_secs_f64(),
        count as f64 / cpu,
        peak_memory_mib()
    );
    shutdown.cancel();
    layer.stopped().await?;
    Ok(())
}

/// Waits until `count` events have landed.
pub async fn landed(platform: &Platform, store: &anabranch_dataset::Store, count: u64) -> Result<()> {
    let source = platform.source("clicks")?;
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        if let Some(dataset) = MasterDataset::open_existing(store, source).await? {
            let next: i64 = dataset.snapshot(None).await?.next.iter().map(|(_, next)| next.0).sum();
            if next as u64 >= count {
                return Ok(());
            }
        }
        ensure!(Instant::now() < deadline, "the events did not land within ten minutes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn point_query(count: u64, queries: u32) -> Result<()> {
    let bench = Bench::new(VIEWS_SQL)?;
    let shutdown = Shutdown::new();
    let layers = AllLayers::start(&bench.platform, &shutdown).await?;
    let client = Client::at(&layers.address().to_string());
    let log = Arc::clone(&layers.logs["clicks"]);
    let mut events = Events::new(2);
    fill(&log, &mut events, count / 2).await?;
    landed(&bench.platform, &layers.store, count / 2).await?;
    batch_run(&client).await?;
    fill(&log, &mut events, count - count / 2).await?;
    let through = log.ends().await?;
    let topic = log.topic();
    let at_least: serde_json::Map<String, Value> = through
        .iter()
        .map(|(p, next)| (anabranch_model::topic_partition(topic, p), next.0.into()))
        .collect();
    let body = json!({"sql": "SELECT count(*) FROM pages", "at_least": at_least, "timeout": "60s"});
    client.sql(&body, "application/json").await?;

    let mut taken = Vec::new();
    for i in 0..queries {
        let path = format!(
            "/v1/views/per_action/rows?action={}",
            events::ACTIONS[i as usize % events::ACTIONS.len()]
        );
        let began = Instant::now();
        let answer = client.get(&path).await?;
        taken.push(began.elapsed());
        ensure!(answer["row_count"] == 1, "a point query answered {answer}");
    }
    percentiles(
        "merged point query (HTTP, one connection, half batch and half realtime)",
        &mut taken,
    );
    let mut taken = Vec::new();
    for i in 0..queries {
        let path = format!("/v1/views/pages/rows?page=%2Fproduct%2F{}", 1 + i % 200);
        let began = Instant::now();
        client.get(&path).await?;
        taken.push(began.elapsed());
    }
    percentiles(
        "merged query of one page, every minute (count, sum, approx_distinct)",
        &mut taken,
    );
    shutdown.cancel();
    layers.stopped().await
}

/// Starts a batch run and waits until it has published; returns its record.
pub async fn batch_run(client: &Client) -> Result<Value> {
    let id = client.post("/v1/batch/runs", &json!({})).await?["run_id"]
        .as_str()
        .context("no run id")?
        .to_owned();
    loop {
        let run = client.get(&format!("/v1/batch/runs/{id}")).await?;
        match run["state"].as_str() {
            Some("published") => return Ok(run),
            Some("failed") => anyhow::bail!("the run failed: {}", run["error"]),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn latency(rate: u64, seconds: u64) -> Result<()> {
    let bench = Bench::new(VIEWS_SQL)?;
    let shutdown = Shutdown::new();
    let layers = AllLayers::start(&bench.platform, &shutdown).await?;
    let client = Client::at(&layers.address().to_string());
    let log = Arc::clone(&layers.logs["clicks"]);
    let mut events = Events::new(3);
    let (began, mut produced, mut taken) = (Instant::now(), 0_u64, Vec::new());
    let producer = {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            while began.elapsed() < Duration::from_secs(seconds) {
                tick.tick().await;
                let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
                let records = (produced..due).map(|_| RawRecord {
                    payload: Some(events.line()),
                    ..RawRecord::default()
                });
                let records: Vec<RawRecord> = records.collect();
                produced = due;
                if !records.is_empty() {
                    log.append(records).await?;
                }
            }
            anyhow::Ok(produced)
        })
    };
    let mut probe = Events::new(4);
    while began.elapsed() < Duration::from_secs(seconds) {
        let sent = Instant::now();
        let through = log
            .append(vec![RawRecord {
                payload: Some(probe.line()),
                ..RawRecord::default()
            }])
            .await?;
        let acknowledged = sent.elapsed();
        let at_least: serde_json::Map<String, Value> = through
            .iter()
            .map(|(p, n)| (anabranch_model::topic_partition(log.topic(), p), n.0.into()))
            .collect();
        let body = json!({"sql": "SELECT clicks FROM per_action LIMIT 1", "at_least": at_least, "timeout": "10s"});
        client.sql(&body, "application/json").await?;
        taken.push((acknowledged, sent.elapsed()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let produced = producer.await??;
    println!(
        "event-to-answer at {} events/s, {} probes",
        produced / seconds,
        taken.len()
    );
    percentiles(
        "  produce, durably acknowledged",
        &mut taken.iter().map(|t| t.0).collect::<Vec<_>>(),
    );
    percentiles(
        "  produce to answer",
        &mut taken.iter().map(|t| t.1).collect::<Vec<_>>(),
    );
    println!("  peak memory of the process {} MiB", peak_memory_mib());
    shutdown.cancel();
    layers.stopped().await
}

pub fn report(what: &str, events: u64, bytes: u64, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64();
    println!(
        "{what}\n  {events} events in {seconds:.2} s: {:.2} M events/s, {:.0} MB/s",
        events as f64 / seconds / 1e6,
        bytes as f64 / seconds / 1e6
    );
}

fn percentiles(what: &str, taken: &mut [Duration]) {
    taken.sort_unstable();
    let at = |q: f64| taken[((taken.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    println!(
        "{what}: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

/// User and system time of this process so far, in seconds.
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
    // Fields 14 and 15 of proc(5), in clock ticks of 1/100 s; the name and pid before them are cut off.
    (ticks(11) + ticks(12)) / 100.0
}

/// The most resident memory this process ever had, in MiB.
pub fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1024
}
