//! Where a test's events and data are: {embedded log, Apache Kafka} × {local folder, S3}.

use std::collections::BTreeMap;
use std::path::Path;

use anabranch_testkit::servers::{self, KafkaServer, S3Server};
use toml::{Table, Value};

/// How long a dead member of the consumer group keeps its partitions.
const SESSION_MS: u32 = 4_000;
const HEARTBEAT_MS: u32 = 500;

/// What a platform under test stands on.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    kafka: Option<&'static KafkaServer>,
    s3: Option<&'static S3Server>,
}

impl Backend {
    /// The embedded log and a local folder, as `dev` has them by default.
    pub const LOCAL: Self = Self { kafka: None, s3: None };

    /// The embedded log and S3; `None`, said loudly, where no S3 server can run.
    pub fn log_and_s3() -> Option<Self> {
        Some(Self {
            kafka: None,
            s3: Some(servers::s3()?),
        })
    }

    /// The embedded log and an S3 server of a test's own.
    pub fn log_and(s3: &'static S3Server) -> Self {
        Self {
            kafka: None,
            s3: Some(s3),
        }
    }

    /// Apache Kafka and a local folder; `None`, said loudly, where it cannot run.
    pub fn kafka_and_folder() -> Option<Self> {
        Some(Self {
            kafka: Some(servers::kafka()?),
            s3: None,
        })
    }

    /// Apache Kafka and S3; `None`, said loudly, where one of them cannot run.
    pub fn kafka_and_s3() -> Option<Self> {
        Some(Self::of(servers::kafka()?, servers::s3()?))
    }

    /// Servers of a test's own.
    pub fn of(kafka: &'static KafkaServer, s3: &'static S3Server) -> Self {
        Self {
            kafka: Some(kafka),
            s3: Some(s3),
        }
    }

    /// What stands in a table's WITH. `topic` is the test's own.
    pub fn with(&self, topic: &str, partitions: u32) -> String {
        let connector = if self.kafka.is_some() { "kafka" } else { "log" };
        format!("connector = '{connector}', topic = '{topic}', partitions = {partitions}")
    }

    /// Settings that lead to the servers. `prefix` is the test's own place in S3; `folder` is where data lie otherwise,
    /// `None` for the service's default.
    pub fn settings(&self, prefix: &str, folder: Option<&Path>) -> String {
        let mut settings = Table::new();
        if let Some(kafka) = self.kafka {
            let properties = [
                ("bootstrap.servers", kafka.bootstrap()),
                ("session.timeout.ms", SESSION_MS.to_string()),
                ("heartbeat.interval.ms", HEARTBEAT_MS.to_string()),
            ];
            settings.insert("kafka".into(), table(properties));
        }
        let storage = match (self.s3, folder) {
            (Some(s3), _) => {
                let url = format!("{}/{prefix}-{}", s3.url.trim_end_matches('/'), std::process::id());
                let options = s3.options.iter().map(|(key, value)| (key.as_str(), value.clone()));
                Some(Table::from_iter([
                    ("url".to_owned(), Value::String(url)),
                    ("options".to_owned(), table(options)),
                ]))
            }
            (None, Some(folder)) => Some(Table::from_iter([(
                "url".to_owned(),
                Value::String(format!("file://{}", folder.display())),
            )])),
            (None, None) => None,
        };
        if let Some(storage) = storage {
            settings.insert("storage".into(), Value::Table(storage));
        }
        settings.to_string()
    }

    /// The `[kafka]` properties by which a test reads the log for itself.
    pub fn kafka_properties(&self) -> BTreeMap<String, String> {
        let bootstrap = self.kafka.map(KafkaServer::bootstrap);
        bootstrap
            .into_iter()
            .map(|bootstrap| ("bootstrap.servers".to_owned(), bootstrap))
            .collect()
    }
}

fn table<'k>(values: impl IntoIterator<Item = (&'k str, String)>) -> Value {
    Value::Table(
        values
            .into_iter()
            .map(|(key, value)| (key.to_owned(), Value::String(value)))
            .collect(),
    )
}
