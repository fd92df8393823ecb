//! `views.sql` as typed sources and view definitions.
//!
//! Owns the DDL dialect (`CREATE TABLE … WITH`, `CREATE MATERIALIZED VIEW … AS SELECT`), column types and options, and
//! the place in the file of everything it refuses. Refuses to own what a SELECT means: `anabranch-view` compiles that.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};

/// Everything a `views.sql` declares.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pub sources: BTreeMap<String, Arc<Source>>,
    pub views: BTreeMap<String, Arc<ViewDefinition>>,
}

/// One `CREATE TABLE`.
#[derive(Clone, Debug)]
pub struct Source {
    /// SQL name of the table; also names its master dataset.
    pub name: String,
    pub connector: Connector,
    pub topic: String,
    /// Partitions to create the topic with when it does not exist (`partitions = 4`).
    pub partitions: Option<u32>,
    pub columns: Vec<Column>,
    /// SQL name of the event-time column.
    pub event_time: Option<String>,
    pub start: Start,
    /// Whether `_raw` is landed for events (`keep_raw`, default true). Dead letters always keep their bytes.
    pub keep_raw: bool,
    /// Retention of the embedded log.
    pub retention: Retention,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connector {
    Kafka,
    Log,
}

/// Where a partition that was never read begins (`start = 'earliest' | 'latest' | '<RFC 3339>'`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    /// First record at or after this time, in milliseconds since the epoch.
    Timestamp(i64),
}

/// `retention_bytes`, `retention_ms` options of an embedded-log table; `None` keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub bytes: Option<u64>,
    pub age: Option<std::time::Duration>,
}

/// One declared column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// SQL name: lower case unless quoted.
    pub name: String,
    /// JSON key: the name's spelling as written (`cityName` reads `cityName`). Nested fields: `StructField::json_key`
    /// lives in the Arrow field's metadata under [`JSON_KEY`].
    pub json_key: String,
    pub data_type: DataType,
    pub not_null: bool,
    /// How numbers are read for TIMESTAMP columns.
    pub timestamp_format: TimestampFormat,
}

/// Arrow field metadata key that holds a nested field's JSON key.
pub const JSON_KEY: &str = "anabranch.json_key";

/// `timestamp_format = 'rfc3339' | 'epoch_seconds' | 'epoch_millis' | 'epoch_micros'`. Text is always read as RFC 3339
/// (also with a space for the `T`, and without offset as UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampFormat {
    #[default]
    Rfc3339,
    EpochSeconds,
    EpochMillis,
    EpochMicros,
}

/// One `CREATE MATERIALIZED VIEW`.
#[derive(Clone, Debug)]
pub struct ViewDefinition {
    pub name: String,
    pub source: Arc<Source>,
    /// The SELECT, as written.
    pub query: String,
    /// The parsed SELECT; its spans are positions in the whole `views.sql`.
    pub ast: Box<datafusion::sql::sqlparser::ast::Query>,
    /// Where the statement begins.
    pub place: Place,
}

/// A place in `views.sql`, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

/// One thing wrong with a `views.sql`: where, why, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[error("line {}, column {}: {message}{}", place.line, place.column, hint.as_deref().map(|h| format!(" ({h})")).unwrap_or_default())]
pub struct Diagnostic {
    pub place: Place,
    pub message: String,
    pub hint: Option<String>,
}

impl Catalog {
    /// Parses a whole `views.sql`.
    ///
    /// # Errors
    /// Every problem found, in file order; never an empty list.
    pub fn parse(_sql: &str) -> Result<Self, Vec<Diagnostic>> {
        todo!()
    }
}

impl Source {
    /// Schema of the declared columns, in order, all nullable (NOT NULL is the decoder's rule).
    pub fn declared_schema(&self) -> SchemaRef {
        todo!()
    }

    /// Schema of a decoded event batch and of landed rows without `_dead`: declared columns, then `_partition`, `_offset`,
    /// `_timestamp`, `_key`, `_headers`, `_raw`, `_reason`.
    pub fn event_schema(&self) -> SchemaRef {
        todo!()
    }
}
