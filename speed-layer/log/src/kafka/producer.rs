use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use anabranch_model::{Offset, OffsetVector, PartitionId, RawRecord};

use super::context::LogContext;
use super::properties::{Role, client_config};
use crate::Error;
use crate::partitioned::MAX_RECORD_BYTES;
use crate::partitioner::RoundRobin;

/// How long to wait before offering a record again to a full producer queue.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(2);

/// Writes records and waits until all of them are on all in-sync replicas.
pub(crate) struct Producer {
    topic: String,
    native: ThreadedProducer<Deliveries>,
    turn: RoundRobin,
    /// Number of partitions, once asked for; 0 before.
    partitions: AtomicU32,
}

impl Producer {
    pub(crate) fn new(properties: &BTreeMap<String, String>, topic: &str) -> Result<Self, Error> {
        let native = super::create(&client_config(properties, Role::Producer)?, Deliveries, "producer")?;
        Ok(Self {
            topic: topic.into(),
            native,
            turn: RoundRobin::default(),
            partitions: AtomicU32::new(0),
        })
    }

    pub(crate) fn known_partitions(&self) -> Option<u32> {
        Some(self.partitions.load(Ordering::Relaxed)).filter(|count| *count > 0)
    }

    pub(crate) fn learn_partitions(&self, count: u32) {
        self.partitions.store(count, Ordering::Relaxed);
    }

    /// Appends the records; those without a key to the next of `partitions` in turn.
    pub(crate) async fn append(&self, records: Vec<RawRecord>, partitions: u32) -> Result<OffsetVector, Error> {
        for record in &records {
            let headers: usize = record
                .headers
                .iter()
                .map(|(name, value)| name.len() + value.len())
                .sum();
            let bytes = record.payload.as_ref().map_or(0, Vec::len) + record.key.as_ref().map_or(0, Vec::len) + headers;
            if bytes > MAX_RECORD_BYTES {
                return Err(Error::RecordTooLarge {
                    bytes,
                    limit: MAX_RECORD_BYTES,
                });
            }
        }
        let keyless = self.turn.next(partitions);
        let (append, done) = Append::new();
        for record in &records {
            self.offer(record, keyless, &append).await?;
        }
        append.settle(None);
        let action = || format!("append to topic {}", self.topic);
        match done.await {
            Ok(result) => result.map_err(Error::kafka(action())),
            Err(_) => Err(Error::Kafka {
                action: action(),
                source: KafkaError::Canceled,
            }),
        }
    }

    async fn offer(&self, record: &RawRecord, keyless: PartitionId, append: &Arc<Append>) -> Result<(), Error> {
        let mut offered: BaseRecord<'_, [u8], [u8], Arc<Append>> =
            BaseRecord::with_opaque_to(&self.topic, append.register());
        match &record.key {
            Some(key) => offered = offered.key(key),
            None => offered = offered.partition(keyless.0),
        }
        if let Some(payload) = &record.payload {
            offered = offered.payload(payload);
        }
        if let Some(timestamp_ms) = record.timestamp_ms {
            offered = offered.timestamp(timestamp_ms);
        }
        if !record.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (key, value) in &record.headers {
                headers = headers.insert(Header {
                    key,
                    value: Some(value),
                });
            }
            offered = offered.headers(headers);
        }
        loop {
            match self.native.send(offered) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    offered = back;
                    tokio::time::sleep(QUEUE_FULL_PAUSE).await;
                }
                Err((source, _)) => {
                    return Err(Error::Kafka {
                        action: format!("append to topic {}", self.topic),
                        source,
                    });
                }
            }
        }
    }
}

/// One call of `append`: counts its deliveries and answers when all are there.
pub(crate) struct Append(Mutex<Outstanding>);

struct Outstanding {
    /// Deliveries that are awaited, and one for the caller while it is still offering records.
    count: usize,
    next: OffsetVector,
    failed: Option<KafkaError>,
    done: Option<oneshot::Sender<Result<OffsetVector, KafkaError>>>,
}

impl Append {
    fn new() -> (Arc<Self>, oneshot::Receiver<Result<OffsetVector, KafkaError>>) {
        let (done, answer) = oneshot::channel();
        let outstanding = Outstanding {
            count: 1,
            next: OffsetVector::new(),
            failed: None,
            done: Some(done),
        };
        (Arc::new(Self(Mutex::new(outstanding))), answer)
    }

    fn register(self: &Arc<Self>) -> Arc<Self> {
        self.0.lock().count += 1;
        self.clone()
    }

    fn settle(&self, delivered: Option<Result<(PartitionId, Offset), KafkaError>>) {
        let mut outstanding = self.0.lock();
        match delivered {
            None => {}
            Some(Ok((partition, offset))) => {
                let next = Offset(offset.0 + 1).max(outstanding.next.get(partition).unwrap_or_default());
                outstanding.next.set(partition, next);
            }
            Some(Err(error)) => outstanding.failed = outstanding.failed.take().or(Some(error)),
        }
        outstanding.count -= 1;
        if outstanding.count == 0 {
            let next = std::mem::take(&mut outstanding.next);
            let answer = outstanding.failed.take().map_or(Ok(next), Err);
            if let Some(done) = outstanding.done.take() {
                // A caller that no longer waits has its records all the same.
                let _ = done.send(answer);
            }
        }
    }
}

/// Tells each append of its deliveries, on the producer's polling thread.
struct Deliveries;

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        LogContext.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        LogContext.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Append>;

    fn delivery(&self, result: &DeliveryResult<'_>, append: Arc<Append>) {
        append.settle(Some(match result {
            Ok(message) => Ok((PartitionId(message.partition()), Offset(message.offset()))),
            Err((error, _)) => Err(error.clone()),
        }));
    }
}
