//! `/v1/batch/…`, and the endpoints every service has.

use std::sync::Arc;

use anabranch_access::{Need, common_needs, is_safe};
use anabranch_dataset::RunState;
use anabranch_model::ErrorKind;
use anabranch_runtime::http::{ApiError, base_router};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::forward::to_leader;
use crate::record::{Task, is_run_id, rfc3339, to_json};
use crate::rollback::Target;
use crate::service::{Requested, Shared};
use crate::{Error, Trigger, held};

/// Runs per answer unless asked otherwise, and at most.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;

/// What each route needs: all of them tell of all views, and what changes something is for administrators.
pub(crate) fn needs(method: &Method, route: Option<&str>) -> Need {
    common_needs(method, route).unwrap_or(match is_safe(method) {
        true => Need::ReadAll,
        false => Need::Admin,
    })
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let ready = {
        let shared = shared.clone();
        move || {
            if shared.shutdown.is_cancelled() {
                Err("shutting down".to_owned())
            } else {
                Ok(())
            }
        }
    };
    let api = Router::new()
        .route("/v1/batch/runs", post(start_run).get(list_runs))
        .route("/v1/batch/runs/{run_id}", get(show_run))
        .route("/v1/batch/runs/{run_id}/publish", post(publish_run))
        .route("/v1/batch/runs/{run_id}/discard", post(discard_run))
        .route("/v1/batch/rollback", post(roll_back))
        .route("/v1/batch/verify", post(verify))
        .route("/v1/batch/publications", get(list_publications))
        .route("/v1/batch/status", get(status))
        .merge(crate::maintenance::http::router())
        .route_layer(from_fn_with_state(shared.clone(), to_leader))
        .with_state(shared);
    base_router("batch", ready).merge(api)
}

/// Starts a run, or queues one behind the running run; a run that is queued already answers for all who ask meanwhile.
async fn start_run(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<(StatusCode, Json<Value>), ApiError> {
    let StartBody { full } = parse(&body, "{\"full\": true}")?;
    match shared.request(Trigger::Request, full).await.map_err(api_error)? {
        Requested::Run { run_id, state } => Ok((StatusCode::ACCEPTED, Json(json!({"run_id": run_id, "state": state})))),
        // A request is queued or joined, never skipped.
        Requested::Skipped => Err(ApiError::new(ErrorKind::Conflict, "a run is on its way")),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StartBody {
    /// Fold all of history, whatever `[batch] mode` says.
    full: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RollbackBody {
    /// Number of a publication, or id of the run that was published; the one before when absent.
    to: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct VerifyBody {
    /// All views when empty.
    views: Vec<String>,
}

/// A JSON body that may be absent, or null.
fn parse<T: Default + for<'de> Deserialize<'de>>(body: &[u8], example: &str) -> Result<T, ApiError> {
    if body.is_empty() {
        return Ok(T::default());
    }
    let asked = serde_json::from_slice::<Option<T>>(body).map_err(|error| {
        ApiError::new(ErrorKind::Invalid, format!("the body cannot be read: {error}"))
            .with_hint(format!("send nothing, or JSON like {example}"))
    })?;
    Ok(asked.unwrap_or_default())
}

/// Publishes a held run.
async fn publish_run(State(shared): State<Arc<Shared>>, Path(run_id): Path<String>) -> Result<Json<Value>, ApiError> {
    check_run_id(&run_id)?;
    let publication = held::publish(&shared, &run_id).await.map_err(api_error)?;
    Ok(Json(json!({"run_id": run_id, "publication": publication.number})))
}

/// Discards a held run.
async fn discard_run(State(shared): State<Arc<Shared>>, Path(run_id): Path<String>) -> Result<Json<Value>, ApiError> {
    check_run_id(&run_id)?;
    let record = held::discard(&shared, &run_id).await.map_err(api_error)?;
    Ok(Json(to_json(&record, shared.store.environment().now())))
}

/// Publishes an earlier publication again, once the speed layer is ready for it.
async fn roll_back(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<(StatusCode, Json<Value>), ApiError> {
    let RollbackBody { to } = parse(&body, "{\"to\": \"12\"}")?;
    let to = to.map_or(Target::Previous, |to| Target::parse(&to));
    let run_id = shared.request_task(Task::Rollback { to }).await.map_err(api_error)?;
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({"run_id": run_id, "state": RunState::Queued})),
    ))
}

/// Computes views in full and compares them with what is served.
async fn verify(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<(StatusCode, Json<Value>), ApiError> {
    let VerifyBody { views } = parse(&body, "{\"views\": [\"name\"]}")?;
    let definitions = shared.definitions.newest().await.map_err(api_error)?;
    for name in &views {
        if definitions.view(name).is_none() {
            return Err(api_error(Error::UnknownView(name.clone())));
        }
    }
    let run_id = shared.request_task(Task::Verify { views }).await.map_err(api_error)?;
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({"run_id": run_id, "state": RunState::Queued})),
    ))
}

/// The publication log, newest first.
async fn list_publications(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(query)?;
    let failed = |error: anabranch_dataset::Error| api_error(error.into());
    let numbers = shared.publications.list().await.map_err(failed)?;
    let mut publications = Vec::new();
    for number in numbers.into_iter().rev().take(limit) {
        if let Some(publication) = shared.publications.get(number).await.map_err(failed)? {
            let manifest = publication.manifest;
            publications.push(json!({
                "number": number,
                "run_id": manifest.run_id,
                "published_at": publication.published_at,
                "mode": manifest.mode,
                "cuts": manifest.cuts,
            }));
        }
    }
    Ok(Json(json!({"publications": publications})))
}

fn limit(query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>) -> Result<usize, ApiError> {
    let Query(query) = query.map_err(|error| {
        ApiError::new(ErrorKind::Invalid, error.body_text()).with_hint("the only parameter is limit, a number")
    })?;
    Ok(query.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT))
}

