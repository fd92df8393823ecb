//! Exclusions over HTTP: what an operator took out of every answer, and putting it back.

use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_catalog::{Source, did_you_mean};
use anabranch_dataset::{Exclusion, MasterDataset, Notes};
use anabranch_model::{Offset, OffsetRange, PartitionId};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Error;
use crate::adoption::Published;
use crate::http::{bad_body, bad_path, bad_query};
use crate::server::Service;

/// Body of `POST /v1/tables/{table}/exclusions`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    partition: i32,
    /// `A..B`, without B.
    offsets: String,
    reason: String,
    #[serde(default)]
    by: Option<String>,
}

/// `GET /v1/tables/{table}/exclusions`
pub(crate) async fn list(
    State(service): State<Arc<Service>>,
    table: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Error> {
    let Path(table) = table.map_err(bad_path)?;
    let source = source(&service, &table)?;
    let notes = match service.masters.dataset(&source).await? {
        Some(dataset) => service.masters.notes(&dataset).await?,
        None => Arc::default(),
    };
    Ok(Json(document(&table, &notes, &service.adoption.pin())))
}

/// `POST /v1/tables/{table}/exclusions`
pub(crate) async fn exclude(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    table: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let Path(table) = table.map_err(bad_path)?;
    let dataset = dataset(&service, &table).await?;
    let request: Request = serde_json::from_slice(&body.map_err(bad_body)?).map_err(|error| Error::Request {
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
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Undo {
    by: Option<String>,
}

/// `DELETE /v1/tables/{table}/exclusions/{id}`, with `?by=` for the record.
pub(crate) async fn include(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    path: Result<Path<(String, u64)>, PathRejection>,
    query: Result<Query<Undo>, QueryRejection>,
) -> Result<Json<Value>, Error> {
    let Path((table, id)) = path.map_err(bad_path)?;
    let Query(undo) = query.map_err(bad_query)?;
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

fn document(table: &str, notes: &Notes, published: &Published) -> Value {
    json!({
        "table": table,
        "exclusions": notes.exclusions.iter().map(|known| entry(known, table, published)).collect::<Vec<_>>(),
        "excluded": notes.excluded(),
        "gaps": notes.gaps,
        "since": notes.since,
    })
}

fn plain(exclusion: &Exclusion) -> Value {
    json!({
        "id": exclusion.id,
        "partition": exclusion.partition,
        "offsets": format!("{}..{}", exclusion.range.start, exclusion.range.end),
        "reason": exclusion.reason,
        "by": exclusion.by,
        "at": exclusion.at,
    })
}

/// An exclusion, and whether the batch views that are served apply it as far as they reach.
fn entry(exclusion: &Exclusion, table: &str, published: &Published) -> Value {
    let mut entry = plain(exclusion);
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
    entry["published"] = json!(applied);
    entry
}

#[cfg(test)]
mod tests;
