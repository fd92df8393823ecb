//! `anabranch.toml`: sections, defaults, environment, and clear refusals.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use toml::{Table, Value};

#[cfg(test)]
mod tests;

/// Name of the settings file in a configuration folder.
const FILE: &str = "anabranch.toml";
/// Prefix of environment overrides: `ANABRANCH__SECTION__KEY`.
const ENV_PREFIX: &str = "ANABRANCH__";

/// All settings. Everything has a default; an empty file runs `anabranch dev`.
///
/// Values may contain `${NAME}`, which is replaced by the environment variable, and `ANABRANCH__SECTION__KEY` overrides
/// `key` in `[section]`. Unknown keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub storage: Storage,
    /// Any librdkafka property, such as `"bootstrap.servers" = "localhost:9092"`. In the environment, dots are
    /// underscores: `ANABRANCH__KAFKA__BOOTSTRAP_SERVERS`.
    pub kafka: Properties,
    pub ingest_log: IngestLog,
    pub landing: Landing,
    pub speed: Speed,
    pub batch: Batch,
    pub maintenance: Maintenance,
    pub serving: Serving,
    pub telemetry: Telemetry,
}

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
    /// A query that takes longer is cancelled. Default `30s`.
    pub query_timeout: HumanDuration,
    /// How often it looks at publications and leases. Default `500ms`.
    pub poll: HumanDuration,
    /// The largest body `POST /v1/ingest` takes. Default `256MiB`.
    pub max_ingest_body: ByteSize,
}

/// `[telemetry]`: logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// Level, or `tracing` directives such as `info,anabranch_speed=debug`. Default `info`.
    pub log: String,
    /// `text` or `json`. Default `text`.
    pub format: LogFormat,
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
            query_timeout: Duration::from_secs(30).into(),
            poll: Duration::from_millis(500).into(),
            max_ingest_body: ByteSize::mib(256),
        }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log: "info".into(),
            format: LogFormat::default(),
        }
    }
}

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{place}: {message}")]
    Syntax { place: String, message: String },
    #[error("{place}: unknown key `{key}`{hint}")]
    UnknownKey { place: String, key: String, hint: String },
    #[error("{place}: environment variable `{name}` is not set, but `{key}` names it")]
    MissingVariable { place: String, key: String, name: String },
    #[error("{place}: {message}")]
    Value { place: String, message: String },
}

impl Error {
    pub fn kind(&self) -> anabranch_model::ErrorKind {
        match self {
            Self::Read { .. } => anabranch_model::ErrorKind::NotFound,
            _ => anabranch_model::ErrorKind::Invalid,
        }
    }
}

