//! How long a killed worker is missed: from `kill -9` to the first exact answer, against the number of events since the last
//! publication; and at which speed landed rows are folded, against the batch layer's.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anabranch::client::Client;
use anabranch::platform::{AllLayers, Platform};
use anabranch_runtime::{Shutdown, telemetry};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::events::{Events, VIEWS_SQL};
use crate::{batch_run, fill};

/// Longest that filling, landing or recovering may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// Measures for each of these numbers of events.
pub async fn run(counts: &[u64]) -> Result<()> {
    println!("recovery of a worker after kill -9 (all layers in one process, embedded log, local folder, three views)");
    println!("  events since the last publication | kill to exact answer | of that folding landed rows | rows/s");
    let mut last = None;
    for count in counts {
        last = Some(measure(*count).await?);
    }
    if let Some((site, recovered)) = last {
        let batch = site.batch_rows_per_second().await?;
        println!(
            "  the batch layer folds the same rows at {:.2} M rows/s, recovery at {:.2} M rows/s: ratio {:.2}",
            batch / 1e6,
            recovered / 1e6,
            recovered / batch
        );
    }
    Ok(())
}

/// One number of events; returns the site, still running, and the rows folded per second.
async fn measure(count: u64) -> Result<(Site, f64)> {
    let mut site = Site::new()?;
    site.start(count)?;
    site.landed(count).await?;
    site.child.take().context("it runs")?.kill9()?;
    let began = Instant::now();
    site.start(0)?;
    let waited = site.exact_answer(count).await?;
    let elapsed = began.elapsed();
    let status = site.client.get("/v1/status").await?;
    let worker = status["speed"].as_object().and_then(|workers| workers.values().next());
    let rebuild = worker.context("no worker answers")?["sources"]["clicks"]["last_rebuild"].clone();
    let seconds = rebuild["elapsed_ms"].as_f64().context("nothing was rebuilt")? / 1e3;
    let per_second = count as f64 / seconds.max(1e-3);
    println!(
        "  {count:>10} | {:>6.2} s | {seconds:>6.2} s | {:.2} M ({waited} answers were not exact before)",
        elapsed.as_secs_f64(),
        per_second / 1e6
    );
    Ok((site, per_second))
}

/// A folder, and the process that runs on it.
struct Site {
    folder: tempfile::TempDir,
    client: Client,
    child: Option<Killable>,
}

/// A child that ends with this process's interest in it.
struct Killable(Child);

impl Killable {
    fn kill9(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Site {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let listen = |section: &str, port: u16| format!("[{section}]\nlisten = '127.0.0.1:{port}'\n");
        let settings = [
            listen("speed", ports[0]),
            listen("batch", ports[1]),
            listen("serving", ports[2]),
            // Nothing but the command starts a run.
            "[telemetry]\nlog = 'error'\n".to_owned(),
        ];
        let settings = settings
            .concat()
            .replace("[speed]\n", "[speed]\nstate_budget = '64GiB'\n");
        std::fs::write(folder.path().join("anabranch.toml"), settings)?;
        std::fs::write(folder.path().join("views.sql"), VIEWS_SQL)?;
        Ok(Self {
            folder,
            client: Client::at(&format!("http://127.0.0.1:{}", ports[2])),
            child: None,
        })
    }

    fn start(&mut self, fill: u64) -> Result<()> {
        let child = Command::new(std::env::current_exe()?)
            .arg("recovery-child")
            .arg(self.folder.path())
            .arg(fill.to_string())
            .stdin(Stdio::null())
            .spawn()?;
        self.child = Some(Killable(child));
        Ok(())
    }

    async fn landed(&self, count: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(status) = self.client.get("/v1/status").await
                && status["sources"]["clicks"]["landed"]["events"].as_u64() >= Some(count)
            {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{count} events did not land in time");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks until an exact answer counts every event; returns how many answers were not.
    async fn exact_answer(&self, count: u64) -> Result<u64> {
        let (deadline, mut others) = (Instant::now() + PATIENCE, 0);
        let body = json!({"sql": "SELECT sum(clicks) FROM per_action"});
        loop {
            if let Ok(answer) = self.client.sql(&body, "application/json").await {
                let answer: Value = serde_json::from_str(&answer)?;
                let counted = answer["rows"][0][0].as_u64();
                if answer["coverage"]["per_action"]["exact"] == true {
                    ensure!(
                        counted == Some(count),
                        "an exact answer counts {counted:?} of {count} events"
                    );
                    return Ok(others);
                }
                others += 1;
            }
            ensure!(Instant::now() < deadline, "no exact answer in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Rows that a batch run over everything folds per second, the best of three.
    async fn batch_rows_per_second(&self) -> Result<f64> {
        let mut best = 0_f64;
        for _ in 0..3 {
            let run = batch_run(&self.client).await?;
            let rows = run["rows"].as_f64().context("the run counts no rows")?;
            let ms = run["timings_ms"]["total"]
                .as_f64()
                .context("the run has no total time")?;
            println!("  batch run: {} ms", run["timings_ms"]);
            best = best.max(rows / ms * 1e3);
        }
        Ok(best)
    }
}

/// All layers on a folder, until killed.
pub async fn child(folder: &Path, count: u64) -> Result<()> {
    let platform = Platform::load(folder)?;
    telemetry::init(&platform.settings.telemetry, "replay")?;
    let shutdown = Shutdown::new();
    let layers = AllLayers::start(&platform, &shutdown).await?;
    fill(&layers.logs["clicks"], &mut Events::new(6), count).await?;
    layers.stopped().await
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
