//! Point queries under load: many clients at once, on a view of many groups, while events come in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anabranch::client::Client;
use anabranch::platform::AllLayers;
use anabranch_log::PartitionedLog;
use anabranch_model::RawRecord;
use anabranch_runtime::{ByteSize, Shutdown};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{Bench, batch_run, cpu_seconds, landed, peak_memory_mib};

const SQL: &str = r#"
CREATE TABLE clicks (
  ts TIMESTAMP NOT NULL, "user" TEXT, ms BIGINT
) WITH (connector = 'log', topic = 'clicks', format = 'json', event_time = 'ts', partitions = 4);

CREATE MATERIALIZED VIEW users AS
SELECT "user", count(*) AS clicks, sum(ms) AS ms, max(ts) AS last FROM clicks GROUP BY "user";
"#;

/// What is measured, and with how much.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// Groups of the view; each has one event in the batch view.
    #[arg(long, default_value_t = 1_000_000)]
    pub groups: u64,
    /// Clients, each with one query at a time.
    #[arg(long, default_value_t = 64)]
    pub clients: u64,
    /// Events per second that come in meanwhile.
    #[arg(long, default_value_t = 20_000)]
    pub rate: u64,
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// `[serving] state_memory`, in MiB: below the size of the view, groups are read from a local file.
    #[arg(long, default_value_t = 2048)]
    pub state_memory_mib: u64,
}

/// How long events come in without queries, so that what they cost can be told from what queries cost.
const ALONE: Duration = Duration::from_secs(5);

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").
struct Draw(u64);

impl Draw {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % limit
    }
}

fn event(user: u64, ms: u64) -> RawRecord {
    let line = format!(r#"{{"ts":"2026-01-01T00:00:00Z","user":"u{user:09}","ms":{ms}}}"#);
    RawRecord {
        payload: Some(line.into_bytes()),
        ..RawRecord::default()
    }
}

/// What one client met.
#[derive(Default)]
struct Met {
    /// By kind of query.
    taken: BTreeMap<&'static str, Vec<Duration>>,
    failed: Vec<String>,
}

/// Measures and prints.
///
/// # Errors
/// When any query failed, or answered something else than its one group.
pub async fn run(options: Options) -> Result<()> {
    let bench = Bench::with(SQL, |settings| {
        settings.serving.state_memory = ByteSize::mib(options.state_memory_mib);
    })?;
    let shutdown = Shutdown::new();
    let layers = AllLayers::start(&bench.platform, &shutdown).await?;
    let base = format!("http://{}", layers.address());
    let log = Arc::clone(&layers.logs["clicks"]);
    let began = Instant::now();
    let mut next = 0;
    while next < options.groups {
        let end = (next + 50_000).min(options.groups);
        log.append((next..end).map(|user| event(user, user % 30_000)).collect())
            .await?;
        next = end;
    }
    landed(&bench.platform, &layers.store, options.groups).await?;
    batch_run(&Client::at(&base)).await?;
    let number = adopted(&Client::at(&base)).await?;
    println!(
        "{} groups in the batch view after {:.1} s (publication {number}); {} clients, {} events/s, {} s",
        options.groups,
        began.elapsed().as_secs_f64(),
        options.clients,
        options.rate,
        options.seconds
    );

    let (stop, produced) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let producer = tokio::spawn(produce(log, options, Arc::clone(&stop), Arc::clone(&produced)));
    let (began, cpu) = (Instant::now(), cpu_seconds());
    tokio::time::sleep(ALONE).await;
    let ingest = (cpu_seconds() - cpu) / began.elapsed().as_secs_f64();
    let before = produced.load(Ordering::Relaxed);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let clients: Vec<_> = (0..options.clients)
        .map(|number| tokio::spawn(ask(base.clone(), number, options, began)))
        .collect();
    let mut all = Met::default();
    for client in clients {
        let met = client.await?;
        for (kind, taken) in met.taken {
            all.taken.entry(kind).or_default().extend(taken);
        }
        all.failed.extend(met.failed);
    }
    let elapsed = began.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu;
    let events = produced.load(Ordering::Relaxed) - before;
    stop.store(true, Ordering::Relaxed);
    producer.await??;

    let queries: usize = all.taken.values().map(Vec::len).sum();
    println!(
        "  {:.0} queries/s, {:.0} events/s came in, {} failed, peak memory of the process {} MiB",
        queries as f64 / elapsed,
        events as f64 / elapsed,
        all.failed.len(),
        peak_memory_mib()
    );
    println!(
        "  CPU: {:.2} cores, {ingest:.2} of them before there were queries; {:.2} ms for each query, its client included",
        cpu / elapsed,
        (cpu - ingest * elapsed) / queries.max(1) as f64 * 1e3
    );
    for (kind, taken) in &mut all.taken {
        report(kind, taken);
    }
    let mut together: Vec<Duration> = all.taken.into_values().flatten().collect();
    report("all", &mut together);
    ensure!(all.failed.is_empty(), "queries failed, such as: {}", all.failed[0]);
    ensure!(queries > 0, "no query was answered");
    shutdown.cancel();
    layers.stopped().await
}

/// Waits until serving has a publication; returns its number.
async fn adopted(client: &Client) -> Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let status = client.get("/v1/status").await?;
        if let Some(number) = status["publication"]["number"].as_u64().filter(|number| *number > 0) {
            return Ok(number);
        }
        ensure!(Instant::now() < deadline, "the publication is not adopted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn produce(
    log: Arc<dyn PartitionedLog>,
    options: Options,
    stop: Arc<AtomicBool>,
    produced: Arc<AtomicU64>,
) -> Result<()> {
    let (began, mut draw, mut done) = (Instant::now(), Draw::new(7), 0);
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let due = (began.elapsed().as_secs_f64() * options.rate as f64) as u64;
        let records: Vec<RawRecord> = (done..due)
            .map(|_| event(draw.below(options.groups), draw.below(30_000)))
            .collect();
        done = due;
        if !records.is_empty() {
            log.append(records).await?;
        }
        produced.store(done, Ordering::Relaxed);
    }
    Ok(())
}

