//! Builds the platform from a configuration folder: settings, catalog, compiled views, store, logs, layers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_batch::{BatchHandle, BatchLayer, BatchOptions};
use anabranch_catalog::{Connector, Diagnostic, Source};
use anabranch_dataset::Store;
use anabranch_definitions::{Definitions, settle};
use anabranch_log::{IngestLog, KafkaLog, PartitionedLog, Retention};
use anabranch_runtime::{Settings, Shutdown};
use anabranch_serving::{FrontEnds, ServingHandle, ServingLayer, ServingOptions};
use anabranch_speed::{OpenLog, SpeedHandle, SpeedLayer, SpeedOptions};
use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::starting;

/// Name of the file with tables and views in a configuration folder.
pub const VIEWS_FILE: &str = "views.sql";
/// Partitions of an embedded-log topic whose table names no number.
const DEFAULT_PARTITIONS: u32 = 4;

/// What the configuration says, checked.
#[derive(Clone)]
pub struct Platform {
    pub settings: Arc<Settings>,
    /// As the file has them; once [settled](Platform::settled), what really runs.
    pub definitions: Arc<Definitions>,
}

/// The log of every source, by table name.
pub type Logs = BTreeMap<String, Arc<dyn PartitionedLog>>;

impl Platform {
    /// Reads `anabranch.toml` and `views.sql` in `dir`.
    ///
    /// # Errors
    /// Everything that is wrong with either, with its place.
    pub fn load(dir: &Path) -> Result<Self> {
        let settings = Settings::load(dir)?;
        let path = dir.join(VIEWS_FILE);
        let sql = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "{}: cannot read the tables and views; write them there, or name another folder with --config",
                path.display()
            )
        })?;
        Self::new(settings, &sql, &path.display().to_string())
    }

    /// From settings and the text of a `views.sql`; `file` names it in errors.
    ///
    /// # Errors
    /// Every diagnostic, as `check` prints it.
    pub fn new(settings: Settings, sql: &str, file: &str) -> Result<Self> {
        let definitions = Definitions::compile(0, sql).map_err(|found| anyhow!("{}", render(&found, sql, file)))?;
        Ok(Self {
            settings: Arc::new(settings),
            definitions: Arc::new(definitions),
        })
    }

    /// Opens the object store.
    ///
    /// # Errors
    /// When it cannot be reached, or does not prove atomic create-if-absent.
    pub async fn store(&self) -> Result<Store> {
        let url = &self.settings.storage.url;
        let store = Store::open(url, &self.settings.storage.options).with_context(|| format!("storage.url = {url}"))?;
        store
            .prove_create_if_absent()
            .await
            .with_context(|| format!("storage.url = {url}"))?;
        Ok(store)
    }

    /// With what is to run: the file's definitions, applied if they are new, or those that have replaced them.
    ///
    /// # Errors
    /// When the definitions contradict what runs or was landed.
    pub async fn settled(&self, store: &Store) -> Result<Self> {
        let settled = settle(store, &self.definitions.sql, "a service that started").await;
        let settled = settled.with_context(|| format!("{VIEWS_FILE} cannot be applied"))?;
        Ok(Self {
            settings: Arc::clone(&self.settings),
            definitions: settled.definitions,
        })
    }

    /// Opens the logs of tables, now and when they are declared later.
    pub fn opener(&self) -> Arc<Opener> {
        Arc::new(Opener {
            settings: Arc::clone(&self.settings),
            embedded: Mutex::default(),
        })
    }

    /// Opens the log of every source. Kafka need not answer yet.
    ///
    /// # Errors
    /// When the embedded log is held by another process, or Kafka's properties are refused.
    pub async fn logs(&self, opener: &Opener) -> Result<Logs> {
        let mut logs = Logs::new();
        for source in self.definitions.catalog.sources.values() {
            logs.insert(source.name.clone(), opener.log(source).await?);
        }
        Ok(logs)
    }

    /// The table named `name`.
    ///
    /// # Errors
    /// When there is none; names those that there are.
    pub fn source(&self, name: &str) -> Result<&Arc<Source>> {
        let names = || {
            self.definitions
                .catalog
                .sources
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        self.definitions
            .catalog
            .sources
            .get(name)
            .with_context(|| format!("there is no table `{name}`; views.sql declares {}", names()))
    }

    /// Starts the speed layer on a bound listener.
    pub async fn speed(
        &self,
        store: &Store,
        (logs, opener): (Logs, Arc<Opener>),
        listener: TcpListener,
        shutdown: &Shutdown,
    ) -> Result<SpeedHandle> {
        let options = SpeedOptions {
            settings: Arc::clone(&self.settings),
            definitions: Arc::clone(&self.definitions),
            store: store.clone(),
            logs,
            open_log: Some(opener),
            listener,
            worker_id: worker_id("speed"),
            shutdown: shutdown.clone(),
        };
        Ok(SpeedLayer::start(options).await?)
    }

    /// Starts the batch layer on a bound listener.
    pub async fn batch(&self, store: &Store, listener: TcpListener, shutdown: &Shutdown) -> Result<BatchHandle> {
        let options = BatchOptions {
            settings: Arc::clone(&self.settings),
            definitions: Arc::clone(&self.definitions),
            store: store.clone(),
            listener,
            worker_id: worker_id("batch"),
            shutdown: shutdown.clone(),
        };
        Ok(BatchLayer::start(options).await?)
    }

    /// Binds the servers beside HTTP that the settings ask for.
    ///
    /// # Errors
    /// When an address is taken.
    pub async fn front_ends(&self) -> Result<FrontEnds> {
        let serving = &self.settings.serving;
        let mut front_ends = FrontEnds::default();
        if let Some(listen) = &serving.postgres_listen {
            front_ends.postgres = Some(bind(listen, "serving.postgres_listen").await?);
        }
        if let Some(listen) = &serving.flight_sql_listen {
            front_ends.flight_sql = Some(bind(listen, "serving.flight_sql_listen").await?);
        }
        Ok(front_ends)
    }

    /// Starts the serving layer on bound listeners.
    pub async fn serving(
        &self,
        store: &Store,
        (listener, front_ends): (TcpListener, FrontEnds),
        shutdown: &Shutdown,
    ) -> Result<ServingHandle> {
        let options = ServingOptions {
            settings: Arc::clone(&self.settings),
            definitions: Arc::clone(&self.definitions),
            store: store.clone(),
            listener,
            front_ends,
            worker_id: worker_id("serve"),
            shutdown: shutdown.clone(),
        };
        Ok(ServingLayer::start(options).await?)
    }
}

