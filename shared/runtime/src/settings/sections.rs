//! The sections of `anabranch.toml`: each key with its unit, its default and its effect. docs/configuration.md is made from this file.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ByteSize, HumanDuration, Properties};

/// `[storage]`: the object store that holds the master dataset, batch views and publications.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// `file:///path`, `s3://bucket/prefix`, or a folder relative to the configuration folder as `file:path`.
    /// Default `file:.anabranch/store`.
    pub url: String,
    /// Options of the object store client, such as `aws_endpoint` or `aws_region`; merged over `AWS_*` of the environment.
    pub options: Properties,
}

/// `[ingest_log]`: the embedded durable log behind `connector = 'log'`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IngestLog {
    /// Its folder, relative to the configuration folder. Default `.anabranch/log`.
    pub dir: PathBuf,
}

/// `[landing]`: how raw events become Parquet files of the master dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Landing {
    /// A landing closes when its first event is this old. Default `5s`.
    pub max_age: HumanDuration,
    /// A landing closes when it holds this much in memory. Default `64MiB`.
    pub max_bytes: ByteSize,
    /// Parquet compression: `lz4`, `zstd` or `snappy`. Default `zstd`.
    pub compression: Compression,
}

/// Parquet compression of landed files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    Lz4,
    #[default]
    Zstd,
    Snappy,
}

/// `[speed]`: the speed layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Speed {
    /// Address of its HTTP and Flight port. Default `127.0.0.1:8081`.
    pub listen: String,
    /// `http://host:port` that other services reach it by. Default: from `listen`.
    pub advertise: Option<String>,
    /// Realtime state beyond this starts a batch run; at twice this the spouts pause. Default `1GiB`.
    pub state_budget: ByteSize,
    /// DecodeBolt tasks per source; 0 takes one per two cores. Default 0.
    pub decoders: usize,
    /// ViewBolt tasks per source; 0 takes one per two cores. Default 0.
    pub view_bolts: usize,
    /// Tuples that a channel between two tasks holds before the sender waits. Default 8.
    pub channel_capacity: usize,
    /// Records in one micro-batch at most. Default 32768.
    pub micro_batch_records: usize,
    /// Payload bytes in one micro-batch at most. Default `8MiB`.
    pub micro_batch_bytes: ByteSize,
    /// How often the publication log is looked at. Default `500ms`.
    pub publication_poll: HumanDuration,
}

/// `[batch]`: the batch layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Batch {
    /// Address of its HTTP port. Default `127.0.0.1:8082`.
    pub listen: String,
    /// `http://host:port` that other services reach it by. Default: from `listen`.
    pub advertise: Option<String>,
    /// Cron expression (five fields, or six with seconds first). No schedule by default.
    pub schedule: Option<String>,
    /// IANA time zone of the schedule. Default `UTC`.
    pub time_zone: String,
    /// `full` folds all of history in each run; `incremental` folds what landed since the run that is served, on top of its
    /// state. A run is full all the same when events were excluded or have expired since. Default `full`.
    pub mode: BatchMode,
    /// In incremental mode, every how many runs one is full: 10 lets nine incremental runs follow a full one. 0 never asks
    /// for a full run. Default 24.
    pub full_every: u64,
    /// What becomes of a run that differs from what was served: `publish` publishes it and says so, `hold` keeps it until
    /// `anabranch runs publish` or `runs discard`. Default `publish`.
    pub on_diff: OnDiff,
    /// Rayon threads; 0 takes every core. Default 0.
    pub threads: usize,
    /// Group state held in memory before a run spills to disk. Default `2GiB`.
    pub memory_budget: ByteSize,
    /// Folder for spilled state. Default: the system's temporary folder.
    pub spill_dir: Option<PathBuf>,
    /// How often it looks at leases and publications. Default `1s`.
    pub poll: HumanDuration,
}

/// `[maintenance]`: what the batch service does in the background to keep the store small and quick to read. One batch
/// service does it for all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Maintenance {
    /// Whether this process does any of it by itself; commands work in any case. Default `true`.
    pub enabled: bool,
    /// How often small files are looked for. Default `1m`.
    pub every: HumanDuration,
    /// As many landed files of similar size are merged into one. A row is rewritten about once each time its file grows by
    /// this factor. Default 8.
    pub compact_min_files: usize,
    /// Size of a merged file; files of more than half of it are left alone. Default `128MiB`.
    pub target_file_bytes: ByteSize,
    /// How often unneeded files, commits, state files and run records are looked for. Default `1h`.
    pub vacuum_every: HumanDuration,
    /// Files that are merged away or expired, and state files that are superseded, stay this long for readers that pin
    /// nothing, and for time travel: any version can be read for this long after the next one. Longer while a batch run reads
    /// them. From `1m` to `7d`. Default `1d`.
    pub vacuum_after: HumanDuration,
    /// Commits and checkpoints of the master dataset's log stay this long, and longer while a batch run reads their version. At
    /// least `1h`, and at least `vacuum_after`. Default `7d`.
    pub log_retention: HumanDuration,
    /// How often events beyond the `retention` of their table expire; each time a full batch run follows. Default `1d`.
    pub expire_every: HumanDuration,
    /// The newest publications whose state files stay: those a rollback may go back to. Default 10.
    pub keep_publications: usize,
    /// The newest batch runs whose records stay. Default 200.
    pub keep_runs: usize,
}

