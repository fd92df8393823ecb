use std::collections::BTreeMap;

use rdkafka::ClientConfig;

use super::TOPIC_MESSAGE_BYTES;
use crate::Error;

#[cfg(test)]
mod tests;

/// What a client is for; each has defaults of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role<'g> {
    Metadata,
    Producer,
    Reader,
    Member { group: &'g str },
}

/// Properties that a user cannot set, and why.
const REFUSED: &[(&str, &str)] = &[
    ("group.id", "Anabranch names its reader groups itself, by source"),
    (
        "group.protocol",
        "partitions are handed over by the classic cooperative protocol",
    ),
    (
        "group.remote.assignor",
        "partitions are handed over by the classic cooperative protocol",
    ),
    (
        "partition.assignment.strategy",
        "partitions are handed over one by one, which needs cooperative-sticky",
    ),
    (
        "enable.auto.commit",
        "positions are kept in the master dataset, not in Kafka",
    ),
    (
        "enable.auto.offset.store",
        "positions are kept in the master dataset, not in Kafka",
    ),
    (
        "auto.offset.reset",
        "an offset that is not held must be an error, or events would be skipped silently",
    ),
    (
        "enable.partition.eof",
        "it is needed to cover transaction markers at the end of a partition",
    ),
    (
        "enable.idempotence",
        "without it a retried record could be written twice",
    ),
    ("acks", "an acknowledged event must be on all in-sync replicas"),
    (
        "request.required.acks",
        "an acknowledged event must be on all in-sync replicas",
    ),
    ("transactional.id", "Anabranch needs no Kafka transactions"),
    (
        "allow.auto.create.topics",
        "a topic that is created by reading it has an arbitrary number of partitions; a table's `partitions` creates it",
    ),
    (
        "offset.store.method",
        "positions are kept in the master dataset, not in Kafka",
    ),
];

/// Values that a user cannot give to properties that are otherwise free, and why.
const REFUSED_VALUES: &[(&str, &str, &str)] = &[(
    "isolation.level",
    "read_uncommitted",
    "records of aborted transactions would be counted",
)];

/// The configuration of a client: our defaults, the user's properties over them, and what must be so.
pub(crate) fn client_config(properties: &BTreeMap<String, String>, role: Role<'_>) -> Result<ClientConfig, Error> {
    for (name, reason) in REFUSED {
        if let Some(value) = properties.get(*name) {
            return Err(Error::RefusedProperty {
                name: (*name).into(),
                value: value.clone(),
                reason,
            });
        }
    }
    for (name, refused, reason) in REFUSED_VALUES {
        if let Some(value) = properties.get(*name)
            && value.trim().eq_ignore_ascii_case(refused)
        {
            return Err(Error::RefusedProperty {
                name: (*name).into(),
                value: value.clone(),
                reason,
            });
        }
    }
    if !["bootstrap.servers", "metadata.broker.list"]
        .iter()
        .any(|name| properties.contains_key(*name))
    {
        return Err(Error::Invalid(
            "no Kafka brokers are given; set `bootstrap.servers` in `[kafka]`, as in \"localhost:9092\"".into(),
        ));
    }
    let message_bytes = TOPIC_MESSAGE_BYTES.to_string();
    let mut config = ClientConfig::new();
    config
        .set("client.id", "anabranch")
        .set("message.max.bytes", &message_bytes)
        // A new topic, a new partition or a new leader is noticed soon.
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("reconnect.backoff.max.ms", "2000");
    if role != Role::Producer {
        // Ends are asked for as they are read: up to the last stable offset.
        config.set("isolation.level", "read_committed");
    }
    match role {
        Role::Metadata => {}
        Role::Producer => {
            config
                .set("compression.type", "lz4")
                .set("partitioner", "murmur2_random")
                .set("linger.ms", "2")
                .set("delivery.timeout.ms", "30000");
        }
        Role::Reader | Role::Member { .. } => {
            config
                // The default of a second is a second without data whenever the queue has been full.
                .set("fetch.queue.backoff.ms", "10")
                .set("fetch.error.backoff.ms", "100");
        }
    }
    if role == Role::Reader {
        config
            // A reader that is kept waits in a fetch, and is free for another position only when that ends.
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", "16384");
    }
    for (name, value) in properties {
        if applies(name, role) {
            config.set(name, value);
        }
    }
    match role {
        Role::Metadata => {}
        Role::Producer => {
            config.set("enable.idempotence", "true").set("acks", "all");
        }
        // librdkafka's consumer wants a group even where it joins none.
        Role::Reader => {
            config.set("group.id", "anabranch-reader");
        }
        Role::Member { group } => {
            config
                .set("group.id", group)
                .set("partition.assignment.strategy", "cooperative-sticky");
        }
    }
    if matches!(role, Role::Reader | Role::Member { .. }) {
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true");
    }
    Ok(config)
}

/// Whether a client of this role takes the property. librdkafka warns of those that belong to the other side, and a
/// warning at each start about a setting that is right teaches nobody anything.
fn applies(name: &str, role: Role<'_>) -> bool {
    const PRODUCER: &[&str] = &[
        "linger.ms",
        "queue.buffering.",
        "batch.",
        "compression.",
        "partitioner",
        "message.timeout.ms",
        "delivery.timeout.ms",
        "message.send.max.retries",
        "retries",
        "sticky.partitioning",
        "delivery.report",
        "request.timeout.ms",
    ];
    const CONSUMER: &[&str] = &[
        "fetch.",
        "isolation.level",
        "queued.",
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
        "group.instance.id",
        "check.crcs",
        "consume.",
        "coordinator.query",
    ];
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    match role {
        Role::Producer => !begins(CONSUMER),
        Role::Reader | Role::Metadata => !begins(PRODUCER) && name != "group.instance.id",
        Role::Member { .. } => !begins(PRODUCER),
    }
}
