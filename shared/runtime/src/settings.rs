//! `anabranch.toml`: sections, defaults, environment, and clear refusals.

mod keys;
mod sections;
mod security;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use keys::{ENV_PREFIX, check_keys, expand, known_keys, override_key};
pub use sections::{
    Batch, BatchMode, Compression, IngestLog, Landing, LogFormat, Maintenance, OnDiff, Serving, Speed, Storage,
    Telemetry,
};
pub use security::{AccessMode, AccessSettings, AuditTo, OidcSettings, Secret, TlsSettings};
pub use values::{ByteSize, HumanDuration, Properties};

#[cfg(test)]
mod tests;

/// Name of the settings file in a configuration folder.
const FILE: &str = "anabranch.toml";

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
    pub access: AccessSettings,
    pub tls: TlsSettings,
    pub oidc: OidcSettings,
    pub telemetry: Telemetry,
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
            ("serving.live_max_rows", self.serving.live_max_rows as u64, 1),
            ("serving.live_max_readers", self.serving.live_max_readers as u64, 1),
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
            (
                "serving.postgres_connections",
                self.serving.postgres_connections as u64,
                1,
            ),
            ("serving.max_queries", self.serving.max_queries as u64, 1),
            ("serving.query_memory", self.serving.query_memory.get(), 1024 * 1024),
            (
                "serving.total_query_memory",
                self.serving.total_query_memory.get(),
                1024 * 1024,
            ),
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
        if !(0.0..=1.0).contains(&self.telemetry.trace_ratio) {
            return refuse(format!(
                "`telemetry.trace_ratio` is {}, but must be from 0 to 1",
                self.telemetry.trace_ratio
            ));
        }
        if let Some(message) = security::refusal(&self.access, &self.tls, &self.oidc) {
            return refuse(message);
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
        let folders = [&mut self.batch.spill_dir, &mut self.serving.state_dir];
        for folder in folders.into_iter().flatten() {
            *folder = dir.join(&*folder);
        }
        security::resolve(&mut self.access, &mut self.tls, &mut self.oidc, &dir);
    }

    /// The settings with `***` in place of every value that looks like a secret, for people to look at.
    pub fn masked(&self) -> Self {
        let mut masked = self.clone();
        masked.kafka = masked.kafka.masked();
        masked.storage.options = masked.storage.options.masked();
        masked
    }
}
