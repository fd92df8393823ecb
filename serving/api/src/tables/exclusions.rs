//! Exclusions over HTTP: what an operator took out of every answer, and putting it back.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_catalog::{Source, did_you_mean};
use anabranch_dataset::{Exclusion, MasterDataset, Notes};
use anabranch_model::{Offset, OffsetRange, OffsetVector, PartitionId, RangeSet};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Error;
use crate::follow::adoption::Published;
use crate::openapi::{self, Conflict, Invalid, NotFound, OneTable, TooLarge, Unavailable};
use crate::service::Service;

/// Body of `POST /v1/tables/{table}/exclusions`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ExclusionRequest)]
pub(crate) struct Request {
    #[schema(minimum = 0, maximum = 100_000)]
    partition: i32,
    #[schema(value_type = openapi::OffsetSpan)]
    offsets: String,
    #[schema(min_length = 1)]
    reason: String,
    /// Who asks, for the record.
    #[serde(default)]
    by: Option<String>,
}

/// An exclusion.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Exclusion)]
pub(crate) struct Entry {
    id: u64,
    partition: i32,
    /// `A..B`: from A on, without B.
    offsets: String,
    reason: String,
    by: String,
    #[schema(format = DateTime)]
    at: String,
    /// Whether the batch views that are served leave the events out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    published: Option<bool>,
}

/// What is kept out of a table's answers, and what is not there any more.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Exclusions)]
pub(crate) struct List {
    table: String,
    exclusions: Vec<Entry>,
    /// Partition → positions that are excluded.
    #[schema(value_type = BTreeMap<String, openapi::Ranges>)]
    excluded: BTreeMap<PartitionId, RangeSet>,
    /// Partition → positions that the log had lost before they were landed.
    #[schema(value_type = BTreeMap<String, openapi::Ranges>)]
    gaps: BTreeMap<PartitionId, RangeSet>,
    /// Events before these offsets have expired.
    #[schema(value_type = openapi::PartitionOffsets)]
    since: OffsetVector,
}

/// Events kept out of every answer.
#[utoipa::path(get, path = "/v1/tables/{table}/exclusions", operation_id = "listExclusions", tag = "tables", params(OneTable),
    responses((status = 200, description = "Exclusions, gaps and what has expired.", body = List),
        Invalid, NotFound, Unavailable))]
pub(crate) async fn list(
    State(service): State<Arc<Service>>,
    table: Result<Path<String>, PathRejection>,
) -> Result<Json<List>, Error> {
    let Path(table) = table?;
    let source = source(&service, &table)?;
    let notes = match service.masters.dataset(&source).await? {
        Some(dataset) => service.masters.notes(&dataset).await?,
        None => Arc::default(),
    };
    let published = service.adoption.pin();
    let exclusions = notes.exclusions.iter();
    Ok(Json(List {
        exclusions: exclusions.map(|known| entry(known, &table, &published)).collect(),
        excluded: notes.excluded(),
        gaps: notes.gaps.clone(),
        since: notes.since.clone(),
        table,
    }))
}

/// Keep events out of every answer, from now on.
#[utoipa::path(post, path = "/v1/tables/{table}/exclusions", operation_id = "exclude", tag = "tables", params(OneTable),
    request_body(content = Request, description = "Which events, and why.",
        example = json!({"partition": 0, "offsets": "100..250", "reason": "a test run of the shop", "by": "ops"})),
    responses((status = 201, description = "The exclusion, recorded.", body = Entry),
        Invalid, NotFound, Conflict, TooLarge, Unavailable))]
