//! `/v1/batch/…`, and the endpoints every service has.

use std::sync::Arc;

use anabranch_model::ErrorKind;
use anabranch_runtime::http::{ApiError, base_router};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::Utc;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::record::{is_run_id, rfc3339, to_json};
use crate::service::{Requested, Shared};
use crate::{Error, Trigger};

/// Runs per answer unless asked otherwise, and at most.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;

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
        .route("/v1/batch/status", get(status))
        .merge(crate::maintenance::http::router())
        .with_state(shared);
    base_router("batch", ready).merge(api)
}

/// Starts a run, or queues one behind the running run; a run that is queued already answers for all who ask meanwhile.
async fn start_run(State(shared): State<Arc<Shared>>) -> Result<(StatusCode, Json<Value>), ApiError> {
    match shared.request(Trigger::Request).await.map_err(api_error)? {
        Requested::Run { run_id, state } => Ok((StatusCode::ACCEPTED, Json(json!({"run_id": run_id, "state": state})))),
        // A request is queued or joined, never skipped.
        Requested::Skipped => Err(ApiError::new(ErrorKind::Conflict, "a run is on its way")),
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
    let Query(query) = query.map_err(|error| {
        ApiError::new(ErrorKind::Invalid, error.body_text()).with_hint("the only parameter is limit, a number of runs")
    })?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
    let mut records = shared.runs.list(limit).await.map_err(|error| api_error(error.into()))?;
    let now = Utc::now();
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
    if !is_run_id(&run_id) {
        return Err(api_error(Error::UnknownRun(run_id)));
    }
    let record = shared.find(&run_id).await.map_err(api_error)?;
    Ok(Json(to_json(&record, Utc::now())))
}

async fn status(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let now = Utc::now();
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
        "queued": board.queued.as_ref().map(|run| to_json(&run.record(), now)),
        "last": board.last.as_ref().map(|record| to_json(record, now)),
        "skipped": board.skipped,
        "threads": shared.kernel.threads(),
    }))
}

pub(crate) fn api_error(error: Error) -> ApiError {
    let answer = ApiError::new(error.kind(), error.to_string());
    match error {
        Error::UnknownRun(_) => answer.with_hint("GET /v1/batch/runs lists the runs"),
        _ => answer,
    }
}
