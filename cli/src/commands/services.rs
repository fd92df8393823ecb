//! The long-running commands: all layers in one process, or one layer each.

use std::process::ExitCode;

use anabranch_catalog::Connector;
use anabranch_dataset::Store;
use anabranch_runtime::{Settings, Shutdown, telemetry};
use anyhow::{Context, Result};
use tokio::net::TcpListener;
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
    end(layers.stopped()).await
}

pub async fn speed(args: Config) -> Result<ExitCode> {
    let Some(begun) = begin(&args, "speed", |settings| ("speed.listen", &settings.speed.listen)).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let (platform, store) = (begun.platform, begun.store);
    let opener = platform.opener();
    let logs = platform.logs(&opener).await?;
    let layer = platform
        .speed(&store, (logs, opener), begun.listener, &begun.shutdown)
        .await?;
    info!(address = %layer.address(), "speed layer is running");
    end(async { layer.stopped().await.context("speed layer") }).await
}

pub async fn batch(args: Config) -> Result<ExitCode> {
    let Some(begun) = begin(&args, "batch", |settings| ("batch.listen", &settings.batch.listen)).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let layer = begun
        .platform
        .batch(&begun.store, begun.listener, &begun.shutdown)
        .await?;
    info!(address = %layer.address(), "batch layer is running");
    end(async { layer.stopped().await.context("batch layer") }).await
}

pub async fn serve(args: Config) -> Result<ExitCode> {
    let Some(begun) = begin(&args, "serve", |settings| ("serving.listen", &settings.serving.listen)).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let front_ends = begun.platform.front_ends().await?;
    let layer = begun
        .platform
        .serving(&begun.store, (begun.listener, front_ends), &begun.shutdown)
        .await?;
    info!(address = %layer.address(), "serving layer is running");
    end(async { layer.stopped().await.context("serving layer") }).await
}

/// What one layer is started with.
struct Begun {
    platform: Platform,
    store: Store,
    listener: TcpListener,
    shutdown: Shutdown,
}

/// Reads the folder, binds the port of a layer (the setting and its value are picked by `listen`), and waits for the store; `None`
/// when it is stopped before.
async fn begin(
    args: &Config,
    service: &'static str,
    listen: impl Fn(&Settings) -> (&'static str, &String),
) -> Result<Option<Begun>> {
    let platform = Platform::load(&args.config)?;
    let shutdown = start_service(&platform.settings, service)?;
    let (key, address) = listen(&platform.settings);
    let listener = bind(address, key).await?;
    let opened = starting::open(&platform, [(service, listener)], &shutdown).await?;
    Ok(opened.map(|opened| {
        let Opened {
            store,
            platform,
            listeners: [listener],
        } = opened;
        Begun {
            platform,
            store,
            listener,
            shutdown,
        }
    }))
}

/// Waits for the end, and sends the traces that still wait: those of a failure above all.
async fn end(stopped: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    let ended = stopped.await;
    telemetry::flush().await;
    ended.map(|()| ExitCode::SUCCESS)
}

/// Host and port as psql takes them.
fn psql_address(listen: &str) -> String {
    let address = reachable(listen);
    match address.rsplit_once(':') {
        Some((host, port)) => format!("{} -p {port}", host.trim_matches(['[', ']'])),
        None => address,
    }
}