impl Settings {
    /// Reads `anabranch.toml` in `dir` (it may be absent), the environment's overrides, and makes relative paths
    /// absolute below `dir`.
    ///
    /// # Errors
    /// The place, the key, and what to write instead.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(Error::Read { path, source }),
        };
        let mut settings = Self::parse(&text, &path.display().to_string(), std::env::vars())?;
        settings.resolve(dir);
        Ok(settings)
    }

    /// Parses `text`; `place` names it in errors, `environment` gives variables for `${NAME}` and overrides.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn parse(
        text: &str,
        place: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let mut table: Table = toml::from_str(text).map_err(|error| Error::Syntax {
            place: place.into(),
            message: error.to_string().trim_end().into(),
        })?;
        let known = known_keys();
        for (section, value) in &mut table {
            expand(value, section, &environment, place)?;
        }
        check_keys(&table, &known, "", place, text)?;
        for (name, value) in &environment {
            if let Some(path) = name.strip_prefix(ENV_PREFIX) {
                override_key(&mut table, &known, path, value, name)?;
            }
        }
        let settings: Self = Value::Table(table)
            .try_into()
            .map_err(|error: toml::de::Error| Error::Value {
                place: place.into(),
                message: error.to_string().trim_end().replace('\n', " "),
            })?;
        settings.validate(place)?;
        Ok(settings)
    }

    fn validate(&self, place: &str) -> Result<(), Error> {
        let refuse = |message: String| {
            Err(Error::Value {
                place: place.into(),
                message,
            })
        };
        for (key, value, least) in [
            ("speed.channel_capacity", self.speed.channel_capacity as u64, 1),
            ("speed.micro_batch_records", self.speed.micro_batch_records as u64, 1),
            ("speed.micro_batch_bytes", self.speed.micro_batch_bytes.get(), 1024),
            ("landing.max_bytes", self.landing.max_bytes.get(), 64 * 1024),
            ("speed.state_budget", self.speed.state_budget.get(), 1024 * 1024),
            ("batch.memory_budget", self.batch.memory_budget.get(), 1024 * 1024),
            (
                "maintenance.compact_min_files",
                self.maintenance.compact_min_files as u64,
                2,
            ),
            (
                "maintenance.target_file_bytes",
                self.maintenance.target_file_bytes.get(),
                64 * 1024,
            ),
            (
                "maintenance.keep_publications",
                self.maintenance.keep_publications as u64,
                1,
            ),
            ("maintenance.keep_runs", self.maintenance.keep_runs as u64, 1),
        ] {
            if value < least {
                return refuse(format!("`{key}` is {value}, but must be at least {least}"));
            }
        }
        for (key, value) in [
            ("landing.max_age", self.landing.max_age),
            ("speed.publication_poll", self.speed.publication_poll),
            ("batch.poll", self.batch.poll),
            ("serving.poll", self.serving.poll),
            ("maintenance.every", self.maintenance.every),
            ("maintenance.vacuum_every", self.maintenance.vacuum_every),
            ("maintenance.expire_every", self.maintenance.expire_every),
            ("serving.query_timeout", self.serving.query_timeout),
        ] {
            if value.is_zero() {
                return refuse(format!("`{key}` must be longer than nothing, for example \"1s\""));
            }
        }
        const MINUTE: Duration = Duration::from_secs(60);
        for (key, value, least, most) in [
            // Readers without a pin need some time; after seven days the log forgets what was taken out.
            (
                "maintenance.vacuum_after",
                self.maintenance.vacuum_after,
                MINUTE,
                MINUTE * 60 * 24 * 7,
            ),
            // Processes that slept for shorter than this need not look whether the log was cleaned up meanwhile.
            (
                "maintenance.log_retention",
                self.maintenance.log_retention,
                MINUTE * 60,
                Duration::MAX,
            ),
        ] {
            if *value < least {
                return refuse(format!(
                    "`{key}` is {value}, but must be at least {}",
                    HumanDuration(least)
                ));
            }
            if *value > most {
                return refuse(format!(
                    "`{key}` is {value}, but must be at most {}",
                    HumanDuration(most)
                ));
            }
        }
        let Maintenance {
            vacuum_after,
            log_retention,
            ..
        } = &self.maintenance;
        if log_retention < vacuum_after {
            return refuse(format!(
                "`maintenance.log_retention` is {log_retention}, but must be at least `vacuum_after`, which is {vacuum_after}: \
                 files are of no use without the log that names them"
            ));
        }
        let known_scheme = ["file:", "s3://", "memory:"]
            .iter()
            .any(|scheme| self.storage.url.starts_with(scheme));
        if !known_scheme {
            return refuse(format!(
                "`storage.url` is `{}`, but must begin with file:, s3:// or memory:",
                self.storage.url
            ));
        }
        Ok(())
    }

    /// Makes `file:` URLs and folders absolute, below `dir` where they are relative.
    pub fn resolve(&mut self, dir: &Path) {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
        if let Some(path) = self.storage.url.strip_prefix("file:")
            && !path.starts_with("//")
        {
            self.storage.url = format!("file://{}", dir.join(path).display());
        }
        self.ingest_log.dir = dir.join(&self.ingest_log.dir);
        if let Some(spill) = &mut self.batch.spill_dir {
            *spill = dir.join(&*spill);
        }
    }
}

