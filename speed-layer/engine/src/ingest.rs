//! `POST /v1/ingest/{table}`: NDJSON lines become records of the table's log.
//!
//! The whole body is read before anything is produced, and with `on_invalid=reject` every line of it is checked. `accepted` counts
//! acknowledged records only.

mod body;
mod lines;

use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::Source;
use anabranch_decode::Decoder;
use anabranch_log::{Error as LogError, PartitionedLog};
use anabranch_model::{ErrorKind, OffsetVector, RawRecord, TopicOffsets, topic_partition};
use anabranch_runtime::http::ApiError;
use anabranch_trace::{Kind, Span};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::source::SourceLayer;
use crate::sources::Sources;
use body::{Encoding, Limits, read_all};
use lines::{key_of, lines};

/// Bodies of the largest size that are held at once; more of smaller ones.
const LARGEST_BODIES: usize = 4;
/// A client that sends nothing for so long is let go.
const IDLE: Duration = Duration::from_secs(30);
/// Records of one append.
const APPEND_RECORDS: usize = 20_000;
/// HTTP's answer when the disk of the log is full.
const INSUFFICIENT_STORAGE: u16 = 507;
/// Bytes of one append, unless a single record is larger.
const APPEND_BYTES: usize = 8 << 20;

#[derive(Clone)]
pub(crate) struct Ingest {
    sources: Arc<Sources>,
    /// Largest body, in bytes, before and after decompression.
    max_body_bytes: usize,
    /// KiB that bodies may take together; who comes when it is used up waits, and so does its connection.
    memory: Arc<Semaphore>,
}

impl Ingest {
    pub(crate) fn new(sources: Arc<Sources>, max_body_bytes: usize) -> Self {
        let permits = kib(max_body_bytes)
            .saturating_mul(LARGEST_BODIES)
            .min(Semaphore::MAX_PERMITS);
        Self {
            sources,
            max_body_bytes,
            memory: Arc::new(Semaphore::new(permits)),
        }
    }

    fn source(&self, table: &str) -> Result<Arc<SourceLayer>, ApiError> {
        if let Some(layer) = self.sources.layer(table) {
            return Ok(layer);
        }
        if let Some(waiting) = self.sources.waiting().get(table) {
            let message = format!(
                "table {table} is not open yet, since {}: {}",
                waiting.since, waiting.error
            );
            return Err(
                ApiError::new(ErrorKind::Unavailable, message).with_hint("nothing was ingested; try again later")
            );
        }
        Err(ApiError::new(ErrorKind::NotFound, format!("there is no table {table}"))
            .with_hint(format!("tables: {}", self.sources.names().join(", "))))
    }

    /// Waits until a body as large as announced may be read.
    async fn admit(&self, headers: &HeaderMap) -> Result<SemaphorePermit<'_>, ApiError> {
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let compressed = headers.contains_key(CONTENT_ENCODING);
        let bytes = announced
            .filter(|_| !compressed)
            .unwrap_or(self.max_body_bytes)
            .min(self.max_body_bytes);
        let permits = u32::try_from(kib(bytes)).unwrap_or(u32::MAX);
        let admitted = self.memory.acquire_many(permits).await;
        admitted.map_err(|closed| ApiError::new(ErrorKind::Internal, closed.to_string()))
    }
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024).max(1)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnInvalid {
    /// One bad line refuses the whole body.
    #[default]
    Reject,
    /// Bad lines go through, to be kept as dead letters.
    DeadLetter,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    #[serde(default)]
    on_invalid: OnInvalid,
    /// Column whose value becomes the record's key, and so chooses its partition.
    key: Option<String>,
}

/// What was acknowledged.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Accepted {
    pub(crate) accepted: u64,
    pub(crate) through: TopicOffsets,
}

