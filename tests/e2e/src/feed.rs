//! The log as a test reads it for itself, to know the truth.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_log::{IngestLog, KafkaLog, PartitionedLog, ReadLimits, Retention};
use anabranch_model::{Offset, PartitionId, TopicOffsets, topic_partition};
use arrow::array::{Array, AsArray};

use crate::oracle::Oracle;
use crate::runtime::block_on;

const LIMITS: ReadLimits = ReadLimits {
    max_records: 10_000,
    max_bytes: 8 << 20,
    wait: Duration::from_millis(200),
};

/// Reads topics from their beginning, beside the platform under test.
pub struct Feed {
    logs: BTreeMap<String, Arc<dyn PartitionedLog>>,
}

impl Feed {
    /// The topics must exist.
    ///
    /// # Panics
    /// When Kafka does not answer.
    pub fn kafka(properties: &BTreeMap<String, String>, topics: &[&str]) -> Self {
        let connect = |topic: &&str| {
            let log = block_on(KafkaLog::connect(properties, topic, None)).expect("the topic is there");
            ((*topic).to_owned(), Arc::new(log) as Arc<dyn PartitionedLog>)
        };
        Self {
            logs: topics.iter().map(connect).collect(),
        }
    }

    /// The embedded log in `dir`, which no process may hold meanwhile.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn embedded(dir: &Path, topic: &str, partitions: u32) -> Self {
        let log = IngestLog::open(dir).expect("nobody holds the log");
        let topic_log = log
            .topic(topic, partitions, Retention::default())
            .expect("the topic is there");
        Self {
            logs: BTreeMap::from([(topic.to_owned(), topic_log)]),
        }
    }

    /// Gives the oracle every record before `through`, of topics that this feed has.
    ///
    /// # Errors
    /// When the log does not hold that much within `patience`.
    pub fn extend(&self, oracle: &mut Oracle, through: &TopicOffsets, patience: Duration) -> Result<(), String> {
        for (name, end) in through {
            let Some((topic, partition)) = name.rsplit_once('/') else {
                return Err(format!("`{name}` is no topic and partition"));
            };
            let Some(log) = self.logs.get(topic) else { continue };
            let partition = PartitionId(partition.parse().map_err(|_| format!("`{name}` names no partition"))?);
            let deadline = Instant::now() + patience;
            while oracle.next(name) < *end {
                let from = Offset(oracle.next(name));
                match block_on(log.read(partition, from, LIMITS)) {
                    Ok(Some(batch)) => {
                        for record in 0..batch.len() {
                            // A tombstone is as little an event as an empty payload.
                            let payload = batch.payloads.value(record);
                            oracle.add(topic, name, batch.offsets.value(record), payload);
                        }
                        oracle.reach(name, batch.range.end.0);
                    }
                    Ok(None) if Instant::now() > deadline => {
                        return Err(format!("{name} ends before {end}: nothing follows {from}"));
                    }
                    // The broker may be away for a while.
                    Err(error) if Instant::now() > deadline => return Err(format!("{name} cannot be read: {error}")),
                    Ok(None) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// The values of a header in all records before `through`, in the order of the log.
    ///
    /// # Panics
    /// When the log cannot be read that far.
    pub fn header(&self, header: &str, through: &TopicOffsets) -> Vec<String> {
        let mut values = Vec::new();
        for (topic, log) in &self.logs {
            let partitions = block_on(log.ends()).expect("the log says where it ends");
            for partition in partitions.partitions() {
                let end = through.get(&topic_partition(topic, partition)).copied().unwrap_or(0);
                let mut from = Offset(0);
                while from.0 < end {
                    let read = block_on(log.read(partition, from, LIMITS)).expect("the log can be read");
                    let batch = read.expect("the log holds what was covered");
                    from = batch.range.end;
                    let Some(headers) = &batch.headers else { continue };
                    let headers = headers.as_map();
                    let (names, contents) = (headers.keys().as_string::<i32>(), headers.values().as_binary::<i32>());
                    values.extend(
                        (0..names.len())
                            .filter(|entry| names.value(*entry) == header)
                            .map(|entry| String::from_utf8_lossy(contents.value(entry)).into_owned()),
                    );
                }
            }
        }
        values
    }

    /// Where all partitions end now.
    ///
    /// # Panics
    /// When the log does not answer.
    pub fn ends(&self) -> TopicOffsets {
        let ends = |(topic, log): (&String, &Arc<dyn PartitionedLog>)| {
            let ends = block_on(log.ends()).expect("the log says where it ends");
            let named: Vec<(String, i64)> = ends
                .iter()
                .map(|(partition, next)| (topic_partition(topic, partition), next.0))
                .collect();
            named
        };
        self.logs.iter().flat_map(ends).collect()
    }
}
