//! Dead letters over HTTP: listed, shown, and asked to be produced again. The speed layer carries that out.

mod answers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_dataset::{DeadLetter, Letters, MasterDataset, Redrive, RedriveDone, WhichLetters, dead_letters};
use anabranch_decode::Decoder;
use anabranch_model::{ErrorKind, Offset, OffsetRange, PartitionId};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, SecondsFormat};
use futures::TryStreamExt;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::Error;
use crate::exclusions::{dataset, offsets, source};
use crate::http::{bad_body, bad_path, bad_query};
use crate::openapi::{Conflict, Invalid, NotFound, OffsetSpan, OneTable, TooLarge, Unavailable};
use crate::server::Service;
use answers::{
    Bits, DeadLetters, ListedLetter, Outcome, Place, Reason, RedriveAnswer, RedriveEntry, RedriveList, RedriveState,
    ShownLetter,
};

/// Letters shown when no `limit` is given, and at most.
const SHOWN: usize = 100;
const MOST_SHOWN: usize = 10_000;
/// Redrives shown when no `limit` is given, and at most.
const REDRIVES_SHOWN: usize = 100;
const MOST_REDRIVES_SHOWN: usize = 1_000;
/// Bytes of a letter shown in a list.
const PREVIEW_BYTES: usize = 200;
/// Different reasons counted one by one.
const REASONS: usize = 100;
/// Letters of one redrive.
const MOST_REDRIVEN: usize = 100_000;
/// Others may ask at the same time.
const ATTEMPTS: usize = 5;

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

/// Query of `GET /v1/tables/{table}/dead-letters/redrives`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhichRedrives {
    /// Redrives to show; 100 by default, 1,000 at most.
    #[param(maximum = 1_000_000, example = 20)]
    limit: Option<usize>,
}

/// Body of `POST /v1/tables/{table}/dead-letters/redrive`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RedriveRequest {
    partition: Option<i32>,
    #[schema(value_type = Option<OffsetSpan>)]
    offsets: Option<String>,
    reason: Option<String>,
    by: Option<String>,
    /// Also letters that were redriven before.
    again: bool,
    /// Also letters that the present definition of the table does not decode.
    undecodable: bool,
    /// Only say what would be produced.
    dry_run: bool,
}

