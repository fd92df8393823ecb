use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};

use anabranch_model::RawBatchBuilder;

/// Copies a message into a batch; its payload is copied once, here.
pub(crate) fn push(builder: &mut RawBatchBuilder, message: &BorrowedMessage<'_>) {
    let timestamp_us = message.timestamp().to_millis().map(|ms| ms.saturating_mul(1_000));
    let (key, payload) = (message.key(), message.payload());
    match message.headers() {
        None => builder.push(message.offset(), timestamp_us, key, payload, []),
        Some(headers) => {
            // The binding panics on a header whose name is not UTF-8, and no event may stop us.
            let pairs = catch_unwind(AssertUnwindSafe(|| {
                headers
                    .iter()
                    .map(|header| (header.key.to_string(), header.value))
                    .collect::<Vec<_>>()
            }));
            let pairs = pairs.unwrap_or_else(|_| {
                tracing::warn!(
                    topic = message.topic(),
                    partition = message.partition(),
                    offset = message.offset(),
                    "a header's name is not UTF-8; the record is kept without its headers"
                );
                Vec::new()
            });
            let pairs = pairs.iter().map(|(name, value)| (name.as_str(), *value));
            builder.push(message.offset(), timestamp_us, key, payload, pairs);
        }
    }
}
