//! `anabranch demo`: the whole platform on generated clicks, with the generator's truth beside every answer.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_log::PartitionedLog;
use anabranch_model::{OffsetVector, RawRecord, topic_partition};
use anabranch_runtime::{Settings, Shutdown, telemetry};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::args::Demo;
use crate::client::{Client, reachable};
use crate::output::{self, count_cell, thousands};
use crate::platform::{AllLayers, Platform};
use check::{Checked, check};
use clicks::{Clicks, TABLE, VIEWS_SQL};

mod check;
pub mod clicks;

/// How often events are produced.
const TICK: Duration = Duration::from_millis(50);
/// How often every group of every view is compared with the truth.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// When batch runs start: every 15 seconds.
const SCHEDULE: &str = "*/15 * * * * *";

/// Runs the demo until it is stopped, or for `--for`.
pub async fn run(args: Demo) -> Result<ExitCode> {
    let (dir, _temporary) = folder(&args)?;
    let mut settings = Settings::default();
    settings.serving.listen.clone_from(&args.listen);
    settings.speed.listen = "127.0.0.1:0".into();
    settings.batch.listen = "127.0.0.1:0".into();
    settings.batch.schedule = Some(SCHEDULE.into());
    settings.telemetry.log = "warn".into();
    settings.resolve(&dir);
    telemetry::init(&settings.telemetry, "demo")?;

    let shutdown = Shutdown::new();
    shutdown.on_signals().context("cannot listen for signals")?;
    let platform = Platform::new(settings, VIEWS_SQL, "views.sql")?;
    let layers = AllLayers::start(&platform, &shutdown).await?;
    let client = Client::at(&reachable(&layers.address().to_string()));
    let log = Arc::clone(layers.logs.get(TABLE).context("the demo's table has a log")?);

    println!(
        "anabranch demo: speed, batch and serving layer in this process; data in {}",
        dir.display()
    );
    let program = std::env::args().next().unwrap_or_else(|| "anabranch".into());
    let base = client.base();
    println!("  look  {base}/  (the console)");
    println!("  API   {base}");
    println!("  try   curl -s '{base}/v1/views/pages/rows?order=-clicks&limit=5'");
    println!(
        "  or    {program} query --url {base} 'SELECT page, clicks, visitors FROM pages ORDER BY clicks DESC LIMIT 5'"
    );
    println!(
        "  every {CHECK_EVERY:?} each group of each view is compared with the generator's own truth; Ctrl-C ends\n"
    );

    let mut session = Session::new(&args, client, log);
    let outcome = tokio::select! {
        outcome = session.drive(args.duration.map(|d| *d)) => outcome,
        () = shutdown.cancelled() => Ok(()),
    };
    let verdict = match outcome {
        Ok(()) if args.duration.is_some() && !shutdown.is_cancelled() => session.finish().await,
        other => other.map(|()| true),
    };
    shutdown.cancel();
    layers.stopped().await?;
    Ok(if verdict? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The demo's folder: new, so that the truth is the whole truth; temporary unless it is to be kept.
fn folder(args: &Demo) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    if let Some(dir) = &args.keep {
        let used = dir.read_dir().is_ok_and(|mut entries| entries.next().is_some());
        ensure!(!used, "{} is not empty; the demo needs a new folder", dir.display());
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        return Ok((dir.clone(), None));
    }
    let temporary = tempfile::Builder::new()
        .prefix("anabranch-demo-")
        .tempdir()
        .context("cannot create a folder")?;
    Ok((temporary.path().to_path_buf(), Some(temporary)))
}

/// One run of the generator against the platform.
struct Session {
    client: Client,
    log: Arc<dyn PartitionedLog>,
    clicks: Clicks,
    rate: u32,
    produced: u64,
    through: OffsetVector,
    began: Instant,
    checks: u64,
    wrong: u64,
    lines_drawn: usize,
}

impl Session {
    fn new(args: &Demo, client: Client, log: Arc<dyn PartitionedLog>) -> Self {
        Self {
            client,
            log,
            clicks: Clicks::new(args.seed),
            rate: args.rate,
            produced: 0,
            through: OffsetVector::new(),
            began: Instant::now(),
            checks: 0,
            wrong: 0,
            lines_drawn: 0,
        }
    }

    /// Produces, compares and draws until `duration` is over.
    async fn drive(&mut self, duration: Option<Duration>) -> Result<()> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut checked_at, mut printed_at) = (Instant::now(), Instant::now());
        while duration.is_none_or(|duration| self.began.elapsed() < duration) {
            tick.tick().await;
            self.produce().await?;
            if checked_at.elapsed() < CHECK_EVERY {
                continue;
            }
            let checked = self.compare().await?;
            checked_at = Instant::now();
            if std::io::stdout().is_terminal() {
                self.draw(&checked).await;
            } else if printed_at.elapsed() >= LINE_EVERY {
                printed_at = Instant::now();
                println!("{}", self.line(&checked));
            }
        }
        Ok(())
    }

    /// Produces what is due by now.
    async fn produce(&mut self) -> Result<()> {
        let due = (self.began.elapsed().as_secs_f64() * f64::from(self.rate)) as u64;
        let now_ms = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_millis() as i64;
        // After a pause, catch up in pieces.
        let count = (due - self.produced).min(50_000);
        let records = (0..count)
            .map(|_| {
                let mut line = Vec::with_capacity(192);
                self.clicks.write(now_ms, &mut line);
                RawRecord {
                    payload: Some(line),
                    ..RawRecord::default()
                }
            })
            .collect::<Vec<_>>();
        if records.is_empty() {
            return Ok(());
        }
        self.produced += count;
        for (partition, next) in self.log.append(records).await?.iter() {
            self.through.set(partition, next);
        }
        Ok(())
    }

    /// Asks for answers that cover everything produced, and compares them with the truth.
    async fn compare(&mut self) -> Result<Checked> {
        let topic = self.log.topic();
        let at_least: serde_json::Map<String, Value> = self
            .through
            .iter()
            .map(|(p, next)| (topic_partition(topic, p), next.0.into()))
            .collect();
        let checked = check(&self.client, self.clicks.truth(), &at_least).await?;
        self.checks += 1;
        self.wrong += u64::from(!checked.differences.is_empty());
        if let Some(difference) = checked.differences.first() {
            eprintln!("an answer differs from the truth: {difference}");
        }
        Ok(checked)
    }

    /// The end of a bounded demo: compare, recompute everything, compare again.
    async fn finish(&mut self) -> Result<bool> {
        let before = self.compare().await?;
        let run = self.client.post("/v1/batch/runs", &json!({})).await?;
        let path = format!(
            "/v1/batch/runs/{}",
            run["run_id"].as_str().context("the answer names no run")?
        );
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let run = self.client.get(&path).await?;
            let served = self.client.get("/v1/status").await?["publication"]["number"].as_u64();
            match run["state"].as_str() {
                // Published, and adopted by the serving layer.
                Some("published") if served >= run["publication"].as_u64() => break,
                Some("failed") => bail!("the last batch run failed: {}", run["error"]),
                _ if Instant::now() > deadline => bail!("the last batch run was not served within two minutes"),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        let after = self.compare().await?;
        println!("{}", self.table(&after));
        let groups: u64 = after.views.iter().map(|view| view.groups).sum();
        let equal = before.differences.is_empty() && after.differences.is_empty() && self.wrong == 0;
        if equal {
            println!(
                "all {} groups of {} views equal the generator's truth: {} events, {} late, {} malformed kept as dead letters; {} comparisons, none wrong",
                thousands(groups),
                after.views.len(),
                thousands(self.produced),
                thousands(self.clicks.truth().late),
                thousands(self.clicks.truth().malformed),
                self.checks
            );
        } else {
            println!(
                "{} of {} comparisons found answers that differ from the truth:",
                self.wrong, self.checks
            );
            before
                .differences
                .iter()
                .chain(&after.differences)
                .take(20)
                .for_each(|difference| println!("  {difference}"));
        }
        Ok(equal)
    }

    fn line(&self, checked: &Checked) -> String {
        let totals = &checked.views[0];
        format!(
            "{:>4} s  batch {:>11} + realtime {:>9} = merged {:>11}, truth {:>11}  {}",
            self.began.elapsed().as_secs(),
            thousands(totals.batch),
            thousands(totals.realtime),
            thousands(totals.merged),
            thousands(totals.truth),
            if checked.differences.is_empty() {
                "equal"
            } else {
                "DIFFERENT"
            }
        )
    }

    fn table(&self, checked: &Checked) -> comfy_table::Table {
        let mut table = output::table(["view", "groups", "batch", "realtime", "merged", "truth", ""]);
        for view in &checked.views {
            table.add_row(vec![
                comfy_table::Cell::new(view.name),
                count_cell(view.groups),
                count_cell(view.batch),
                count_cell(view.realtime),
                count_cell(view.merged),
                count_cell(view.truth),
                comfy_table::Cell::new(if view.equal { "equal" } else { "DIFFERENT" }),
            ]);
        }
        table
    }

    /// Redraws the live table in place.
    async fn draw(&mut self, checked: &Checked) {
        let truth = self.clicks.truth();
        let run = match self.client.get("/v1/batch/runs?limit=1").await {
            Ok(answer) => match &answer["runs"][0] {
                Value::Null => "no batch run yet; the first starts within 15 s".into(),
                run => format!(
                    "last batch run {}: {}, {} rows",
                    run["run_id"].as_str().unwrap_or("?"),
                    run["state"].as_str().unwrap_or("?"),
                    thousands(run["rows"].as_u64().unwrap_or_default())
                ),
            },
            Err(error) => format!("batch layer: {error}"),
        };
        let text = format!(
            "{}\n{:>4} s   {} events, {} late, {} malformed kept as dead letters   {}\n         {} comparisons of every group with the truth, {} wrong",
            self.table(checked),
            self.began.elapsed().as_secs(),
            thousands(self.produced),
            thousands(truth.late),
            thousands(truth.malformed),
            run,
            self.checks,
            self.wrong
        );
        let mut out = std::io::stdout().lock();
        // Up to where the last table began, then clear to the end of the screen. A closed terminal ends the demo elsewhere.
        let up = if self.lines_drawn > 0 {
            format!("\x1b[{}A\r\x1b[J", self.lines_drawn)
        } else {
            String::new()
        };
        let _ = writeln!(out, "{up}{text}");
        self.lines_drawn = text.lines().count();
    }
}