fn which(partition: Option<i32>, range: Option<&str>, reason: Option<&str>) -> Result<WhichLetters, Error> {
    Ok(WhichLetters {
        partition: partition.map(PartitionId),
        offsets: range.map(offsets).transpose()?,
        reason: reason.map(str::to_owned),
        only: None,
    })
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
    let Path(table) = table.map_err(bad_path)?;
    let Query(request) = query.map_err(bad_query)?;
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

/// What a search has found: the newest letters, and how many there are for which reason.
#[derive(Default)]
struct Found {
    matched: u64,
    reasons: BTreeMap<String, u64>,
    /// Letters whose reason is not among those.
    other_reasons: u64,
    newest: Vec<Shown>,
}

/// A letter of a list, ordered by its age: by the log's time, then by its place.
pub(crate) struct Shown {
    /// With the beginning of its payload.
    pub(crate) letter: DeadLetter,
    /// Of its whole payload, if it has one.
    pub(crate) bytes: Option<usize>,
}

/// The newest dead letters of a source, newest first.
///
/// # Errors
/// When they cannot be read.
pub(crate) async fn newest(dataset: &MasterDataset, limit: usize) -> Result<Vec<Shown>, Error> {
    Ok(find(dataset, WhichLetters::default(), limit).await?.newest)
}

impl Shown {
    fn key(&self) -> (Option<i64>, Offset, PartitionId) {
        (self.letter.timestamp_us, self.letter.offset, self.letter.partition)
    }
}

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Shown {}
impl PartialOrd for Shown {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Shown {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

async fn find(dataset: &MasterDataset, which: WhichLetters, limit: usize) -> Result<Found, Error> {
    let snapshot = dataset.snapshot(None).await?;
    let mut letters = Box::pin(dead_letters(dataset.store(), &snapshot, which));
    let (mut found, mut newest) = (Found::default(), BinaryHeap::new());
    while let Some(some) = letters.try_next().await? {
        for mut letter in some {
            found.matched += 1;
            let known = found.reasons.len();
            match found.reasons.get_mut(&letter.reason) {
                Some(count) => *count += 1,
                None if known < REASONS => {
                    found.reasons.insert(letter.reason.clone(), 1);
                }
                None => found.other_reasons += 1,
            }
            // Large ones must not add up.
            let bytes = letter.record.payload.as_ref().map(Vec::len);
            if let Some(payload) = &mut letter.record.payload {
                payload.truncate(PREVIEW_BYTES);
                payload.shrink_to_fit();
            }
            newest.push(Reverse(Shown { letter, bytes }));
            if newest.len() > limit {
                newest.pop();
            }
        }
    }
    found.newest = newest
        .into_sorted_vec()
        .into_iter()
        .map(|Reverse(shown)| shown)
        .collect();
    Ok(found)
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
    let Path((table, partition, offset)) = path.map_err(bad_path)?;
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

fn check(decoder: &mut Decoder, letter: &DeadLetter) -> Result<(), String> {
    match &letter.record.payload {
        Some(payload) => decoder.check(payload),
        None => Err("a record without a value".to_owned()),
    }
}

/// Produce dead letters again, each once.
#[utoipa::path(post, path = "/v1/tables/{table}/dead-letters/redrive", operation_id = "redrive", tag = "tables",
    params(OneTable),
    request_body(content = RedriveRequest,
        description = "Which letters; `{}` for all that decode now and were not redriven before.",
        example = json!({"dry_run": true})),
    responses((status = 200, description = "What would be produced, or that nothing is.", body = RedriveAnswer),
        (status = 202, description = "Asked for; the speed layer carries it out.", body = RedriveAnswer),
        Invalid, NotFound, Conflict, TooLarge, Unavailable))]
pub(crate) async fn redrive(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    table: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<RedriveAnswer>), Error> {
    let Path(table) = table.map_err(bad_path)?;
    let dataset = dataset(&service, &table).await?;
    let request: RedriveRequest = serde_json::from_slice(&body.map_err(bad_body)?).map_err(|error| Error::Request {
        message: format!("the body is not a redrive: {error}"),
        hint: Some(
            r#"send {} for all, or {"partition": 0, "offsets": "100..250", "reason": "…", "dry_run": true, "again": false, "undecodable": false, "by": "…"}"#
                .into(),
        ),
    })?;
    let which = which(request.partition, request.offsets.as_deref(), request.reason.as_deref())?;
    let log = service.masters.redrives(&table);
    for attempt in 1.. {
        let redrives = log.all().await?;
        let (source, which) = (source(&service, &table)?, which.clone());
        let mut before = Letters::default();
        redrives.iter().for_each(|(redrive, _)| before.add(&redrive.letters));
        let (again, undecodable, reader) = (request.again, request.undecodable, dataset.clone());
        let choice = service.compute.run(async move {
            let choose = Choose {
                before: if again { Letters::default() } else { before },
                decoder: (!undecodable).then(|| Decoder::new(&source)),
            };
            choose.of(&reader, which).await
        });
        let (chosen, from) = choice.await?;
        let mut answer = chosen.document();
        if request.dry_run || chosen.letters.is_empty() {
            return Ok((StatusCode::OK, Json(answer)));
        }
        let based_on = redrives.last().map_or(0, |(redrive, _)| redrive.number);
        let by = principal.recorded(request.by.as_deref());
        match log.append(based_on, chosen.letters, from, by).await {
            Ok(redrive) => {
                answer.number = Some(redrive.number);
                return Ok((StatusCode::ACCEPTED, Json(answer)));
            }
            // What somebody else has taken must not be taken again.
            Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Internal("the attempts have no end".into()))
}

/// How letters are chosen for a redrive.
struct Choose {
    /// Taken by earlier redrives.
    before: Letters,
    /// Unless letters that do not decode are to be redriven too.
    decoder: Option<Decoder>,
}

#[derive(Default)]
struct Chosen {
    letters: Letters,
    matched: u64,
    redriven_before: u64,
    undecodable: u64,
    /// Left for the next redrive.
    left: u64,
}

impl Choose {
    /// The letters to produce, and from where on their records will be found.
    async fn of(
        mut self,
        dataset: &MasterDataset,
        which: WhichLetters,
    ) -> Result<(Chosen, anabranch_model::OffsetVector), Error> {
        let snapshot = dataset.snapshot(None).await?;
        let mut letters = Box::pin(dead_letters(dataset.store(), &snapshot, which));
        let (mut chosen, mut places) = (Chosen::default(), Vec::new());
        while let Some(some) = letters.try_next().await? {
            for letter in some {
                chosen.matched += 1;
                if self.before.contains(letter.partition, letter.offset) {
                    chosen.redriven_before += 1;
                } else if self
                    .decoder
                    .as_mut()
                    .is_some_and(|decoder| check(decoder, &letter).is_err())
                {
                    chosen.undecodable += 1;
                } else if places.len() >= MOST_REDRIVEN {
                    chosen.left += 1;
                } else {
                    places.push((letter.partition, letter.offset));
                }
            }
        }
        chosen.letters = places.into_iter().collect();
        Ok((chosen, snapshot.next))
    }
}

impl Chosen {
    fn document(&self) -> RedriveAnswer {
        RedriveAnswer {
            matched: self.matched,
            letters: self.letters.count(),
            redriven_before: self.redriven_before,
            undecodable: self.undecodable,
            left: self.left,
            number: None,
        }
    }
}

/// Redrives, oldest first: the newest of them.
#[utoipa::path(get, path = "/v1/tables/{table}/dead-letters/redrives", operation_id = "listRedrives", tag = "tables",
    params(OneTable, WhichRedrives),
    responses((status = 200, description = "The redrives.", body = RedriveList), Invalid, NotFound, Unavailable))]
pub(crate) async fn redrives(
    State(service): State<Arc<Service>>,
    table: Result<Path<String>, PathRejection>,
    query: Result<Query<WhichRedrives>, QueryRejection>,
) -> Result<Json<RedriveList>, Error> {
    let Path(table) = table.map_err(bad_path)?;
    let Query(which) = query.map_err(bad_query)?;
    dataset(&service, &table).await?;
    let limit = which.limit.unwrap_or(REDRIVES_SHOWN).min(MOST_REDRIVES_SHOWN);
    let newest = service.masters.redrives(&table).newest(limit).await?;
    let redrives = newest.into_iter().map(|(redrive, done)| entry(redrive, done));
    Ok(Json(RedriveList {
        table,
        redrives: redrives.collect(),
    }))
}

/// One redrive.
#[utoipa::path(get, path = "/v1/tables/{table}/dead-letters/redrives/{number}", operation_id = "showRedrive", tag = "tables",
    params(OneTable, ("number" = u64, Path, description = "Number of the redrive.", example = 1)),
    responses((status = 200, description = "The redrive.", body = RedriveEntry), Invalid, NotFound, Unavailable))]
pub(crate) async fn show_redrive(
    State(service): State<Arc<Service>>,
    path: Result<Path<(String, u64)>, PathRejection>,
) -> Result<Json<RedriveEntry>, Error> {
    let Path((table, number)) = path.map_err(bad_path)?;
    dataset(&service, &table).await?;
    let log = service.masters.redrives(&table);
    let redrive = log.get(number).await?.ok_or(Error::NoRedrive { table, number })?;
    let done = log.done(number).await?;
    Ok(Json(entry(redrive, done)))
}

fn entry(redrive: Redrive, done: Option<RedriveDone>) -> RedriveEntry {
    RedriveEntry {
        number: redrive.number,
        at: redrive.at,
        by: redrive.by,
        letters: redrive.count,
        state: match done {
            Some(_) => RedriveState::Done,
            None => RedriveState::Asked,
        },
        done: done.map(|done| Outcome {
            number: done.number,
            at: done.at,
            worker: done.worker,
            produced: done.produced,
            found: done.found,
            gone: done.gone,
        }),
    }
}
