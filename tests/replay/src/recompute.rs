//! A batch run over landed events, against one plain DataFusion query over the same Parquet files.

use std::sync::Arc;
use std::time::Instant;

use anabranch::client::Client;
use anabranch::platform::AllLayers;
use anabranch_dataset::MasterDataset;
use anabranch_runtime::Shutdown;
use anyhow::{Context, Result};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};

use crate::events::{Events, VIEWS_SQL};
use crate::{Bench, batch_run, fill, landed, peak_memory_mib};

/// The three views as one would write them for DataFusion alone.
const QUERIES: [&str; 3] = [
    r#"SELECT page, date_bin(INTERVAL '1 minute', ts) AS m, count(*), sum(ms), approx_distinct("user") FROM clicks GROUP BY page, m"#,
    "SELECT date_bin(INTERVAL '1 minute', ts) AS m, count(*), sum(bytes), avg(ms) FROM clicks GROUP BY m",
    "SELECT action, count(*), max(ms), sum(bytes) FROM clicks GROUP BY action",
];

pub async fn run(count: u64) -> Result<()> {
    let bench = Bench::new(VIEWS_SQL)?;
    let shutdown = Shutdown::new();
    let layers = AllLayers::start(&bench.platform, &shutdown).await?;
    fill(&layers.logs["clicks"], &mut Events::new(5), count).await?;
    landed(&bench.platform, &layers.store, count).await?;
    let client = Client::at(&layers.address().to_string());

    let mut ours = Vec::new();
    for _ in 0..3 {
        let run = batch_run(&client).await?;
        println!("batch run: {} ms", run["timings_ms"]);
        ours.push(
            run["timings_ms"]["total"]
                .as_f64()
                .context("the run has no total time")?
                / 1e3,
        );
    }
    let dataset = MasterDataset::open_existing(&layers.store, bench.platform.source("clicks")?).await?;
    let snapshot = dataset.context("nothing has landed")?.snapshot(None).await?;
    let root = bench.platform.settings.storage.url.clone();
    let files: Vec<String> = snapshot
        .files
        .iter()
        .filter(|file| !file.dead)
        .map(|file| format!("{root}/{}", file.path))
        .collect();
    shutdown.cancel();
    layers.stopped().await?;

    let mut plain = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        for query in QUERIES {
            let context = SessionContext::new_with_config(SessionConfig::new());
            let frame = context
                .read_parquet(files.clone(), ParquetReadOptions::default())
                .await?;
            context.register_table("clicks", Arc::clone(&frame.into_view()))?;
            context.sql(query).await?.collect().await?;
        }
        plain.push(began.elapsed().as_secs_f64());
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (ours, plain) = (median(&mut ours), median(&mut plain));
    println!(
        "recompute of three views over {count} events in {} files (both medians of 3)\n  batch run, published: {ours:.2} s, {:.2} M rows/s\n  three DataFusion queries: {plain:.2} s, {:.2} M rows/s\n  ratio {:.2}, peak memory of the process {} MiB",
        files.len(),
        count as f64 / ours / 1e6,
        count as f64 / plain / 1e6,
        plain / ours,
        peak_memory_mib()
    );
    Ok(())
}
