//! `/v1/batch/maintenance/…`.

use std::sync::Arc;

use anabranch_model::ErrorKind;
use anabranch_runtime::http::ApiError;
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Error;
use crate::http::api_error;
use crate::service::Shared;

pub(crate) fn router() -> Router<Arc<Shared>> {
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

async fn status(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, ApiError> {
    super::status(&shared).await.map(Json).map_err(api_error)
}

async fn compact(State(shared): State<Arc<Shared>>, asked: Asked) -> Result<Json<Value>, ApiError> {
    let What { table, dry_run } = what(asked)?;
    let at = shared.clone();
    let work = async move {
        let tables = super::compact(&at, table.as_deref(), dry_run).await?;
        Ok(json!({"dry_run": dry_run, "tables": tables}))
    };
    to_its_end(&shared, work).await
}

async fn vacuum(State(shared): State<Arc<Shared>>, asked: Asked) -> Result<Json<Value>, ApiError> {
    let What { table, dry_run } = what(asked)?;
    let at = shared.clone();
    let work = async move {
        let report = super::vacuum_all(&at, table.as_deref(), dry_run).await?;
        Ok(json!({"dry_run": dry_run, "tables": report.tables, "runs": report.runs}))
    };
    to_its_end(&shared, work).await
}

async fn retention(State(shared): State<Arc<Shared>>, asked: Asked) -> Result<Json<Value>, ApiError> {
    let What { table, dry_run } = what(asked)?;
    let at = shared.clone();
    let work = async move {
        let tables = super::expire(&at, table.as_deref(), dry_run).await?;
        Ok(json!({"dry_run": dry_run, "tables": tables}))
    };
    to_its_end(&shared, work).await
}

/// All of it, in the order of the background's.
async fn run(State(shared): State<Arc<Shared>>, asked: Asked) -> Result<Json<Value>, ApiError> {
    let What { table, dry_run } = what(asked)?;
    let at = shared.clone();
    let work = async move {
        let table = table.as_deref();
        let compaction = super::compact(&at, table, dry_run).await?;
        let retention = super::expire(&at, table, dry_run).await?;
        let vacuum = super::vacuum_all(&at, table, dry_run).await?;
        Ok(json!({"dry_run": dry_run, "compaction": compaction, "retention": retention, "vacuum": vacuum}))
    };
    to_its_end(&shared, work).await
}

/// Does the work though the client may hang up meanwhile.
async fn to_its_end(
    shared: &Arc<Shared>,
    work: impl Future<Output = Result<Value, Error>> + Send + 'static,
) -> Result<Json<Value>, ApiError> {
    let shutdown = shared.shutdown.clone();
    let working = shared.store.environment().spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => Err(Error::ShutDown),
            done = work => done,
        }
    });
    let ended = working.ended().await;
    ended
        .unwrap_or_else(|| Err(Error::Task("maintenance: it ended by a panic".to_owned())))
        .map(Json)
        .map_err(api_error)
}
