//! Many small files, merged while landing goes on: batch runs before and after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anabranch::client::Client;
use anabranch::platform::AllLayers;
use anabranch_dataset::MasterDataset;
use anabranch_runtime::Shutdown;
use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::events::{Events, VIEWS_SQL};
use crate::{Bench, batch_run, fill, peak_memory_mib};

/// Runs before and after; the median counts.
const RUNS: usize = 5;

pub async fn run(files: usize, events: u64) -> Result<()> {
    let bench = Bench::with(VIEWS_SQL, |settings| {
        settings.landing.max_age = Duration::from_millis(1).into();
        settings.maintenance.enabled = false;
    })?;
    let shutdown = Shutdown::new();
    let layers = AllLayers::start(&bench.platform, &shutdown).await?;
    let client = Client::at(&layers.address().to_string());
    let log = Arc::clone(&layers.logs["clicks"]);
    let mut made = Events::new(6);
    let mut produced = 0;
    let began = Instant::now();
    let source = bench.platform.source("clicks")?;
    let dataset = loop {
        produced += fill(&log, &mut made, events).await.map(|_| events)?;
        crate::landed(&bench.platform, &layers.store, produced).await?;
        if let Some(dataset) = MasterDataset::open_existing(&layers.store, source).await? {
            break dataset;
        }
    };
    let count = async || anyhow::Ok(dataset.snapshot(None).await?.files.len());
    while count().await? < files {
        let landed = dataset.cut().await?.version;
        produced += fill(&log, &mut made, events).await.map(|_| events)?;
        while dataset.cut().await?.version == landed {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    crate::landed(&bench.platform, &layers.store, produced).await?;
    let small = count().await?;
    println!(
        "{produced} events in {small} files, landed in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let before = median(&client).await?;

    // Landing goes on meanwhile.
    let done = Arc::new(AtomicBool::new(false));
    let landing = tokio::spawn({
        let (log, done) = (Arc::clone(&log), Arc::clone(&done));
        async move {
            let mut more = 0;
            while !done.load(Ordering::Relaxed) {
                more += fill(&log, &mut made, events).await.map(|_| events)?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(more)
        }
    });
    let began = Instant::now();
    let report = client.post("/v1/batch/maintenance/compact", &json!({})).await?;
    let took = began.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    let more = landing.await??;
    crate::landed(&bench.platform, &layers.store, produced + more).await?;
    let report = &report["tables"]["clicks"];
    println!(
        "merged {} files, {} rows in {} merges, {took:.2} s, while {more} more events landed: {} files are left",
        report["files"],
        report["rows"],
        report["merges"],
        count().await?
    );
    let after = median(&client).await?;
    let answer = client
        .post("/v1/sql", &json!({"sql": "SELECT sum(clicks) FROM per_action"}))
        .await?;
    ensure!(
        answer["rows"][0][0] == produced + more,
        "{} events were sent, but {answer} answers",
        produced + more
    );
    println!(
        "batch run of three views, median of {RUNS}: {before:.0} ms over {produced} events in {small} files, {after:.0} ms over {} events after",
        produced + more
    );
    println!(
        "  per event {:.2} times as fast as before, peak memory of the process {} MiB",
        (before / produced as f64) / (after / (produced + more) as f64),
        peak_memory_mib()
    );
    shutdown.cancel();
    layers.stopped().await
}

/// Milliseconds from start to published.
async fn median(client: &Client) -> Result<f64> {
    let mut taken = Vec::new();
    for _ in 0..RUNS {
        let run = batch_run(client).await?;
        taken.push(
            run["timings_ms"]["total"]
                .as_f64()
                .context("the run has no total time")?,
        );
    }
    taken.sort_by(f64::total_cmp);
    Ok(taken[taken.len() / 2])
}
