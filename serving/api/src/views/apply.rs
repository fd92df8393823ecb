//! `POST /v1/views/apply`: a changed `views.sql` for everything that runs.

use anabranch_access::Principal;
use anabranch_definitions::{Applied, Options, apply};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

use crate::Error;
use crate::openapi::{self, Conflict, Invalid, TooLarge, Unavailable, UnknownType};
use crate::service::Service;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Parameters {
    /// Only say what would happen.
    #[serde(default)]
    #[param(example = true)]
    dry_run: bool,
    /// Go back to a text that was applied, and replaced, before.
    #[serde(default)]
    #[param(example = false)]
    force: bool,
}

/// Make a changed views.sql the one that runs.
///
/// Added and changed views are built from history in the shadow; the former versions answer until then. What would misread
/// landed events is refused.
#[utoipa::path(post, path = "/v1/views/apply", operation_id = "applyViews", tag = "queries", params(Parameters),
    request_body(content = String, content_type = "text/plain", description = "The whole text of a views.sql.",
        example = "CREATE TABLE …; CREATE MATERIALIZED VIEW …;"),
    responses((status = 200, description = "What becomes of each table and view.", body = openapi::Applied),
        Invalid, Conflict, TooLarge, UnknownType, Unavailable))]
pub(crate) async fn apply_views(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    sql: String,
) -> Result<Json<Applied>, Error> {
    let Query(Parameters { dry_run, force }) = parameters.map_err(|rejection| Error::Request {
        message: rejection.body_text(),
        hint: Some("parameters are dry_run=true|false and force=true|false".into()),
    })?;
    let by = format!("{} (views apply through {})", principal.recorded(None), service.id);
    let store = service.adoption.store().clone();
    let options = Options { dry_run, force };
    // Detached from the request: a client that hangs up must not leave it open whether the change was applied.
    let applied = tokio::spawn(async move { apply(&store, &sql, &by, options).await })
        .await
        .map_err(|error| Error::Internal(error.to_string()))??;
    if applied.written {
        service.adoption.refresh().await?;
    }
    Ok(Json(applied))
}
