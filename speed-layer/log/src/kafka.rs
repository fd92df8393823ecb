//! Kafka as a [`PartitionedLog`], through librdkafka.
//!
//! ```text
//! KafkaLog ── append ──────► producer (idempotent, acks=all): waits for every delivery
//!          ── read ────────► reader: assigned by hand, one partition and position at a time
//!          ── subscribe ───► KafkaSubscription: member of a consumer group, cooperative, polled from the spout's thread
//!          ── begins, ends, offsets_at, partitions ─► metadata client
//! ```
//! librdkafka reconnects by itself. What is only temporarily wrong is logged and waited out where there is something to wait
//! for, and is an [`Error`] of kind `Unavailable` where an answer is due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use anabranch_model::{Offset, OffsetVector, PartitionId, RawBatch, RawRecord};

use crate::{Error, MAX_RECORD_BYTES, PartitionedLog, ReadLimits, Subscription};

mod context;
mod gather;
mod message;
mod producer;
mod properties;
mod reader;
mod subscription;

use context::LogContext;
use producer::Producer;
use properties::{Role, client_config};
use reader::Readers;
use subscription::KafkaSubscription;

/// How long the broker may take to answer a question about the topic.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The largest record a topic that we create takes: what every log takes, and room for Kafka's own framing.
const TOPIC_MESSAGE_BYTES: usize = MAX_RECORD_BYTES + (1 << 20);

/// One Kafka topic.
pub struct KafkaLog {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    properties: BTreeMap<String, String>,
    topic: String,
    /// Partitions to create the topic with when it is not there.
    partitions: Option<u32>,
    /// Set once the topic has been found or created.
    found: tokio::sync::OnceCell<()>,
    metadata: BaseConsumer<LogContext>,
    producer: Producer,
    readers: Readers,
}

impl KafkaLog {
    /// Connects to a topic: [`open`](Self::open), and waits until a broker has answered.
    ///
    /// # Errors
    /// [`Error::RefusedProperty`], [`Error::UnknownTopic`], and kind `Unavailable` when no broker answers.
    pub async fn connect(
        properties: &BTreeMap<String, String>,
        topic: &str,
        partitions: Option<u32>,
    ) -> Result<Self, Error> {
        let log = Self::open(properties, topic, partitions)?;
        log.find_topic().await?;
        Ok(log)
    }

    /// A topic of a cluster that may not answer yet. `properties` are librdkafka's, `bootstrap.servers` at least. The first
    /// call that needs the topic looks for it; one that does not exist is created with `partitions`, if that is given, and
    /// the broker's default replication.
    ///
    /// # Errors
    /// [`Error::RefusedProperty`], and kind `Invalid` for properties that librdkafka does not take.
    pub fn open(properties: &BTreeMap<String, String>, topic: &str, partitions: Option<u32>) -> Result<Self, Error> {
        let metadata: BaseConsumer<LogContext> = client_config(properties, Role::Metadata)?
            .create_with_context(LogContext)
            .map_err(Error::kafka("create a client"))?;
        let inner = Arc::new(Inner {
            properties: properties.clone(),
            topic: topic.to_string(),
            partitions,
            found: tokio::sync::OnceCell::new(),
            metadata,
            producer: Producer::new(properties, topic)?,
            readers: Readers::new(properties, topic)?,
        });
        Ok(Self { inner })
    }

    /// Finds the topic, or creates it; what was found once is not looked for again.
    async fn find_topic(&self) -> Result<(), Error> {
        self.inner
            .found
            .get_or_try_init(|| self.find_or_create())
            .await
            .copied()
    }

    async fn find_or_create(&self) -> Result<(), Error> {
        match self.off_workers(Inner::partition_count).await {
            Ok(count) => {
                if let Some(wanted) = self.inner.partitions
                    && wanted != count
                {
                    tracing::info!(
                        topic = self.inner.topic,
                        count,
                        wanted,
                        "the topic exists with another number of partitions; it is used as it is"
                    );
                }
                Ok(())
            }
            Err(Error::UnknownTopic { topic }) => {
                let Some(partitions) = self.inner.partitions else {
                    return Err(Error::UnknownTopic { topic });
                };
                create_topic(&self.inner.properties, &topic, partitions).await?;
                self.off_workers(move |inner| inner.wait_for_leaders(partitions)).await
            }
            Err(error) => Err(error),
        }
    }

    /// Asks about the topic, once it has been found.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.find_topic().await?;
        self.off_workers(work).await
    }

    /// librdkafka's calls block; this keeps them off the async workers.
    async fn off_workers<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(error) => Err(Error::Internal(format!("a call to kafka ended early: {error}"))),
        }
    }
}