pub(crate) async fn ingest(
    State(ingest): State<Ingest>,
    Path(table): Path<String>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Accepted>, ApiError> {
    let Query(parameters) = parameters.map_err(|rejection| {
        ApiError::new(ErrorKind::Invalid, rejection.body_text())
            .with_hint("parameters are on_invalid=reject|dead_letter and key=<column>")
    })?;
    let layer = ingest.source(&table)?;
    let source = Arc::clone(&layer.program().source);
    let key = parameters
        .key
        .as_deref()
        .map(|name| json_key(&source, name))
        .transpose()?;
    let encoding = Encoding::of(&headers)?;
    let _admitted = ingest.admit(&headers).await?;
    let limits = Limits {
        bytes: ingest.max_body_bytes,
        idle: IDLE,
    };
    let bytes = read_all(body, encoding, limits).await?;
    let checked = parameters.on_invalid == OnInvalid::Reject;
    let batches = blocking(move || records(&source, &bytes, key.as_deref(), checked)).await?;
    let mut accepted = Accepted::default();
    for batch in batches {
        append(&layer.log, batch, &mut accepted).await?;
    }
    metrics::counter!("anabranch_ingested_total", "table" => table).increment(accepted.accepted);
    Ok(Json(accepted))
}

async fn append(
    log: &Arc<dyn PartitionedLog>,
    records: Vec<RawRecord>,
    accepted: &mut Accepted,
) -> Result<(), ApiError> {
    let count = records.len() as u64;
    // Detached from the request: a client that hangs up must not leave an append half waited for.
    let (task_log, topic) = (Arc::clone(log), log.topic().to_owned());
    let mut span = Span::child(Kind::Client, "append to log");
    if let Some(span) = &mut span {
        span.text("messaging.destination.name", topic.as_str());
        span.whole(
            "messaging.batch.message_count",
            i64::try_from(count).unwrap_or(i64::MAX),
        );
    }
    let appended = tokio::spawn(async move { task_log.append(records).await }).await;
    drop(span);
    let through: OffsetVector = appended
        .map_err(|error| ApiError::new(ErrorKind::Internal, error.to_string()))?
        .map_err(|error| {
            let full = matches!(error, LogError::DiskFull { .. });
            let mut error = ApiError::new(error.kind(), error.to_string());
            if full {
                error = error.with_status(INSUFFICIENT_STORAGE);
                error.code = "disk_full".into();
            }
            if accepted.accepted == 0 {
                return error;
            }
            let hint = format!(
                "the first {} events were acknowledged; send the rest only",
                accepted.accepted
            );
            error.with_hint(hint)
        })?;
    accepted.accepted += count;
    for (partition, next) in through.iter() {
        accepted.through.insert(topic_partition(&topic, partition), next.0);
    }
    Ok(())
}

/// Lines as records, in batches to append; checked first if they must all be valid.
fn records(source: &Source, body: &[u8], key: Option<&str>, checked: bool) -> Result<Vec<Vec<RawRecord>>, ApiError> {
    if checked {
        let mut decoder = Decoder::new(source);
        for (number, line) in lines(body) {
            decoder.check(line).map_err(|reason| {
                ApiError::new(ErrorKind::Invalid, format!("line {number}: {reason}")).with_hint(
                    "nothing was ingested; correct the line, or let bad lines through with on_invalid=dead_letter",
                )
            })?;
        }
    }
    let mut batches = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (_, line) in lines(body) {
        let key = key.and_then(|key| key_of(line, key));
        batch.push(RawRecord {
            key,
            payload: Some(line.to_vec()),
            headers: Vec::new(),
            timestamp_ms: None,
        });
        bytes += line.len();
        if batch.len() >= APPEND_RECORDS || bytes >= APPEND_BYTES {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    Ok(batches)
}

fn json_key(source: &Source, column: &str) -> Result<String, ApiError> {
    let found = source.columns.iter().find(|declared| declared.name == column);
    found.map(|column| column.json_key.clone()).ok_or_else(|| {
        let columns: Vec<_> = source.columns.iter().map(|column| column.name.as_str()).collect();
        ApiError::new(
            ErrorKind::Invalid,
            format!("table {} has no column {column} to take the key from", source.name),
        )
        .with_hint(format!("columns: {}", columns.join(", ")))
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ApiError::new(ErrorKind::Internal, error.to_string()))?
}

#[cfg(test)]
mod tests;
