//! `/v1/batch/…`, and the endpoints every service has.

use std::sync::Arc;

use anabranch_access::{Need, common_needs, is_safe};
use anabranch_dataset::RunState;
use anabranch_model::ErrorKind;
use anabranch_runtime::Shutdown;
use anabranch_runtime::http::{ApiError, base_router};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};

mod forward;
mod maintenance;

pub(crate) use forward::Forwarding;

use forward::to_leader;

use crate::maintenance::Maintenance;
use crate::runs::board::Board;
use crate::runs::held;
use crate::runs::record::{is_run_id, rfc3339, to_json};
use crate::runs::task::{Target, Task};
use crate::site::Site;
use crate::standing::leader::Leadership;
use crate::standing::lease::LeaseKeeper;
use crate::triggers::requests::{Requested, Requests};
use crate::{Error, Schedule, Trigger};

/// Runs per answer unless asked otherwise, and at most.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;
/// Publications read at once.
const READS: usize = 8;

/// What each route needs: all of them tell of all views, and what changes something is for administrators.
pub(crate) fn needs(method: &Method, route: Option<&str>) -> Need {
    common_needs(method, route).unwrap_or(match is_safe(method) {
        true => Need::ReadAll,
        false => Need::Admin,
    })
}

/// What the answers are made of.
pub(crate) struct Api {
    pub(crate) site: Arc<Site>,
    pub(crate) board: Arc<Board>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) leadership: Arc<Leadership>,
    pub(crate) lease: Arc<LeaseKeeper>,
    pub(crate) maintenance: Arc<Maintenance>,
    pub(crate) schedule: Option<Schedule>,
    /// That runs fold with.
    pub(crate) threads: usize,
    pub(crate) shutdown: Shutdown,
}

/// All routes; what the leader must answer goes by way of `forwarding`.
pub(crate) fn router(api: Arc<Api>, forwarding: Arc<Forwarding>) -> Router {
    let ready = {
        let shutdown = api.shutdown.clone();
        move || {
            if shutdown.is_cancelled() {
                Err("shutting down".to_owned())
            } else {
                Ok(())
            }
        }
    };
    let routes = Router::new()
        .route("/v1/batch/runs", post(start_run).get(list_runs))
        .route("/v1/batch/runs/{run_id}", get(show_run))
        .route("/v1/batch/runs/{run_id}/publish", post(publish_run))
        .route("/v1/batch/runs/{run_id}/discard", post(discard_run))
        .route("/v1/batch/rollback", post(roll_back))
        .route("/v1/batch/verify", post(verify))
        .route("/v1/batch/publications", get(list_publications))
        .route("/v1/batch/status", get(status))
        .merge(maintenance::router())
        .route_layer(from_fn_with_state(forwarding, to_leader))
        .with_state(api);
    base_router("batch", ready).merge(routes)
}

/// Starts a run, or queues one behind the running run; a run that is queued already answers for all who ask meanwhile.
async fn start_run(State(api): State<Arc<Api>>, body: Bytes) -> Result<(StatusCode, Json<Value>), ApiError> {
    let StartBody { full } = parse(&body, "{\"full\": true}")?;
    match api.requests.request(Trigger::Request, full).await? {
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
async fn publish_run(State(api): State<Arc<Api>>, Path(run_id): Path<String>) -> Result<Json<Value>, ApiError> {
    check_run_id(&run_id)?;
    let publication = held::publish(&api.site, &api.board, &run_id).await?;
    Ok(Json(json!({"run_id": run_id, "publication": publication.number})))
}

/// Discards a held run.
async fn discard_run(State(api): State<Arc<Api>>, Path(run_id): Path<String>) -> Result<Json<Value>, ApiError> {
    check_run_id(&run_id)?;
    let record = held::discard(&api.site, &api.board, &run_id).await?;
    Ok(Json(to_json(&record, api.site.environment().now())))
}

/// Publishes an earlier publication again, once the speed layer is ready for it.
async fn roll_back(State(api): State<Arc<Api>>, body: Bytes) -> Result<(StatusCode, Json<Value>), ApiError> {
    let RollbackBody { to } = parse(&body, "{\"to\": \"12\"}")?;
    let to = to.map_or(Target::Previous, |to| Target::parse(&to));
    let run_id = api.requests.request_task(Task::Rollback { to }).await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({"run_id": run_id, "state": RunState::Queued})),
    ))
}

/// Computes views in full and compares them with what is served.
async fn verify(State(api): State<Arc<Api>>, body: Bytes) -> Result<(StatusCode, Json<Value>), ApiError> {
    let VerifyBody { views } = parse(&body, "{\"views\": [\"name\"]}")?;
    let definitions = api.site.definitions.newest().await?;
    for name in &views {
        if definitions.view(name).is_none() {
            return Err(Error::UnknownView(name.clone()).into());
        }
    }
    let run_id = api.requests.request_task(Task::Verify { views }).await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({"run_id": run_id, "state": RunState::Queued})),
    ))
}

/// The publication log, newest first.
async fn list_publications(
    State(api): State<Arc<Api>>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(query)?;
    let numbers = api.site.publications.list().await.map_err(Error::from)?;
    let log = &api.site.publications;
    let publications: Vec<Value> = stream::iter(numbers.into_iter().rev().take(limit))
        .map(|number| log.get(number))
        .buffered(READS)
        .try_filter_map(async |publication| Ok(publication))
        .map_ok(|publication| {
            let manifest = publication.manifest;
            json!({
                "number": publication.number,
                "run_id": manifest.run_id,
                "published_at": publication.published_at,
                "mode": manifest.mode,
                "cuts": manifest.cuts,
            })
        })
        .try_collect()
        .await
        .map_err(Error::from)?;
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
        false => Err(Error::UnknownRun(run_id.to_owned()).into()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<usize>,
}

/// Newest first.
async fn list_runs(
    State(api): State<Arc<Api>>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(query)?;
    let mut records = api.site.runs.list(limit).await.map_err(Error::from)?;
    let now = api.site.environment().now();
    for record in &mut records {
        // What this process runs it knows better than the store.
        if let Some(run) = api.board.live(&record.run_id).await {
            *record = run.record();
        }
    }
    let runs: Vec<Value> = records.iter().map(|record| to_json(record, now)).collect();
    Ok(Json(json!({"runs": runs})))
}

async fn show_run(State(api): State<Arc<Api>>, Path(run_id): Path<String>) -> Result<Json<Value>, ApiError> {
    check_run_id(&run_id)?;
    let record = api.board.find(&run_id, &api.site.runs).await?;
    Ok(Json(to_json(&record, api.site.environment().now())))
}

async fn status(State(api): State<Arc<Api>>) -> Json<Value> {
    let now = api.site.environment().now();
    let schedule = api.schedule.as_ref().map(|schedule| {
        json!({
            "expression": schedule.expression(),
            "time_zone": schedule.time_zone(),
            "next_at": schedule.next_after(now).map(rfc3339),
        })
    });
    let status = api.board.show(|listed| {
        json!({
            "schedule": schedule,
            "running": listed.running.as_ref().map(|run| to_json(&run.record(), now)),
            "queued": listed.queued.front().map(|run| to_json(&run.record(), now)),
            "last": listed.last.as_ref().map(|record| to_json(record, now)),
            "held": listed.held.as_ref().map(|held| &held.run_id),
            "leader": api.leadership.is_leader(),
            "service": api.lease.id(),
            "skipped": listed.skipped,
            "threads": api.threads,
        })
    });
    Json(status.await)
}