async fn create_topic(properties: &BTreeMap<String, String>, topic: &str, partitions: u32) -> Result<(), Error> {
    let count = i32::try_from(partitions)
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| Error::Invalid(format!("topic {topic} cannot have {partitions} partitions")))?;
    let admin: AdminClient<LogContext> =
        create(&client_config(properties, Role::Metadata)?, LogContext, "admin client")?;
    let largest = TOPIC_MESSAGE_BYTES.to_string();
    // -1: the broker's default replication factor.
    let plain = NewTopic::new(topic, count, TopicReplication::Fixed(-1));
    let large = NewTopic::new(topic, count, TopicReplication::Fixed(-1)).set("max.message.bytes", &largest);
    let code = match request_topic(&admin, &large).await? {
        Some(RDKafkaErrorCode::InvalidConfig | RDKafkaErrorCode::PolicyViolation) => {
            tracing::warn!(
                topic,
                "the cluster does not allow records as large as ours; the topic gets its own limit"
            );
            request_topic(&admin, &plain).await?
        }
        code => code,
    };
    match code {
        None => tracing::info!(topic, partitions, "created the topic"),
        // Somebody else was faster.
        Some(RDKafkaErrorCode::TopicAlreadyExists) => {}
        Some(code) => {
            let source = rdkafka::error::KafkaError::Global(code);
            return Err(Error::Kafka {
                action: format!("create topic {topic}"),
                source,
            });
        }
    }
    Ok(())
}

/// Asks for a topic; returns the code of the cluster's refusal.
async fn request_topic(
    admin: &AdminClient<LogContext>,
    topic: &NewTopic<'_>,
) -> Result<Option<RDKafkaErrorCode>, Error> {
    let options = AdminOptions::new()
        .operation_timeout(Some(ANSWER_TIMEOUT))
        .request_timeout(Some(ANSWER_TIMEOUT));
    let results = admin
        .create_topics([topic], &options)
        .await
        .map_err(Error::kafka("create a topic"))?;
    Ok(results
        .into_iter()
        .find_map(|result| result.err().map(|(_, code)| code)))
}

impl Inner {
    /// Serves the client's log and error events, which otherwise pile up: nothing else polls the metadata client.
    fn serve_events(&self) {
        while let Some(event) = self.metadata.poll(Duration::ZERO) {
            if let Err(error) = event {
                tracing::debug!(topic = self.topic, %error, "kafka metadata client");
            }
        }
    }