/// The default settings as JSON: every known key, `null` where there is no default.
fn known_keys() -> serde_json::Value {
    serde_json::to_value(Settings::default()).expect("settings are plain data")
}

/// Sections whose keys are the user's own.
fn is_open(path: &str) -> bool {
    matches!(path, "kafka" | "storage.options")
}

fn check_keys(table: &Table, known: &serde_json::Value, path: &str, place: &str, text: &str) -> Result<(), Error> {
    if is_open(path) {
        return Ok(());
    }
    for (key, value) in table {
        let full = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let Some(inner) = known.get(key) else {
            return Err(unknown_key(known, path, key, &line_of(text, key, place)));
        };
        if let Value::Table(inner_table) = value {
            check_keys(inner_table, inner, &full, place, text)?;
        }
    }
    Ok(())
}

fn unknown_key(known: &serde_json::Value, path: &str, key: &str, place: &str) -> Error {
    let names: Vec<&str> = known
        .as_object()
        .map(|o| o.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let nearest = names
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    let section = if path.is_empty() {
        "at the top level".into()
    } else {
        format!("in [{path}]")
    };
    let hint = match nearest {
        Some(name) if strsim::jaro_winkler(name, key) > 0.7 => format!(" {section}; did you mean `{name}`?"),
        _ => format!(" {section}; known keys are {}", names.join(", ")),
    };
    Error::UnknownKey {
        place: place.into(),
        key: key.into(),
        hint,
    }
}

/// `file:line` of the first line that sets `key` or opens a section of that name.
fn line_of(text: &str, key: &str, place: &str) -> String {
    let line = text.lines().position(|line| {
        let line = line.trim_start();
        let bare = line.trim_start_matches(['[', '"', '\'']);
        bare.strip_prefix(key)
            .is_some_and(|rest| rest.trim_start().starts_with(['=', ']', '.', '"', '\'']))
    });
    line.map_or_else(|| place.into(), |line| format!("{place}:{}", line + 1))
}

/// Replaces `${NAME}` in all strings below `value`.
fn expand(value: &mut Value, key: &str, environment: &BTreeMap<String, String>, place: &str) -> Result<(), Error> {
    match value {
        Value::String(text) => {
            let mut out = String::with_capacity(text.len());
            let mut rest = text.as_str();
            while let Some(start) = rest.find("${") {
                let Some(length) = rest[start..].find('}') else { break };
                let name = &rest[start + 2..start + length];
                let Some(found) = environment.get(name) else {
                    return Err(Error::MissingVariable {
                        place: place.into(),
                        key: key.into(),
                        name: name.into(),
                    });
                };
                out.push_str(&rest[..start]);
                out.push_str(found);
                rest = &rest[start + length + 1..];
            }
            out.push_str(rest);
            *text = out;
            Ok(())
        }
        Value::Table(table) => table
            .iter_mut()
            .try_for_each(|(inner, value)| expand(value, &format!("{key}.{inner}"), environment, place)),
        Value::Array(values) => values
            .iter_mut()
            .try_for_each(|value| expand(value, key, environment, place)),
        _ => Ok(()),
    }
}

/// Applies `SECTION__KEY=value` of the environment. The value is read as TOML where it is a number or a boolean.
fn override_key(
    table: &mut Table,
    known: &serde_json::Value,
    path: &str,
    value: &str,
    variable: &str,
) -> Result<(), Error> {
    let parts: Vec<String> = path.split("__").map(str::to_lowercase).collect();
    let [sections @ .., key] = parts.as_slice() else {
        return Ok(());
    };
    let mut known = known;
    let mut target = table;
    let mut at = String::new();
    for section in sections {
        known = known
            .get(section)
            .ok_or_else(|| unknown_key(known, &at, section, variable))?;
        at = if at.is_empty() {
            section.clone()
        } else {
            format!("{at}.{section}")
        };
        let entry = target
            .entry(section.clone())
            .or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = entry else {
            return Err(Error::Value {
                place: variable.into(),
                message: format!("`{at}` is not a section"),
            });
        };
        target = inner;
    }
    let key = if at == "kafka" {
        key.replace('_', ".")
    } else {
        key.clone()
    };
    if !is_open(&at) && known.get(&key).is_none() {
        return Err(unknown_key(known, &at, &key, variable));
    }
    let is_text = is_open(&at) || known.get(&key).is_some_and(|k| k.is_string() || k.is_null());
    let parsed = if is_text { None } else { value.parse::<Value>().ok() };
    target.insert(key, parsed.unwrap_or_else(|| Value::String(value.into())));
    Ok(())
}

/// Free-form properties. Values that look like secrets are not shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Properties(pub BTreeMap<String, String>);

impl Deref for Properties {
    type Target = BTreeMap<String, String>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Properties {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |key: &str| {
            ["password", "secret", "token", "key", "credential", "jaas"]
                .iter()
                .any(|word| key.to_lowercase().contains(word))
        };
        f.debug_map()
            .entries(
                self.0
                    .iter()
                    .map(|(k, v)| (k, if secret(k) { "***" } else { v.as_str() })),
            )
            .finish()
    }
}

impl<'de> Deserialize<'de> for Properties {
    /// Takes text, numbers and booleans; `[kafka] bootstrap.servers = "…"` (which TOML reads as a nested table) too.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn flatten<E: de::Error>(prefix: &str, value: Value, out: &mut BTreeMap<String, String>) -> Result<(), E> {
            let text = match value {
                Value::String(text) => text,
                Value::Integer(number) => number.to_string(),
                Value::Float(number) => number.to_string(),
                Value::Boolean(flag) => flag.to_string(),
                Value::Table(table) => {
                    return table.into_iter().try_for_each(|(key, value)| {
                        flatten(
                            &if prefix.is_empty() {
                                key
                            } else {
                                format!("{prefix}.{key}")
                            },
                            value,
                            out,
                        )
                    });
                }
                Value::Array(_) | Value::Datetime(_) => {
                    return Err(E::custom(format!("`{prefix}` must be text, a number or a boolean")));
                }
            };
            out.insert(prefix.into(), text);
            Ok(())
        }
        let mut out = BTreeMap::new();
        flatten("", Value::Table(Table::deserialize(deserializer)?), &mut out)?;
        Ok(Self(out))
    }
}

