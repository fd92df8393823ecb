//! Passes requests on to the service that runs the batch runs, so that asking any of them will do.

use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{Caller, Principal};
use anabranch_model::ErrorKind;
use anabranch_runtime::http::ApiError;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::leader::Role;
use crate::service::Shared;

/// Marks a request that was passed on already: if leadership moves meanwhile, it must not be passed on in a circle.
const FORWARDED: HeaderName = HeaderName::from_static("x-anabranch-forwarded");
/// Requests to a batch service are small.
const MAX_BODY_BYTES: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the leader may take to answer what any service can answer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The client that requests are passed on with.
pub(crate) fn client(caller: &Caller) -> Result<reqwest::Client, crate::Error> {
    caller
        .http()
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .map_err(|error| crate::Error::Task(format!("no HTTP client: {error}")))
}

/// Answers here what this service can answer, and passes the rest on to the leader.
pub(crate) async fn to_leader(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let leader = match shared.leadership.role() {
        Role::Leader => return next.run(request).await,
        Role::Follower(leader) => leader,
    };
    // Records are in the store: any service can read them when the leader cannot be asked.
    let is_read = request.method() == Method::GET;
    let leader = match leader {
        Some(leader) if !request.headers().contains_key(&FORWARDED) => leader,
        _ if is_read => return next.run(request).await,
        _ => return moving("no batch service leads at the moment").into_response(),
    };
    let (parts, body) = request.into_parts();
    let body = match to_bytes(body, MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(error) => return ApiError::new(ErrorKind::Invalid, error.to_string()).into_response(),
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = HeaderMap::new();
    anabranch_trace::outgoing(&mut headers);
    let mut outgoing = shared
        .client
        .request(parts.method.clone(), format!("{}{path}", leader.trim_end_matches('/')))
        .headers(headers)
        .header(FORWARDED, HeaderValue::from_static("1"))
        .body(body.clone());
    if is_read {
        outgoing = outgoing.timeout(READ_TIMEOUT);
    }
    if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
        outgoing = outgoing.header(header::CONTENT_TYPE, kind);
    }
    let principal = parts.extensions.get::<Principal>();
    if let Some(shown) = principal.and_then(|principal| shared.caller.authorization_of(principal)) {
        outgoing = outgoing.header(header::AUTHORIZATION, shown);
    }
    match outgoing.send().await {
        Ok(answer) => {
            let mut headers = HeaderMap::new();
            if let Some(kind) = answer.headers().get(header::CONTENT_TYPE) {
                headers.insert(header::CONTENT_TYPE, kind.clone());
            }
            let status = answer.status();
            match answer.bytes().await {
                Ok(body) => (status, headers, body).into_response(),
                Err(_) if is_read => next.run(Request::from_parts(parts, Body::from(body))).await,
                Err(error) => {
                    moving(&format!("the leading batch service at {leader} was cut off: {error}")).into_response()
                }
            }
        }
        Err(_) if is_read => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(error) => moving(&format!(
            "the leading batch service at {leader} does not answer: {error}"
        ))
        .into_response(),
    }
}

fn moving(message: &str) -> ApiError {
    ApiError::new(ErrorKind::Unavailable, message).with_hint(
        "if it has died, another takes over when its lease has expired, within a quarter of a minute; try again",
    )
}