    fn partition_count(&self) -> Result<u32, Error> {
        self.serve_events();
        let brokers = self
            .properties
            .get("bootstrap.servers")
            .map_or("its brokers", String::as_str);
        let action = || format!("read the metadata of topic {} from {brokers}", self.topic);
        let metadata = self
            .metadata
            .fetch_metadata(Some(&self.topic), ANSWER_TIMEOUT)
            .map_err(Error::kafka(action()))?;
        let unknown = || Error::UnknownTopic {
            topic: self.topic.clone(),
        };
        let topic = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == self.topic)
            .ok_or_else(unknown)?;
        match topic.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Err(unknown()),
            Some(code) => {
                let source = rdkafka::error::KafkaError::MetadataFetch(code);
                return Err(Error::Kafka {
                    action: action(),
                    source,
                });
            }
        }
        match topic.partitions().len() {
            0 => Err(unknown()),
            count => {
                let count = count as u32;
                self.producer.learn_partitions(count);
                Ok(count)
            }
        }
    }

    fn partitions(&self) -> Result<Vec<PartitionId>, Error> {
        Ok((0..self.partition_count()?).map(|p| PartitionId(p as i32)).collect())
    }

    /// A topic that has just been created has leaders a moment later.
    fn wait_for_leaders(&self, partitions: u32) -> Result<(), Error> {
        let deadline = std::time::Instant::now() + ANSWER_TIMEOUT;
        loop {
            let result = self.vector(|low, _| low);
            match result {
                Ok(begins) if begins.len() as u32 >= partitions => return Ok(()),
                Err(error) if std::time::Instant::now() >= deadline => return Err(error),
                Ok(_) if std::time::Instant::now() >= deadline => {
                    return Err(Error::UnknownTopic {
                        topic: self.topic.clone(),
                    });
                }
                Ok(_) | Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// First and next offset of a partition; the next one is the last stable offset under `read_committed`.
    pub(crate) fn watermarks(&self, partition: PartitionId) -> Result<(i64, i64), Error> {
        watermarks(&self.metadata, &self.topic, partition)
    }

    fn vector(&self, of: impl Fn(i64, i64) -> i64) -> Result<OffsetVector, Error> {
        self.partitions()?
            .into_iter()
            .map(|p| self.watermarks(p).map(|(low, high)| (p, Offset(of(low, high)))))
            .collect()
    }

    fn offsets_at(&self, timestamp_ms: i64) -> Result<OffsetVector, Error> {
        let ends = self.vector(|_, high| high)?;
        let action = || format!("look up offsets of topic {} by time", self.topic);
        let mut times = TopicPartitionList::new();
        for partition in ends.partitions() {
            times
                .add_partition_offset(&self.topic, partition.0, rdkafka::Offset::Offset(timestamp_ms.max(0)))
                .map_err(Error::kafka(action()))?;
        }
        let found = self
            .metadata
            .offsets_for_times(times, ANSWER_TIMEOUT)
            .map_err(Error::kafka(action()))?;
        let mut offsets = ends;
        for element in found.elements_for_topic(&self.topic) {
            element.error().map_err(Error::kafka(action()))?;
            // Anything but a number means that no record is that late; the end stands.
            if let rdkafka::Offset::Offset(offset) = element.offset() {
                offsets.set(PartitionId(element.partition()), Offset(offset));
            }
        }
        Ok(offsets)
    }
}

pub(crate) fn watermarks<C: rdkafka::consumer::ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: PartitionId,
) -> Result<(i64, i64), Error> {
    consumer
        .fetch_watermarks(topic, partition.0, ANSWER_TIMEOUT)
        .map_err(Error::kafka(format!(
            "read where partition {partition} of topic {topic} begins and ends"
        )))
}

#[async_trait::async_trait]
impl PartitionedLog for KafkaLog {
    /// Cluster id and topic name. librdkafka's Rust binding shows no topic ids, so that a topic which was deleted and made
    /// again under its name is noticed only by being shorter than what was landed of it; one that has grown past that
    /// before anybody looked is not.
    async fn identity(&self) -> Result<String, Error> {
        self.blocking(|inner| {
            inner.serve_events();
            let cluster = inner.metadata.client().fetch_cluster_id(ANSWER_TIMEOUT);
            let cluster = cluster.ok_or_else(|| Error::Kafka {
                action: "read the cluster id".into(),
                source: rdkafka::error::KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut),
            })?;
            Ok(format!("kafka:{cluster}/{}", inner.topic))
        })
        .await
    }

    fn topic(&self) -> &str {
        &self.inner.topic
    }

    async fn partitions(&self) -> Result<Vec<PartitionId>, Error> {
        self.blocking(Inner::partitions).await
    }

    async fn begins(&self) -> Result<OffsetVector, Error> {
        self.blocking(|inner| inner.vector(|low, _| low)).await
    }

    async fn ends(&self) -> Result<OffsetVector, Error> {
        self.blocking(|inner| inner.vector(|_, high| high)).await
    }

    async fn offsets_at(&self, timestamp_ms: i64) -> Result<OffsetVector, Error> {
        self.blocking(move |inner| inner.offsets_at(timestamp_ms)).await
    }

    async fn append(&self, records: Vec<RawRecord>) -> Result<OffsetVector, Error> {
        if records.is_empty() {
            return Ok(OffsetVector::new());
        }
        self.find_topic().await?;
        // Only records without a key need to know how many partitions there are.
        let keyless = records.iter().any(|record| record.key.is_none());
        let partitions = match self.inner.producer.known_partitions() {
            Some(count) if keyless => count,
            None if keyless => self.blocking(Inner::partition_count).await?,
            _ => 1,
        };
        self.inner.producer.append(records, partitions).await
    }

    async fn read(&self, partition: PartitionId, from: Offset, limits: ReadLimits) -> Result<Option<RawBatch>, Error> {
        self.blocking(move |inner| inner.readers.read(inner, partition, from, limits))
            .await
    }

    async fn subscribe(&self, group: &str) -> Result<Box<dyn Subscription>, Error> {
        let group = group.to_string();
        self.blocking(move |inner| {
            let subscription = KafkaSubscription::join(&inner.properties, &inner.topic, &group)?;
            Ok(Box::new(subscription) as Box<dyn Subscription>)
        })
        .await
    }
}

/// Creates a client whose failures name what it was for.
fn create<C, T>(config: &ClientConfig, context: C, what: &str) -> Result<T, Error>
where
    C: rdkafka::ClientContext,
    T: rdkafka::config::FromClientConfigAndContext<C>,
{
    config
        .create_with_context(context)
        .map_err(Error::kafka(format!("create a {what}")))
}