/// A size in bytes: a number, or text such as `"64MiB"` or `"1GB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    pub fn mib(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// Bytes.
    pub fn get(self) -> u64 {
        self.0
    }
}

const UNITS: &[(&str, u64)] = &[
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.trim().to_lowercase();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(unit, factor)| lower.strip_suffix(unit).map(|number| (number.trim_end(), *factor)))
            .unwrap_or((lower.as_str(), 1));
        let number: f64 = number
            .parse()
            .map_err(|_| format!("`{text}` is not a size; write for example \"64MiB\""))?;
        if !number.is_finite() || number < 0.0 {
            return Err(format!("`{text}` is not a size; write for example \"64MiB\""));
        }
        Ok(Self((number * unit as f64) as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS[..4]
            .iter()
            .rev()
            .find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match exact {
            Some((unit, factor)) => {
                let unit = format!("{}iB", unit[..1].to_uppercase());
                write!(f, "{}{unit}", self.0 / factor)
            }
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)
            .map_err(|_| de::Error::custom("a size is a number of bytes or text such as \"64MiB\""))?
        {
            Raw::Number(bytes) => Ok(Self(bytes)),
            Raw::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// A duration written as people do: `"5s"`, `"250ms"`, `"1h 30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

impl Deref for HumanDuration {
    type Target = Duration;
    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = |_| format!("`{text}` is not a duration; write for example \"5s\" or \"250ms\"");
        humantime::parse_duration(text).map(Self).map_err(error)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