pub(crate) async fn exclude(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    table: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Entry>), Error> {
    let Path(table) = table?;
    let dataset = dataset(&service, &table).await?;
    let request: Request = serde_json::from_slice(&body?).map_err(|error| Error::Request {
        message: format!("the body is not an exclusion: {error}"),
        hint: Some(r#"send {"partition": 0, "offsets": "100..250", "reason": "…", "by": "…"}"#.into()),
    })?;
    let range = offsets(&request.offsets)?;
    let reason = request.reason.trim();
    if reason.is_empty() {
        return Err(Error::Request {
            message: "an exclusion needs a reason".into(),
            hint: Some("say why, for those who read the numbers later".into()),
        });
    }
    let by = principal.recorded(request.by.as_deref());
    let excluded = dataset
        .exclude(PartitionId(request.partition), range, reason, by)
        .await?;
    service.masters.notes(&dataset).await?;
    let answer = entry(&excluded, &table, &service.adoption.pin());
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Query of `DELETE /v1/tables/{table}/exclusions/{id}`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Undo {
    /// Who asks, for the record.
    #[param(example = "ops")]
    by: Option<String>,
}

/// Undo an exclusion.
#[utoipa::path(delete, path = "/v1/tables/{table}/exclusions/{id}", operation_id = "include", tag = "tables",
    params(OneTable, ("id" = u64, Path, description = "Id of the exclusion.", example = 3), Undo),
    responses((status = 200, description = "The exclusion that is no more.", body = Entry),
        Invalid, NotFound, Conflict, Unavailable))]
pub(crate) async fn include(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    path: Result<Path<(String, u64)>, PathRejection>,
    query: Result<Query<Undo>, QueryRejection>,
) -> Result<Json<Entry>, Error> {
    let Path((table, id)) = path?;
    let Query(undo) = query?;
    let dataset = dataset(&service, &table).await?;
    let included = dataset.include(id, principal.recorded(undo.by.as_deref())).await?;
    service.masters.notes(&dataset).await?;
    Ok(Json(plain(&included)))
}

pub(crate) fn source(service: &Service, table: &str) -> Result<Arc<Source>, Error> {
    let published = service.adoption.pin();
    let sources = &published.catalog().sources;
    sources.get(table).cloned().ok_or_else(|| Error::UnknownTable {
        name: table.to_owned(),
        hint: did_you_mean(table, sources.keys().map(String::as_str)),
    })
}

pub(crate) async fn dataset(service: &Service, table: &str) -> Result<MasterDataset, Error> {
    let source = source(service, table)?;
    let dataset = service.masters.dataset(&source).await?;
    dataset.ok_or_else(|| Error::NothingLanded {
        table: table.to_owned(),
    })
}

/// `A..B`: offsets from A on, without B.
pub(crate) fn offsets(text: &str) -> Result<OffsetRange, Error> {
    let parsed = || {
        let (start, end) = text.split_once("..")?;
        let (start, end): (i64, i64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
        (0 <= start && start < end).then(|| OffsetRange::new(Offset(start), Offset(end)))
    };
    parsed().ok_or_else(|| Error::Request {
        message: format!("offsets are {text:?}"),
        hint: Some("write A..B: from A on, without B".into()),
    })
}

fn plain(exclusion: &Exclusion) -> Entry {
    Entry {
        id: exclusion.id,
        partition: exclusion.partition.0,
        offsets: format!("{}..{}", exclusion.range.start, exclusion.range.end),
        reason: exclusion.reason.clone(),
        by: exclusion.by.clone(),
        at: exclusion.at.clone(),
        published: None,
    }
}

/// An exclusion, and whether the batch views that are served apply it as far as they reach.
fn entry(exclusion: &Exclusion, table: &str, published: &Published) -> Entry {
    let manifest = published.publication.as_ref().map(|publication| &publication.manifest);
    let cut = manifest.and_then(|manifest| manifest.cuts.get(table)?.next.get(exclusion.partition));
    let applied = cut.is_none_or(|cut| {
        let nothing = Notes::default();
        let applied = manifest
            .and_then(|manifest| manifest.notes.get(table))
            .unwrap_or(&nothing);
        let start = exclusion.range.start.min(cut);
        applied
            .excluded_of(exclusion.partition)
            .covers(OffsetRange::new(start, exclusion.range.end.min(cut)))
    });
    Entry {
        published: Some(applied),
        ..plain(exclusion)
    }
}

#[cfg(test)]
mod tests;
