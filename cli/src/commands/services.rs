//! The long-running commands: all layers in one process, or one layer each.

use std::process::ExitCode;

use anabranch_catalog::Connector;
use anabranch_runtime::telemetry;
use anyhow::{Context, Result};
use tracing::info;

use crate::args::Config;
use crate::client::reachable;
use crate::commands::start_service;
use crate::platform::{AllLayers, Platform, bind};
use crate::starting::{self, Opened};

pub async fn dev(args: Config) -> Result<ExitCode> {
    let platform = Platform::load(&args.config)?;
    let shutdown = start_service(&platform.settings, "dev")?;
    let Some(layers) = AllLayers::start_unless_stopped(&platform, &shutdown).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let url = format!(
        "{}://{}",
        platform.settings.tls.scheme(),
        reachable(&layers.address().to_string())
    );
    println!("anabranch dev is running; its console is at {url}/ and its API below {url}/v1");
    for source in layers.definitions.catalog.sources.values() {
        let connector = match source.connector {
            Connector::Kafka => "Kafka topic",
            Connector::Log => "embedded log",
        };
        println!("  table {} on {connector} `{}`", source.name, source.topic);
    }
    for view in layers.definitions.views.iter() {
        println!(
            "  view  {} : curl '{url}/v1/views/{}/rows?limit=5'",
            view.name(),
            view.name()
        );
    }
    match &platform.settings.serving.postgres_listen {
        Some(listen) => println!("  SQL   : psql -h {} -U me -d anabranch", psql_address(listen)),
        None => println!(
            "  SQL   : anabranch query; for psql and other clients set [serving] postgres_listen = \"127.0.0.1:5432\""
        ),
    }
    println!("Ctrl-C stops it; what was acknowledged stays.");
    layers.stopped().await?;
    telemetry::flush().await;
    Ok(ExitCode::SUCCESS)
}

pub async fn speed(args: Config) -> Result<ExitCode> {
    let platform = Platform::load(&args.config)?;
    let shutdown = start_service(&platform.settings, "speed")?;
    let listener = bind(&platform.settings.speed.listen, "speed.listen").await?;
    let Some(opened) = starting::open(&platform, [("speed", listener)], &shutdown).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let Opened {
        store,
        platform,
        listeners: [listener],
    } = opened;
    let opener = platform.opener();
    let logs = platform.logs(&opener).await?;
    let layer = platform.speed(&store, (logs, opener), listener, &shutdown).await?;
    info!(address = %layer.address(), "speed layer is running");
    layer.stopped().await.context("speed layer")?;
    telemetry::flush().await;
    Ok(ExitCode::SUCCESS)
}

pub async fn batch(args: Config) -> Result<ExitCode> {
    let platform = Platform::load(&args.config)?;
    let shutdown = start_service(&platform.settings, "batch")?;
    let listener = bind(&platform.settings.batch.listen, "batch.listen").await?;
    let Some(opened) = starting::open(&platform, [("batch", listener)], &shutdown).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let Opened {
        store,
        platform,
        listeners: [listener],
    } = opened;
    let layer = platform.batch(&store, listener, &shutdown).await?;
    info!(address = %layer.address(), "batch layer is running");
    layer.stopped().await.context("batch layer")?;
    telemetry::flush().await;
    Ok(ExitCode::SUCCESS)
}

pub async fn serve(args: Config) -> Result<ExitCode> {
    let platform = Platform::load(&args.config)?;
    let shutdown = start_service(&platform.settings, "serve")?;
    let listener = bind(&platform.settings.serving.listen, "serving.listen").await?;
    let front_ends = platform.front_ends().await?;
    let Some(opened) = starting::open(&platform, [("serve", listener)], &shutdown).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let Opened {
        store,
        platform,
        listeners: [listener],
    } = opened;
    let layer = platform.serving(&store, (listener, front_ends), &shutdown).await?;
    info!(address = %layer.address(), "serving layer is running");
    layer.stopped().await.context("serving layer")?;
    telemetry::flush().await;
    Ok(ExitCode::SUCCESS)
}

/// Host and port as psql takes them.
fn psql_address(listen: &str) -> String {
    let address = reachable(listen);
    match address.rsplit_once(':') {
        Some((host, port)) => format!("{} -p {port}", host.trim_matches(['[', ']'])),
        None => address,
    }
}
