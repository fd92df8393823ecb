//! The HTTP frame of every service: health endpoints, metrics, one error format, graceful stop.

use std::any::Any;
use std::future::IntoFuture;
use std::time::Duration;

use anabranch_model::ErrorKind;
use axum::Router;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{Shutdown, telemetry};

/// How long open requests may go on after the shutdown signal.
const GRACE: Duration = Duration::from_secs(10);

/// An error answer: `{"error": {"code", "message", "hint"}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub status: u16,
    pub code: String,
    pub message: String,
    /// What to do instead.
    pub hint: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    error: Body,
}

#[derive(Debug, Serialize, Deserialize)]
struct Body {
    code: String,
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl ApiError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            status: kind.http_status(),
            code: kind.code().into(),
            message: message.into(),
            hint: None,
        }
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Another status than the kind's own, such as 413 or 504.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Reads an error answer of another service; `None` when `body` has another format.
    pub fn parse(status: u16, body: &[u8]) -> Option<Self> {
        let Envelope { error } = serde_json::from_slice(body).ok()?;
        Some(Self {
            status,
            code: error.code,
            message: error.message,
            hint: error.hint,
        })
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, " ({hint})"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::warn!(
                status = self.status,
                code = self.code,
                message = self.message,
                "request failed"
            );
        }
        let body = Envelope {
            error: Body {
                code: self.code,
                message: self.message,
                hint: self.hint,
            },
        };
        (status, axum::Json(body)).into_response()
    }
}

/// `/healthz` (the process answers), `/readyz` (it can do its work; `ready` says why not), `/metrics` (Prometheus text),
/// and the error format for unknown paths and methods.
pub fn base_router(
    service: &'static str,
    ready: impl Fn() -> Result<(), String> + Send + Sync + Clone + 'static,
) -> Router {
    Router::new()
        .route(
            "/healthz",
            get(async move || axum::Json(serde_json::json!({"service": service, "status": "ok"}))),
        )
        .route(
            "/readyz",
            get(async move || match ready() {
                Ok(()) => axum::Json(serde_json::json!({"service": service, "status": "ready"})).into_response(),
                Err(reason) => ApiError::new(ErrorKind::Unavailable, format!("{service} is not ready: {reason}"))
                    .with_hint("try again shortly")
                    .into_response(),
            }),
        )
        .route(
            "/metrics",
            get(async || {
                (
                    [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
                    telemetry::metrics().render(),
                )
            }),
        )
        .fallback(async |uri: Uri| ApiError::new(ErrorKind::NotFound, format!("there is no {}", uri.path())))
        .method_not_allowed_fallback(async |uri: Uri| {
            ApiError::new(ErrorKind::Invalid, format!("{} does not take this method", uri.path())).with_status(405)
        })
}

/// Serves HTTP/1 and HTTP/2 (prior knowledge) until shutdown, then lets open requests finish for at most ten seconds. A
/// handler that panics answers 500 in the error format.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> std::io::Result<()> {
    let router = router.layer(CatchPanicLayer::custom(panicked));
    let signal = shutdown.clone();
    // Answers of several small writes, as gRPC makes them, must not wait for delayed acknowledgements.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { signal.cancelled().await });
    tokio::select! {
        result = server.into_future() => result,
        () = async { shutdown.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::new(ErrorKind::Internal, "a request handler panicked")
        .with_hint("this is a defect; see the log")
        .into_response()
}

#[cfg(test)]
mod tests;
