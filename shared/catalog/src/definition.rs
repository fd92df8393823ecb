//! What a `views.sql` declares, as types.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_model::columns;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::Query;

use crate::{Diagnostic, Place};

/// Everything a `views.sql` declares.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Sources by SQL name.
    pub sources: BTreeMap<String, Arc<Source>>,
    /// View definitions by SQL name.
    pub views: BTreeMap<String, Arc<ViewDefinition>>,
}

/// One `CREATE TABLE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// SQL name of the table; also names its master dataset. ASCII letters, digits and `_`.
    pub name: String,
    pub connector: Connector,
    /// Topic of the log; the table's name unless `topic` is given.
    pub topic: String,
    /// Partitions to create the topic with when it does not exist (`partitions = 4`).
    pub partitions: Option<u32>,
    /// In declared order; never empty.
    pub columns: Vec<Column>,
    /// SQL name of the event-time column.
    pub event_time: Option<String>,
    pub start: Start,
    /// Whether `_raw` is landed for events (`keep_raw`, default true). Dead letters always keep their bytes.
    pub keep_raw: bool,
    /// What happens when the log no longer has what was to be read next.
    pub on_gap: OnGap,
    /// Retention of the embedded log.
    pub retention: Retention,
    /// `retention = '30 days'`: events that the log received longer ago expire from the master dataset, and from views at the
    /// next full run. `None` keeps them.
    pub keep_for: Option<std::time::Duration>,
}

/// What stands behind a source's `PartitionedLog`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connector {
    /// An Apache Kafka topic.
    Kafka,
    /// Anabranch's embedded durable log; the default.
    Log,
}

/// Where a partition that was never read begins (`start = 'earliest' | 'latest' | '<RFC 3339>'`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The oldest record the log still has; the default.
    Earliest,
    /// The end of the log at first use.
    Latest,
    /// First record at or after this time, in milliseconds since the epoch.
    Timestamp(i64),
}

/// What happens when the log's retention has removed events of a partition before they were landed
/// (`on_gap = 'stop' | 'record'`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnGap {
    /// The partition is not read until somebody decides; the default. Others go on.
    #[default]
    Stop,
    /// The lost range is recorded in the table's notes and in coverage, and reading goes on behind it.
    Record,
}

/// `retention_bytes` and `retention_ms` of an embedded-log table: how much of the log stays after it is landed. `None` keeps
/// everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Bytes per partition.
    pub bytes: Option<u64>,
    /// Age of a record by its log timestamp.
    pub age: Option<std::time::Duration>,
}

/// One declared column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// SQL name: lower case unless quoted.
    pub name: String,
    /// JSON key: the name's spelling as written (`cityName` reads `cityName`). A nested field's key is in its Arrow field's
    /// metadata under [`JSON_KEY`] where it differs from the name; read it with [`json_key`].
    pub json_key: String,
    /// The type with JSON keys in the metadata of nested fields. What batches carry is [`Column::arrow_type`].
    pub data_type: DataType,
    pub not_null: bool,
    /// How numbers are read for TIMESTAMP columns.
    pub timestamp_format: TimestampFormat,
}

/// Arrow field metadata key that holds a nested field's JSON key where that differs from its SQL name.
pub const JSON_KEY: &str = "anabranch.json_key";

/// The JSON key that a nested field of [`Column::data_type`] reads.
pub fn json_key(field: &Field) -> &str {
    field.metadata().get(JSON_KEY).unwrap_or_else(|| field.name())
}

/// `timestamp_format = 'rfc3339' | 'epoch_seconds' | 'epoch_millis' | 'epoch_micros'`. Text is always read as RFC 3339
/// (also with a space for the `T`, and without offset as UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampFormat {
    /// Text only: a number is an error.
    #[default]
    Rfc3339,
    /// Numbers are seconds since the epoch; fractions are read to the microsecond.
    EpochSeconds,
    /// Numbers are milliseconds since the epoch; fractions are read to the microsecond.
    EpochMillis,
    /// Numbers are microseconds since the epoch.
    EpochMicros,
}

/// One `CREATE MATERIALIZED VIEW`.
#[derive(Clone, Debug)]
pub struct ViewDefinition {
    pub name: String,
    pub source: Arc<Source>,
    /// The SELECT, as written.
    pub query: String,
    /// The parsed SELECT; its spans are positions in the whole `views.sql`. Its body is one plain SELECT over exactly one
    /// table, without joins, subqueries, set operations, DISTINCT, ORDER BY, LIMIT or window functions.
    pub ast: Box<Query>,
    /// Where the statement begins.
    pub place: Place,
}

impl Catalog {
    /// Parses a whole `views.sql`. An empty file is an empty catalog.
    ///
    /// # Errors
    /// Every problem found, in file order; never an empty list.
    pub fn parse(sql: &str) -> Result<Self, Vec<Diagnostic>> {
        crate::parse::parse(sql)
    }

    /// Where in a `views.sql` a table or view is declared, or one column of a table: for what is found wrong with it later.
    pub fn place_of(sql: &str, name: &str, column: Option<&str>) -> Option<Place> {
        crate::parse::place_of(sql, name, column)
    }
}

impl Source {
    /// Schema of the declared columns, in order, all nullable (NOT NULL is the decoder's rule).
    pub fn declared_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.declared_fields()))
    }

    /// Schema of a decoded event batch and of landed rows without `_dead`: declared columns, then `_partition`, `_offset`,
    /// `_timestamp`, `_key`, `_headers`, `_raw`, `_reason`.
    pub fn event_schema(&self) -> SchemaRef {
        let mut fields = self.declared_fields();
        fields.extend(columns::record_fields());
        Arc::new(Schema::new(fields))
    }

    /// The declared column of this SQL name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    fn declared_fields(&self) -> Vec<Field> {
        self.columns
            .iter()
            .map(|column| Field::new(&column.name, column.arrow_type(), true))
            .collect()
    }
}

impl Column {
    /// The type of the column in batches and files: [`Column::data_type`] without the decoder's metadata, so that schemas
    /// compare equal after a round trip through Parquet and Delta.
    pub fn arrow_type(&self) -> DataType {
        without_json_keys(&self.data_type)
    }
}

/// A type of [`Column::data_type`] without the JSON keys that its nested fields carry for the decoder.
pub fn without_json_keys(data_type: &DataType) -> DataType {
    let strip = |field: &FieldRef| {
        Arc::new(Field::new(
            field.name(),
            without_json_keys(field.data_type()),
            field.is_nullable(),
        ))
    };
    match data_type {
        DataType::List(item) => DataType::List(strip(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(strip).collect::<Fields>()),
        other => other.clone(),
    }
}