fn check_run_id(run_id: &str) -> Result<(), ApiError> {
    match is_run_id(run_id) {
        true => Ok(()),
        false => Err(api_error(Error::UnknownRun(run_id.to_owned()))),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<usize>,
}

/// Newest first.
async fn list_runs(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(query)?;
    let mut records = shared.runs.list(limit).await.map_err(|error| api_error(error.into()))?;
    let now = shared.store.environment().now();
    for record in &mut records {
        // What this process runs it knows better than the store.
        if let Some(run) = shared.live(&record.run_id).await {
            *record = run.record();
        }
    }
    let runs: Vec<Value> = records.iter().map(|record| to_json(record, now)).collect();
    Ok(Json(json!({"runs": runs})))
}

async fn show_run(State(shared): State<Arc<Shared>>, Path(run_id): Path<String>) -> Result<Json<Value>, ApiError> {
    check_run_id(&run_id)?;
    let record = shared.find(&run_id).await.map_err(api_error)?;
    Ok(Json(to_json(&record, shared.store.environment().now())))
}

async fn status(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let now = shared.store.environment().now();
    let schedule = shared.schedule.as_ref().map(|schedule| {
        json!({
            "expression": schedule.expression(),
            "time_zone": schedule.time_zone(),
            "next_at": shared.next_scheduled(now).map(rfc3339),
        })
    });
    let board = shared.board.lock().await;
    Json(json!({
        "schedule": schedule,
        "running": board.running.as_ref().map(|run| to_json(&run.record(), now)),
        "queued": board.queued.front().map(|run| to_json(&run.record(), now)),
        "last": board.last.as_ref().map(|record| to_json(record, now)),
        "held": board.held.as_ref().map(|held| &held.run_id),
        "leader": shared.leadership.is_leader(),
        "service": shared.lease.id(),
        "skipped": board.skipped,
        "threads": shared.kernel.threads(),
    }))
}

pub(crate) fn api_error(error: Error) -> ApiError {
    let answer = ApiError::new(error.kind(), error.to_string());
    match error {
        Error::UnknownRun(_) => answer.with_hint("GET /v1/batch/runs lists the runs"),
        Error::UnknownView(_) => answer.with_hint("`anabranch views` lists the views"),
        Error::LostLeadership => answer.with_hint("try again in a moment: requests are passed on to the new one"),
        _ => answer,
    }
}