/// Opens the logs of tables; the embedded log when the first table needs it.
pub struct Opener {
    settings: Arc<Settings>,
    embedded: Mutex<Option<IngestLog>>,
}

impl Opener {
    /// Opens the embedded log's folder, which one process at a time may hold.
    pub fn embedded(&self) -> Result<IngestLog, anabranch_log::Error> {
        let mut embedded = self.embedded.lock().unwrap_or_else(PoisonError::into_inner);
        match &*embedded {
            Some(log) => Ok(log.clone()),
            None => Ok(embedded.insert(IngestLog::open(&self.settings.ingest_log.dir)?).clone()),
        }
    }

    /// Opens the log of one source.
    pub async fn log(&self, source: &Source) -> Result<Arc<dyn PartitionedLog>> {
        Ok(match source.connector {
            Connector::Log => {
                let partitions = source.partitions.unwrap_or(DEFAULT_PARTITIONS);
                self.embedded()?.topic(
                    &source.topic,
                    partitions,
                    Retention {
                        bytes: source.retention.bytes,
                        age: source.retention.age,
                    },
                )?
            }
            Connector::Kafka => {
                if !self.settings.kafka.contains_key("bootstrap.servers") {
                    bail!(
                        "table `{}` reads Kafka, but [kafka] \"bootstrap.servers\" is not set in anabranch.toml",
                        source.name
                    );
                }
                Arc::new(KafkaLog::open(&self.settings.kafka, &source.topic, source.partitions)?)
            }
        })
    }
}