/// What a batch run folds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchMode {
    #[default]
    Full,
    Incremental,
}

/// What becomes of a run that differs from what was served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDiff {
    #[default]
    Publish,
    Hold,
}

/// `[serving]`: the serving layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Serving {
    /// Address of the HTTP API. Default `127.0.0.1:8080`.
    pub listen: String,
    /// `http://host:port` that other services reach it by. Default: from `listen`.
    pub advertise: Option<String>,
    /// Address for clients that speak PostgreSQL's protocol, such as `127.0.0.1:5432`; without it they are not served.
    pub postgres_listen: Option<String>,
    /// PostgreSQL connections at the same time; more are refused. Default 100.
    pub postgres_connections: usize,
    /// Address for Arrow Flight SQL, such as `127.0.0.1:32010`; without it that is not served.
    pub flight_sql_listen: Option<String>,
    /// A query that takes longer is cancelled. Default `30s`.
    pub query_timeout: HumanDuration,
    /// Queries that compute at the same time. Default 64.
    pub max_queries: usize,
    /// Queries that wait for their turn behind them; more are answered 503 at once. Default 1024.
    pub max_waiting_queries: usize,
    /// Memory that one query may use for the realtime state that it reads, joins, sorts, aggregation and its answer. Default `1GiB`.
    pub query_memory: ByteSize,
    /// Memory that all queries together may use for these. Default `4GiB`.
    pub total_query_memory: ByteSize,
    /// Memory for batch views. What does not fit is kept in local files and read by key, which is slower but no less exact.
    /// While a publication replaces another, both are held. Default `2GiB`.
    pub state_memory: ByteSize,
    /// Folder for these files; they have no names, and go when the process ends. Default: the system's temporary folder.
    pub state_dir: Option<PathBuf>,
    /// How often it looks at publications and leases. Default `500ms`.
    pub poll: HumanDuration,
    /// After SIGTERM, `/readyz` answers 503 for so long while queries are answered as before, so that load balancers turn
    /// elsewhere; then no connection is accepted, and open queries finish. Default `0s`.
    pub drain: HumanDuration,
    /// The largest body `POST /v1/ingest` takes. Default `256MiB`.
    pub max_ingest_body: ByteSize,
    /// The most rows that one live query follows; more are refused. Default 10,000.
    pub live_max_rows: usize,
    /// The most readers of live queries at a time; more are refused. Default 1,000.
    pub live_max_readers: usize,
}

/// `[telemetry]`: logs and traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// Level, or `tracing` directives such as `info,anabranch_speed=debug`. Default `info`.
    pub log: String,
    /// `text` or `json`. Default `text`.
    pub format: LogFormat,
    /// `http://host:4317` of an OpenTelemetry collector, which traces are sent to by OTLP over gRPC. None by default: no traces
    /// are made, and those of callers are passed on.
    pub otlp_endpoint: Option<String>,
    /// Share of traces that begin here and are sent, from 0 to 1; a caller's `traceparent` decides for its own. Default `0.1`.
    pub trace_ratio: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            url: "file:.anabranch/store".into(),
            options: Properties::default(),
        }
    }
}

impl Default for IngestLog {
    fn default() -> Self {
        Self {
            dir: ".anabranch/log".into(),
        }
    }
}

impl Default for Landing {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(5).into(),
            max_bytes: ByteSize::mib(64),
            compression: Compression::default(),
        }
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8081".into(),
            advertise: None,
            state_budget: ByteSize::mib(1024),
            decoders: 0,
            view_bolts: 0,
            channel_capacity: 8,
            micro_batch_records: 32_768,
            micro_batch_bytes: ByteSize::mib(8),
            publication_poll: Duration::from_millis(500).into(),
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8082".into(),
            advertise: None,
            schedule: None,
            time_zone: "UTC".into(),
            mode: BatchMode::default(),
            full_every: 24,
            on_diff: OnDiff::default(),
            threads: 0,
            memory_budget: ByteSize::mib(2048),
            spill_dir: None,
            poll: Duration::from_secs(1).into(),
        }
    }
}

impl Default for Maintenance {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            enabled: true,
            every: Duration::from_secs(60).into(),
            compact_min_files: 8,
            target_file_bytes: ByteSize::mib(128),
            vacuum_every: HOUR.into(),
            vacuum_after: (HOUR * 24).into(),
            log_retention: (HOUR * 24 * 7).into(),
            expire_every: (HOUR * 24).into(),
            keep_publications: 10,
            keep_runs: 200,
        }
    }
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            advertise: None,
            postgres_listen: None,
            postgres_connections: 100,
            flight_sql_listen: None,
            query_timeout: Duration::from_secs(30).into(),
            max_queries: 64,
            max_waiting_queries: 1024,
            query_memory: ByteSize::mib(1024),
            total_query_memory: ByteSize::mib(4096),
            state_memory: ByteSize::mib(2048),
            state_dir: None,
            poll: Duration::from_millis(500).into(),
            drain: Duration::ZERO.into(),
            max_ingest_body: ByteSize::mib(256),
            live_max_rows: 10_000,
            live_max_readers: 1_000,
        }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log: "info".into(),
            format: LogFormat::default(),
            otlp_endpoint: None,
            trace_ratio: 0.1,
        }
    }
}
