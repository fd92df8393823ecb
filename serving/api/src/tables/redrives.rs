//! Redrives over HTTP: dead letters asked to be produced again. The speed layer carries that out.

use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_dataset::{Letters, MasterDataset, Redrive, RedriveDone, WhichLetters, dead_letters};
use anabranch_decode::Decoder;
use anabranch_model::{ErrorKind, OffsetVector};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use futures::TryStreamExt;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::answers::{Outcome, RedriveAnswer, RedriveEntry, RedriveList, RedriveState};
use super::exclusions::{dataset, source};
use super::letters::{check, which};
use crate::Error;
use crate::openapi::{Conflict, Invalid, NotFound, OffsetSpan, OneTable, TooLarge, Unavailable};
use crate::service::Service;

/// Letters of one redrive.
const MOST_REDRIVEN: usize = 100_000;
/// Others may ask at the same time.
const ATTEMPTS: usize = 5;

/// Redrives shown when no `limit` is given, and at most.
const REDRIVES_SHOWN: usize = 100;
const MOST_REDRIVES_SHOWN: usize = 1_000;
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
    let Path(table) = table?;
    let dataset = dataset(&service, &table).await?;
    let request: RedriveRequest = serde_json::from_slice(&body?).map_err(|error| Error::Request {
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
    async fn of(mut self, dataset: &MasterDataset, which: WhichLetters) -> Result<(Chosen, OffsetVector), Error> {
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
pub(crate) async fn list(
    State(service): State<Arc<Service>>,
    table: Result<Path<String>, PathRejection>,
    query: Result<Query<WhichRedrives>, QueryRejection>,
) -> Result<Json<RedriveList>, Error> {
    let Path(table) = table?;
    let Query(which) = query?;
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
pub(crate) async fn show(
    State(service): State<Arc<Service>>,
    path: Result<Path<(String, u64)>, PathRejection>,
) -> Result<Json<RedriveEntry>, Error> {
    let Path((table, number)) = path?;
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