/// One client: half of its queries in SQL, half through `rows`.
async fn ask(base: String, number: u64, options: Options, began: Instant) -> Met {
    let (client, mut draw, mut met) = (Client::at(&base), Draw::new(1_000 + number), Met::default());
    let until = Duration::from_secs(options.seconds);
    let mut turn = number;
    while began.elapsed() < until {
        turn += 1;
        let user = format!("u{:09}", draw.below(options.groups));
        let sent = Instant::now();
        let (kind, answer) = if turn.is_multiple_of(2) {
            let body = json!({"sql": "SELECT * FROM users WHERE \"user\" = $1", "parameters": [user]});
            ("SQL", client.post("/v1/sql", &body).await)
        } else {
            ("rows", client.get(&format!("/v1/views/users/rows?user={user}")).await)
        };
        let taken = sent.elapsed();
        match answer.map(|answer| wrong(&answer, &user)) {
            Ok(None) => met.taken.entry(kind).or_default().push(taken),
            Ok(Some(wrong)) => met.failed.push(wrong),
            Err(error) => met.failed.push(format!("{error:#}")),
        }
    }
    met
}

/// What is wrong with the answer about a group that is surely there.
fn wrong(answer: &Value, user: &str) -> Option<String> {
    let rows = answer["rows"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    let right = rows.len() == 1 && rows[0][0] == user && rows[0][1].as_i64().is_some_and(|clicks| clicks >= 1);
    (!right).then(|| format!("{user} answered {answer}"))
}

fn report(what: &str, taken: &mut [Duration]) {
    taken.sort_unstable();
    let at = |q: f64| {
        let index = ((taken.len().saturating_sub(1)) as f64 * q) as usize;
        taken.get(index).map_or(0.0, |taken| taken.as_secs_f64() * 1e3)
    };
    println!(
        "  {what}: {} queries, p50 {:.2} ms, p99 {:.2} ms, p999 {:.2} ms, max {:.2} ms",
        taken.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}
