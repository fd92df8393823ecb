use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, TopicPartitionList};

use anabranch_model::{Offset, PartitionId, RawBatch};

use super::context::LogContext;
use super::gather::Gather;
use super::properties::{Role, client_config};
use super::{Inner, message, subscription};
use crate::{Error, ReadLimits};

/// Readers that are kept for the next read.
const KEPT: usize = 4;
/// How long one poll of the client may take.
const STEP: Duration = Duration::from_millis(100);

/// Consumers outside any group, each assigned to one partition by hand.
pub(crate) struct Readers {
    properties: BTreeMap<String, String>,
    topic: String,
    idle: Mutex<Vec<Reader>>,
}

struct Reader {
    consumer: BaseConsumer<LogContext>,
    partition: PartitionId,
    /// Where the next read begins; what is gathered begins there too.
    next: Offset,
    gather: Gather,
}

impl Readers {
    pub(crate) fn new(properties: &BTreeMap<String, String>, topic: &str) -> Result<Self, Error> {
        client_config(properties, Role::Reader)?;
        Ok(Self {
            properties: properties.clone(),
            topic: topic.into(),
            idle: Mutex::default(),
        })
    }

    pub(crate) fn read(
        &self,
        inner: &Inner,
        partition: PartitionId,
        from: Offset,
        limits: ReadLimits,
    ) -> Result<Option<RawBatch>, Error> {
        let fitting = {
            let mut idle = self.idle.lock();
            let place = idle
                .iter()
                .position(|reader| reader.partition == partition && reader.next == from);
            place.map(|place| idle.swap_remove(place))
        };
        let mut reader = match fitting {
            Some(reader) => reader,
            None => self.place(inner, partition, from)?,
        };
        let result = self.poll(&mut reader, limits);
        if result.is_ok() {
            let mut idle = self.idle.lock();
            idle.push(reader);
            if idle.len() > KEPT {
                idle.remove(0);
            }
        }
        result
    }

    /// A reader at a position that is known to be held.
    fn place(&self, inner: &Inner, partition: PartitionId, from: Offset) -> Result<Reader, Error> {
        let partitions = inner.partition_count()? as usize;
        if !usize::try_from(partition.0).is_ok_and(|p| p < partitions) {
            return Err(Error::UnknownPartition {
                topic: self.topic.clone(),
                partition,
                partitions,
            });
        }
        let (first, next) = inner.watermarks(partition)?;
        if from.0 < first || from.0 > next {
            let (first, next) = (Offset(first), Offset(next));
            return Err(Error::OutOfRange {
                topic: self.topic.clone(),
                partition,
                wanted: from,
                first,
                next,
            });
        }
        let reused = self.idle.lock().pop();
        let consumer = match reused {
            Some(reader) => reader.consumer,
            None => super::create(&client_config(&self.properties, Role::Reader)?, LogContext, "reader")?,
        };
        let action = || format!("read partition {partition} of topic {}", self.topic);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition.0, rdkafka::Offset::Offset(from.0))
            .map_err(Error::kafka(action()))?;
        consumer.assign(&list).map_err(Error::kafka(action()))?;
        let mut gather = Gather::default();
        gather.start(partition, from);
        Ok(Reader {
            consumer,
            partition,
            next: from,
            gather,
        })
    }

    fn poll(&self, reader: &mut Reader, limits: ReadLimits) -> Result<Option<RawBatch>, Error> {
        let deadline = Instant::now() + limits.wait.min(Duration::from_secs(86_400));
        let Reader {
            consumer,
            partition,
            gather,
            ..
        } = reader;
        let mut gathered = gather.gathered(*partition);
        let batch = loop {
            let now = Instant::now();
            if let Some(batch) = gather.due(limits, now) {
                break Some(batch);
            }
            // What there is at once belongs to the batch; nothing is waited for once there is a record.
            let wait = if gathered {
                Duration::ZERO
            } else {
                deadline.saturating_duration_since(now).min(STEP)
            };
            match consumer.poll(wait) {
                Some(Ok(message)) => {
                    let place = (PartitionId(message.partition()), message.offset());
                    gathered |= gather.push(place, message.payload_len(), limits, now, |records| {
                        message::push(records, &message);
                    });
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    if let Some(position) = subscription::position(consumer, &self.topic, *partition) {
                        gather.advance(*partition, position, now);
                    }
                }
                Some(Err(error)) => subscription::tolerate(&self.topic, error)?,
                None if gathered || now >= deadline => break gather.any(),
                None => {}
            }
        };
        if let Some(batch) = &batch {
            reader.next = batch.range.end;
        }
        Ok(batch)
    }
}