#[async_trait]
impl OpenLog for Opener {
    async fn open(&self, source: &Source) -> Result<Arc<dyn PartitionedLog>, Box<dyn std::error::Error + Send + Sync>> {
        self.log(source).await.map_err(Into::into)
    }
}

/// All three layers in one process.
pub struct AllLayers {
    pub speed: SpeedHandle,
    pub batch: BatchHandle,
    pub serving: ServingHandle,
    /// What ran at the start.
    pub definitions: Arc<Definitions>,
    /// Open logs, for whoever produces inside the process.
    pub logs: Logs,
    pub store: Store,
    front: Shutdown,
    back: Shutdown,
}

impl AllLayers {
    /// Starts the three layers where the settings say.
    ///
    /// # Errors
    /// Whatever keeps one of them from starting; the others are stopped.
    pub async fn start(platform: &Platform, shutdown: &Shutdown) -> Result<Self> {
        let started = Self::start_unless_stopped(platform, shutdown).await?;
        started.context("stopped before the object store answered")
    }

    /// As [`start`](Self::start); `None` when the shutdown signal comes before the store has answered.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_unless_stopped(platform: &Platform, shutdown: &Shutdown) -> Result<Option<Self>> {
        let settings = &platform.settings;
        let listeners = (
            bind(&settings.speed.listen, "speed.listen").await?,
            bind(&settings.batch.listen, "batch.listen").await?,
            bind(&settings.serving.listen, "serving.listen").await?,
        );
        let front_ends = platform.front_ends().await?;
        let doors = [("speed", listeners.0), ("batch", listeners.1), ("serve", listeners.2)];
        let Some(opened) = starting::open(platform, doors, shutdown).await? else {
            return Ok(None);
        };
        let starting::Opened {
            store,
            platform,
            listeners: [speed, batch, serving],
        } = opened;
        let opener = platform.opener();
        let logs = platform.logs(&opener).await?;
        // Serving stops first, so that nobody asks layers that are gone; each layer hears its own signal.
        let (front, back) = (shutdown.child(), Shutdown::new());
        let speed = platform.speed(&store, (logs.clone(), opener), speed, &back).await?;
        let batch = platform.batch(&store, batch, &back).await?;
        let serving = platform.serving(&store, (serving, front_ends), &front).await?;
        Ok(Some(Self {
            speed,
            batch,
            serving,
            definitions: platform.definitions,
            logs,
            store,
            front,
            back,
        }))
    }

    /// Address of the HTTP API.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// Waits until all layers have stopped; when one fails, the others are stopped too.
    ///
    /// # Errors
    /// The first failure.
    pub async fn stopped(self) -> Result<()> {
        let Self {
            speed,
            batch,
            serving,
            front,
            back,
            ..
        } = self;
        let mut layers = JoinSet::new();
        layers.spawn(async { serving.stopped().await.context("serving layer") });
        layers.spawn(async { speed.stopped().await.context("speed layer") });
        layers.spawn(async { batch.stopped().await.context("batch layer") });
        let mut first = Ok(());
        while let Some(ended) = layers.join_next().await {
            // Whichever ends first takes the others with it: serving on shutdown, any of them on failure.
            front.cancel();
            back.cancel();
            first = first.and(ended.map_err(Into::into).flatten());
        }
        first
    }
}

/// Diagnostics as `check` prints them.
pub fn render(found: &[Diagnostic], sql: &str, file: &str) -> String {
    found
        .iter()
        .map(|diagnostic| diagnostic.render(file, sql))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Binds a listener; `key` names the setting to change when the address is taken.
///
/// # Errors
/// When it cannot be bound.
pub async fn bind(listen: &str, key: &str) -> Result<TcpListener> {
    TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}; change `{key}` in anabranch.toml or stop what holds it"))
}

fn worker_id(kind: &str) -> String {
    format!("{kind}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8])
}
