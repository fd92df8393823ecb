//! `/v1/batch/maintenance/…`.

use std::sync::Arc;

use anabranch_model::ErrorKind;
use anabranch_runtime::http::ApiError;
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use crate::Error;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/batch/maintenance", get(status))
        .route("/v1/batch/maintenance/run", post(run))
        .route("/v1/batch/maintenance/compact", post(compact))
        .route("/v1/batch/maintenance/vacuum", post(vacuum))
        .route("/v1/batch/maintenance/retention", post(retention))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct What {
    /// One table; all of them by default.
    table: Option<String>,
    /// Say what would be done, and do nothing.
    dry_run: bool,
}

type Asked = Result<Query<What>, axum::extract::rejection::QueryRejection>;

fn what(asked: Asked) -> Result<What, ApiError> {
    let Query(what) = asked.map_err(|error| {
        ApiError::new(ErrorKind::Invalid, error.body_text())
            .with_hint("the parameters are table, a table's name, and dry_run, true or false")
    })?;
    Ok(what)
}

async fn status(State(api): State<Arc<Api>>) -> Result<Json<Value>, ApiError> {
    let done_by = api.leadership.is_leader().then(|| api.lease.id());
    Ok(Json(api.maintenance.status(done_by).await?))
}

async fn compact(State(api): State<Arc<Api>>, asked: Asked) -> Result<Json<Value>, ApiError> {
    let What { table, dry_run } = what(asked)?;
    let maintenance = api.maintenance.clone();
    let work = async move {
        let tables = maintenance.compact(table.as_deref(), dry_run).await?;
        Ok(json!({"dry_run": dry_run, "tables": tables}))
    };
    to_its_end(&api, work).await
}

async fn vacuum(State(api): State<Arc<Api>>, asked: Asked) -> Result<Json<Value>, ApiError> {
    let What { table, dry_run } = what(asked)?;
    let maintenance = api.maintenance.clone();
    let work = async move {
        let report = maintenance.vacuum_all(table.as_deref(), dry_run).await?;
        Ok(
            json!({"dry_run": dry_run, "tables": report.tables, "runs": report.runs, "audit_records": report.audit_records}),
        )
    };
    to_its_end(&api, work).await
}

async fn retention(State(api): State<Arc<Api>>, asked: Asked) -> Result<Json<Value>, ApiError> {
    let What { table, dry_run } = what(asked)?;
    let maintenance = api.maintenance.clone();
    let work = async move {
        let tables = maintenance.expire(table.as_deref(), dry_run).await?;
        Ok(json!({"dry_run": dry_run, "tables": tables}))
    };
    to_its_end(&api, work).await
}

/// All of it, in the order of the background's.
async fn run(State(api): State<Arc<Api>>, asked: Asked) -> Result<Json<Value>, ApiError> {
    let What { table, dry_run } = what(asked)?;
    let maintenance = api.maintenance.clone();
    let work = async move {
        let table = table.as_deref();
        let compaction = maintenance.compact(table, dry_run).await?;
        let retention = maintenance.expire(table, dry_run).await?;
        let vacuum = maintenance.vacuum_all(table, dry_run).await?;
        Ok(json!({"dry_run": dry_run, "compaction": compaction, "retention": retention, "vacuum": vacuum}))
    };
    to_its_end(&api, work).await
}

/// Does the work though the client may hang up meanwhile.
async fn to_its_end(
    api: &Api,
    work: impl Future<Output = Result<Value, Error>> + Send + 'static,
) -> Result<Json<Value>, ApiError> {
    let shutdown = api.shutdown.clone();
    let working = api.site.environment().spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => Err(Error::ShutDown),
            done = work => done,
        }
    });
    let ended = working.ended().await;
    let ended = ended.unwrap_or_else(|| Err(Error::Task("maintenance: it ended by a panic".to_owned())));
    Ok(Json(ended?))
}
