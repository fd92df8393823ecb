//! Dead letters over HTTP: listed and shown.

use std::cmp::Reverse;
use std::sync::Arc;

use anabranch_dataset::{DeadLetter, Redrive, RedriveDone, WhichLetters, dead_letters};
use anabranch_decode::Decoder;
use anabranch_model::{Offset, OffsetRange, PartitionId};
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, SecondsFormat};
use futures::TryStreamExt;
use serde::Deserialize;
use utoipa::IntoParams;

use super::answers::{Bits, DeadLetters, ListedLetter, Place, Reason, ShownLetter};
use super::exclusions::{dataset, source};
use super::letters::{Found, Shown, check, find, which};
use crate::Error;
use crate::openapi::{Invalid, NotFound, OneTable, Unavailable};
use crate::service::Service;

/// Letters shown when no `limit` is given, and at most.
const SHOWN: usize = 100;
const MOST_SHOWN: usize = 10_000;
/// Query of `GET /v1/tables/{table}/dead-letters`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListRequest {
    /// Only of this partition.
    #[param(example = 0)]
    partition: Option<i32>,
    /// From A on, without B.
    #[param(pattern = r"^[0-9]{1,9}\.\.[0-9]{1,9}$", example = "0..1000")]
    offsets: Option<String>,
    /// What the reason contains.
    #[param(example = "not JSON")]
    reason: Option<String>,
    /// Letters to show; 100 by default, 10,000 at most.
    #[param(maximum = 1_000_000, example = 20)]
    limit: Option<usize>,
}

/// What did not decode, newest first.
#[utoipa::path(get, path = "/v1/tables/{table}/dead-letters", operation_id = "listDeadLetters", tag = "tables",
    params(OneTable, ListRequest),
    responses((status = 200, description = "Letters, and how many there are for which reason.", body = DeadLetters),
        Invalid, NotFound, Unavailable))]
pub(crate) async fn list(
    State(service): State<Arc<Service>>,
    table: Result<Path<String>, PathRejection>,
    query: Result<Query<ListRequest>, QueryRejection>,
) -> Result<Json<DeadLetters>, Error> {
    let Path(table) = table?;
    let Query(request) = query?;
    let source = source(&service, &table)?;
    let which = which(request.partition, request.offsets.as_deref(), request.reason.as_deref())?;
    let limit = request.limit.unwrap_or(SHOWN).min(MOST_SHOWN);
    let Some(dataset) = service.masters.dataset(&source).await? else {
        return Ok(Json(Found::default().document(table, &[])));
    };
    let redrives = service.masters.redrives(&table).all().await?;
    let found = service.compute.run(async move { find(&dataset, which, limit).await });
    Ok(Json(found.await?.document(table, &redrives)))
}

type Redrives = [(Redrive, Option<RedriveDone>)];

impl Found {
    fn document(self, table: String, redrives: &Redrives) -> DeadLetters {
        let reasons = self.reasons.into_iter();
        let mut reasons: Vec<_> = reasons.map(|(reason, count)| Reason { reason, count }).collect();
        // Stable: among equals, by their text.
        reasons.sort_by_key(|reason| Reverse(reason.count));
        let letters = self.newest.into_iter().map(|Shown { letter, bytes }| ListedLetter {
            place: place(&letter, redrives),
            bytes,
            preview: letter
                .record
                .payload
                .as_deref()
                .map(|payload| String::from_utf8_lossy(payload).into_owned()),
        });
        DeadLetters {
            table,
            matched: self.matched,
            reasons,
            other_reasons: self.other_reasons,
            dead_letters: letters.collect(),
        }
    }
}

fn place(letter: &DeadLetter, redrives: &Redrives) -> Place {
    Place {
        partition: letter.partition.0,
        offset: letter.offset.0,
        timestamp: timestamp(letter),
        reason: letter.reason.clone(),
        redriven: redriven(letter, redrives),
    }
}

fn timestamp(letter: &DeadLetter) -> Option<String> {
    let at = DateTime::from_timestamp_micros(letter.timestamp_us?)?;
    Some(at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Numbers of the redrives that took the letter.
fn redriven(letter: &DeadLetter, redrives: &Redrives) -> Vec<u64> {
    let took = redrives
        .iter()
        .filter(|(redrive, _)| redrive.letters.contains(letter.partition, letter.offset));
    took.map(|(redrive, _)| redrive.number).collect()
}

/// One dead letter with its bytes.
#[utoipa::path(get, path = "/v1/tables/{table}/dead-letters/{partition}/{offset}", operation_id = "showDeadLetter",
    tag = "tables",
    params(OneTable,
        ("partition" = i32, Path, description = "Its partition.", example = 0),
        ("offset" = i64, Path, description = "Its offset.", example = 0)),
    responses((status = 200, description = "The letter.", body = ShownLetter), Invalid, NotFound, Unavailable))]
pub(crate) async fn show(
    State(service): State<Arc<Service>>,
    path: Result<Path<(String, i32, i64)>, PathRejection>,
) -> Result<Json<ShownLetter>, Error> {
    let Path((table, partition, offset)) = path?;
    let dataset = dataset(&service, &table).await?;
    let which = WhichLetters {
        partition: Some(PartitionId(partition)),
        offsets: Some(OffsetRange::new(Offset(offset), Offset(offset.saturating_add(1)))),
        ..WhichLetters::default()
    };
    let snapshot = dataset.snapshot(None).await?;
    let mut letters = Box::pin(dead_letters(dataset.store(), &snapshot, which));
    let letter = loop {
        match letters.try_next().await? {
            Some(found) if found.is_empty() => {}
            Some(mut found) => break found.remove(0),
            None => {
                return Err(Error::NoDeadLetter {
                    table,
                    partition,
                    offset,
                });
            }
        }
    };
    let redrives = service.masters.redrives(&table).all().await?;
    let decodes = decodes(&service, &table, &letter)?;
    let headers = letter.record.headers.iter();
    Ok(Json(ShownLetter {
        table,
        place: place(&letter, &redrives),
        decodes_now: decodes.is_ok(),
        key: letter.record.key.as_deref().map(bytes),
        headers: headers.map(|(name, value)| (name.clone(), bytes(value))).collect(),
        payload: letter.record.payload.as_deref().map(bytes),
    }))
}

fn bytes(value: &[u8]) -> Bits {
    Bits {
        text: std::str::from_utf8(value).ok().map(str::to_owned),
        base64: BASE64.encode(value),
    }
}

fn decodes(service: &Service, table: &str, letter: &DeadLetter) -> Result<Result<(), String>, Error> {
    let source = source(service, table)?;
    let mut decoder = Decoder::new(&source);
    Ok(check(&mut decoder, letter))
}
