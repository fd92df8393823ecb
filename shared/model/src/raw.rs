use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BinaryBuilder, Int64Array, Int64Builder, MapBuilder, MapFieldNames, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Fields};

use crate::{OffsetRange, PartitionId};

/// Names and types of the columns that every landed row carries beside the declared ones.
pub mod columns {
    use super::{Arc, DataType, Field, Fields};

    /// INT: partition of the event.
    pub const PARTITION: &str = "_partition";
    /// BIGINT: offset of the event.
    pub const OFFSET: &str = "_offset";
    /// TIMESTAMP (µs, UTC): the log's own timestamp of the record.
    pub const TIMESTAMP: &str = "_timestamp";
    /// BYTES: the record's key.
    pub const KEY: &str = "_key";
    /// MAP<TEXT, BYTES>: the record's headers.
    pub const HEADERS: &str = "_headers";
    /// BYTES: the record's original bytes.
    pub const RAW: &str = "_raw";
    /// TEXT: why a dead letter did not decode; null for an event.
    pub const REASON: &str = "_reason";
    /// BOOLEAN, the Delta partition column: true for dead letters.
    pub const DEAD: &str = "_dead";

    /// `Timestamp(Microsecond, UTC)`: what TIMESTAMP means everywhere.
    pub fn timestamp_type() -> DataType {
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()))
    }

    /// The Arrow type of [`HEADERS`]: `Map<key: Utf8 not null, value: Binary>`.
    pub fn headers_type() -> DataType {
        let entry = Field::new(
            "key_value",
            DataType::Struct(Fields::from(vec![
                Field::new("key", DataType::Utf8, false),
                Field::new("value", DataType::Binary, true),
            ])),
            false,
        );
        DataType::Map(Arc::new(entry), false)
    }

    /// The columns of a landed row that come from its record, dead letter or not: all of the above but [`DEAD`].
    pub fn record_fields() -> [Field; 7] {
        [
            Field::new(PARTITION, DataType::Int32, true),
            Field::new(OFFSET, DataType::Int64, true),
            Field::new(TIMESTAMP, timestamp_type(), true),
            Field::new(KEY, DataType::Binary, true),
            Field::new(HEADERS, headers_type(), true),
            Field::new(RAW, DataType::Binary, true),
            Field::new(REASON, DataType::Utf8, true),
        ]
    }
}

/// A record on its way into or out of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawRecord {
    pub key: Option<Vec<u8>>,
    /// `None` is a Kafka tombstone.
    pub payload: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
    /// Milliseconds since the epoch; `None` lets the log stamp it.
    pub timestamp_ms: Option<i64>,
}

/// One micro-batch of records of one partition, as columns. The payload column becomes `_raw` without a copy.
///
/// All arrays have the same length, the number of records; `range` is what the batch covers, and may be larger than
/// `offsets` suggest (transaction markers, compacted records) but never smaller.
#[derive(Clone, Debug)]
pub struct RawBatch {
    pub partition: PartitionId,
    pub range: OffsetRange,
    /// Offset of each record, ascending, no nulls.
    pub offsets: Int64Array,
    /// Microseconds since the epoch; null where the log has none.
    pub timestamps: Int64Array,
    pub keys: BinaryArray,
    /// Of type [`columns::headers_type`]; `None` when no record of the batch has headers.
    pub headers: Option<ArrayRef>,
    /// Null for a tombstone.
    pub payloads: BinaryArray,
}

impl RawBatch {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Payload bytes.
    pub fn payload_bytes(&self) -> usize {
        let offsets = self.payloads.value_offsets();
        (offsets[offsets.len() - 1] - offsets[0]) as usize
    }
}

/// Gathers records of one partition into a [`RawBatch`].
#[derive(Debug)]
pub struct RawBatchBuilder {
    offsets: Int64Builder,
    timestamps: Int64Builder,
    keys: BinaryBuilder,
    headers: Option<MapBuilder<StringBuilder, BinaryBuilder>>,
    payloads: BinaryBuilder,
    payload_bytes: usize,
}

impl Default for RawBatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl RawBatchBuilder {
    pub fn new() -> Self {
        Self {
            offsets: Int64Builder::new(),
            timestamps: Int64Builder::new(),
            keys: BinaryBuilder::new(),
            headers: None,
            payloads: BinaryBuilder::new(),
            payload_bytes: 0,
        }
    }

    /// Records gathered so far.
    pub fn len(&self) -> usize {
        arrow::array::ArrayBuilder::len(&self.offsets)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Payload bytes gathered so far.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Appends one record. `timestamp_us` is in microseconds since the epoch.
    pub fn push<'h>(
        &mut self,
        offset: i64,
        timestamp_us: Option<i64>,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        let mut headers = headers.into_iter().peekable();
        if headers.peek().is_some() && self.headers.is_none() {
            let mut map = new_headers_builder();
            for _ in 0..self.len() {
                map.append(true).expect("an empty map entry always fits");
            }
            self.headers = Some(map);
        }
        if let Some(map) = &mut self.headers {
            for (name, value) in headers {
                map.keys().append_value(name);
                map.values().append_option(value);
            }
            map.append(true).expect("keys and values were appended in pairs");
        }
        self.offsets.append_value(offset);
        self.timestamps.append_option(timestamp_us);
        self.keys.append_option(key);
        self.payloads.append_option(payload);
        self.payload_bytes += payload.map_or(0, <[u8]>::len);
    }

    /// Hands over what was gathered as one batch of `partition` that covers `range`, and starts anew.
    pub fn finish(&mut self, partition: PartitionId, range: OffsetRange) -> RawBatch {
        self.payload_bytes = 0;
        RawBatch {
            partition,
            range,
            offsets: self.offsets.finish(),
            timestamps: self.timestamps.finish(),
            keys: self.keys.finish(),
            headers: self.headers.take().map(|mut map| Arc::new(map.finish()) as ArrayRef),
            payloads: self.payloads.finish(),
        }
    }
}

fn new_headers_builder() -> MapBuilder<StringBuilder, BinaryBuilder> {
    let names = MapFieldNames {
        entry: "key_value".into(),
        key: "key".into(),
        value: "value".into(),
    };
    MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new())
        .with_keys_field(Field::new("key", DataType::Utf8, false))
        .with_values_field(Field::new("value", DataType::Binary, true))
}
