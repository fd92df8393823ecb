//! The HTTP frame of every service: health endpoints, metrics, one error format, graceful stop.

use std::any::Any;
use std::future::IntoFuture;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anabranch_model::ErrorKind;
use anabranch_trace::Span;
use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use tower_http::catch_panic::CatchPanicLayer;

use crate::seldom::Seldom;
use crate::tls::{Listener, Peer};
use crate::{Shutdown, telemetry};

/// Longest text of somebody else's error answer that is taken over.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Failures of this process that were logged.
static FAILURES: LazyLock<Seldom> = LazyLock::new(Seldom::default);

/// How a server goes away once it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// For so long everything is answered as before, but for `/readyz`: load balancers turn to others.
    pub announce: Duration,
    /// After that no connection is accepted, and open requests may go on for so long at most.
    pub grace: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            announce: Duration::ZERO,
            grace: Duration::from_secs(10),
        }
    }
}

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
        // While something is away every request fails alike.
        if status.is_server_error()
            && let Some(kept_back) = FAILURES.due(&self.message, Instant::now())
        {
            tracing::warn!(
                status = self.status,
                code = self.code,
                error = self.message,
                kept_back,
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
                Err(reason) => not_ready(service, &reason).into_response(),
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

fn not_ready(service: &str, reason: &str) -> ApiError {
    ApiError::new(ErrorKind::Unavailable, format!("{service} is not ready: {reason}")).with_hint("try again shortly")
}

/// What a service answers that cannot start yet: as [`base_router`], but nobody is told that there is no such path, since there may
/// be one as soon as it has started. Whatever is asked is answered 503 with the reason.
pub fn waiting_router(service: &'static str, reason: impl Fn() -> String + Send + Sync + Clone + 'static) -> Router {
    let told = reason.clone();
    base_router(service, move || Err(told())).fallback(async move || not_ready(service, &reason()))
}

/// Serves HTTP/1 and HTTP/2 (prior knowledge, or as TLS negotiates it) until shutdown, then lets open requests finish, as
/// [`Drain::default`] says. A handler that panics answers 500 in the error format; so does every refusal that a library
/// answers in words of its own. Handlers find out who is at the other end by `ConnectInfo<Peer>`.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: impl Into<Listener>, router: Router, shutdown: Shutdown) -> std::io::Result<()> {
    serve_draining(listener, router, shutdown, Drain::default()).await
}

/// As [`serve`], and goes away as `drain` says. Whoever gives `router` its `/readyz` answers 503 there from `shutdown` on.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve_draining(
    listener: impl Into<Listener>,
    router: Router,
    shutdown: Shutdown,
    drain: Drain,
) -> std::io::Result<()> {
    let router = router
        .layer(map_response(in_error_format))
        .layer(from_fn(traced))
        .layer(CatchPanicLayer::custom(panicked));
    let closed = {
        let shutdown = shutdown.clone();
        async move {
            shutdown.cancelled().await;
            tokio::time::sleep(drain.announce).await;
        }
    };
    let router = router.into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(listener.into(), router).with_graceful_shutdown(closed);
    tokio::select! {
        result = server.into_future() => result,
        () = async { shutdown.cancelled().await; tokio::time::sleep(drain.announce + drain.grace).await } => Ok(()),
    }
}

/// The address that others are told of a service: `advertise` of its section where that is set, else its listener's. One that
/// stands for all interfaces is good for this machine only, which is said.
pub fn advertised(section: &str, advertise: Option<&str>, scheme: &str, listener: SocketAddr) -> String {
    if let Some(set) = advertise {
        return set.to_owned();
    }
    if !listener.ip().is_unspecified() {
        return format!("{scheme}://{listener}");
    }
    let told = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.port()));
    tracing::warn!(%listener, %told, "listening on all interfaces, but `advertise` in [{section}] is not set: other machines cannot reach what they are told");
    format!("{scheme}://{told}")
}

/// Makes each request a span of its caller's trace, or the first one of a trace. Probes and scrapes are not worth one.
async fn traced(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if matches!(path, "/healthz" | "/readyz" | "/metrics") {
        return next.run(request).await;
    }
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or(path, MatchedPath::as_str);
    let name = || format!("{} {route}", request.method());
    let Some(mut span) = Span::server(name, request.headers()) else {
        return next.run(request).await;
    };
    span.text("http.request.method", request.method().as_str());
    span.text("http.route", route);
    let response = anabranch_trace::in_scope(Some(span.context()), next.run(request)).await;
    span.whole("http.response.status_code", response.status().as_u16().into());
    if response.status().is_server_error() {
        span.failed(response.status().to_string());
    }
    response
}

/// Refusals that axum answers in plain text, or without a body, in the error format.
async fn in_error_format(response: Response) -> Response {
    let status = response.status();
    let kind = match status.as_u16() {
        404 => ErrorKind::NotFound,
        400..=499 => ErrorKind::Invalid,
        500.. => ErrorKind::Internal,
        _ => return response,
    };
    let media = response.headers().get(header::CONTENT_TYPE);
    let foreign = media.is_none_or(|media| media.as_bytes().starts_with(b"text/plain"));
    if !foreign {
        return response;
    }
    let (head, body) = response.into_parts();
    let text = axum::body::to_bytes(body, MAX_ERROR_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let message = match text.trim() {
        "" => status.canonical_reason().unwrap_or("refused").to_lowercase(),
        text => text.to_owned(),
    };
    let mut answer = ApiError::new(kind, message)
        .with_status(status.as_u16())
        .into_response();
    // Such as `Allow` of a 405.
    for (name, value) in &head.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            answer.headers_mut().insert(name.clone(), value.clone());
        }
    }
    answer
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::new(ErrorKind::Internal, "a request handler panicked")
        .with_hint("this is a defect; see the log")
        .into_response()
}

#[cfg(test)]
mod tests;
