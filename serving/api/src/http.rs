//! The HTTP API: every route of the serving port, what each needs of who asks, and the handlers of queries. Handlers of tables, views,
//! the status and live queries stand beside what they handle.

mod needs;
mod onward;
mod queries;
mod rejections;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anabranch_access::Perimeter;
use anabranch_model::ErrorKind;
use anabranch_runtime::Shutdown;
use anabranch_runtime::http::{ApiError, base_router};
use axum::extract::{MatchedPath, Request};
use axum::http::Uri;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::any;
use axum::{Json, Router};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::openapi as described;
use crate::service::Service;
use crate::tables::{dead_letters, exclusions, redrives};
use crate::{live, status, views};
pub(crate) use needs::needs;

/// The routes that this service answers itself, each with its place in the OpenAPI document.
fn routes() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(queries::sql))
        .routes(routes!(queries::list_views))
        .routes(routes!(queries::show_view))
        .routes(routes!(queries::view_rows))
        .routes(routes!(live::stream::live))
        .routes(routes!(views::apply::apply_views))
        .routes(routes!(exclusions::list, exclusions::exclude))
        .routes(routes!(exclusions::include))
        .routes(routes!(dead_letters::list))
        .routes(routes!(redrives::redrive))
        .routes(routes!(redrives::list))
        .routes(routes!(redrives::show))
        .routes(routes!(dead_letters::show))
        .routes(routes!(status::show))
        .routes(routes!(serve_openapi))
}

/// Every route of the serving port.
pub(crate) fn router(service: Arc<Service>, shutdown: Shutdown) -> Router {
    let ready = {
        let service = Arc::clone(&service);
        move || {
            if shutdown.is_cancelled() {
                return Err("it is stopping".to_owned());
            }
            if !service.adoption.is_ready() {
                return Err("the publication log has not been read yet".to_owned());
            }
            if !service.directory.is_ready() {
                return Err("the leases of the other services have not been read yet".to_owned());
            }
            Ok(())
        }
    };
    Router::from(routes())
        .route("/v1/batch/{*rest}", any(onward::to_batch))
        .route("/v1/ingest/{*rest}", any(onward::to_speed))
        .method_not_allowed_fallback(async |uri: Uri| {
            ApiError::new(ErrorKind::Invalid, format!("{} does not take this method", uri.path())).with_status(405)
        })
        .route_layer(from_fn(measure))
        .with_state(service)
        .merge(anabranch_console::router())
        .merge(base_router("serve", ready))
}

async fn measure(request: Request, next: Next) -> Response {
    let endpoint = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("other", MatchedPath::as_str)
        .to_owned();
    let started = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("anabranch_serving_requests_total", "endpoint" => endpoint.clone(), "status" => status)
        .increment(1);
    metrics::histogram!("anabranch_serving_request_seconds", "endpoint" => endpoint)
        .record(started.elapsed().as_secs_f64());
    response
}

/// Every route of the serving port, those that are passed on to other services included, as an OpenAPI 3.1 document.
pub fn openapi() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let session = Perimeter::open("serve").session_routes();
        described::document([routes().into_openapi(), session.into_openapi()])
    })
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", operation_id = "openApi", tag = "platform",
    responses((status = 200, description = "OpenAPI 3.1.", body = inline(described::Document))))]
async fn serve_openapi() -> Json<&'static Value> {
    Json(openapi())
}

#[cfg(test)]
mod tests;
