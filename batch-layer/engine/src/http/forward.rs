//! Passes requests on to the service that runs the batch runs, so that asking any of them will do.

use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{Caller, Calls, Principal, Unanswered};
use anabranch_model::ErrorKind;
use anabranch_runtime::http::ApiError;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::standing::leader::{Leadership, Role};

/// Marks a request that was passed on already: if leadership moves meanwhile, it must not be passed on in a circle.
const FORWARDED: HeaderName = HeaderName::from_static("x-anabranch-forwarded");
/// Requests to a batch service are small.
const MAX_BODY_BYTES: usize = 1 << 20;
/// An answer of the leader is taken whole. The longest lists a thousand runs.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// HTTP's status of a command whose answer did not come.
const UNCLEAR: u16 = 504;
/// How long the leader may take to answer what any service can answer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What it takes to ask the leader.
pub(crate) struct Forwarding {
    pub(crate) leadership: Arc<Leadership>,
    pub(crate) calls: Calls,
    pub(crate) caller: Caller,
}

/// Answers here what this service can answer, and passes the rest on to the leader.
pub(crate) async fn to_leader(State(forwarding): State<Arc<Forwarding>>, request: Request, next: Next) -> Response {
    let leader = match forwarding.leadership.role() {
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
    let principal = parts.extensions.get::<Principal>();
    let shown = principal.and_then(|principal| forwarding.caller.authorization_of(principal));
    match pass_on(&forwarding.calls, &leader, &parts, (body.clone(), shown)).await {
        Ok(answer) => answer,
        Err(_) if is_read => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(Unanswered::NotReached(error)) => moving(&format!(
            "the leading batch service at {leader} does not answer: {error}"
        ))
        .into_response(),
        Err(Unanswered::Unclear(why)) => moving(&format!(
            "the leading batch service at {leader} does not answer, and the command may still take effect: {why}"
        ))
        .with_status(UNCLEAR)
        .into_response(),
    }
}

/// The leader's answer to a request with this body, by somebody who shows this.
async fn pass_on(
    calls: &Calls,
    leader: &str,
    request: &Parts,
    (body, shown): (Bytes, Option<HeaderValue>),
) -> Result<Response, Unanswered> {
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = HeaderMap::new();
    anabranch_trace::outgoing(&mut headers);
    headers.insert(FORWARDED, HeaderValue::from_static("1"));
    headers.extend(shown.map(|shown| (header::AUTHORIZATION, shown)));
    let kind = request.headers.get(header::CONTENT_TYPE).cloned();
    headers.extend(kind.map(|kind| (header::CONTENT_TYPE, kind)));
    let url = format!("{}{path}", leader.trim_end_matches('/'));
    let mut outgoing = calls
        .client()
        .request(request.method.clone(), url)
        .headers(headers)
        .body(body);
    if request.method == Method::GET {
        outgoing = outgoing.timeout(READ_TIMEOUT);
    }
    let answer = calls.send(leader, outgoing).await?;
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
    let body = to_bytes(Body::from_stream(calls.body(answer)), MAX_ANSWER_BYTES).await;
    let body = body.map_err(|error| Unanswered::Unclear(error.to_string()))?;
    let headers = HeaderMap::from_iter(kind.map(|kind| (header::CONTENT_TYPE, kind)));
    Ok((status, headers, body).into_response())
}

fn moving(message: &str) -> ApiError {
    ApiError::new(ErrorKind::Unavailable, message).with_hint(
        "if it has died, another takes over when its lease has expired, within a quarter of a minute; GET /v1/batch/runs and \
         /v1/batch/maintenance show what was done",
    )
}

#[cfg(test)]
mod tests;
