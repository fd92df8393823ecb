//! `/v1/login`, `/v1/logout`, `/v1/whoami`: how the console's user comes in and goes.

use anabranch_model::ErrorKind;
use anabranch_runtime::http::ApiError;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use chrono::Utc;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::audit::AuditRecord;
use crate::guard::{SESSION_COOKIE, forbidden, may_log_in, peer, stranger};
use crate::{Perimeter, Principal};

/// A token of an identity provider may take some kilobytes.
const LARGEST_BODY: usize = 64 << 10;

/// Body of `POST /v1/login`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

/// The three routes. `/v1/login` and `/v1/logout` need nothing, `/v1/whoami` to be let in.
pub(crate) fn router(perimeter: Perimeter) -> Router {
    Router::new()
        .route("/v1/login", post(log_in))
        .route("/v1/logout", post(log_out))
        .route("/v1/whoami", get(who_am_i))
        .with_state(perimeter)
}

async fn log_in(State(perimeter): State<Perimeter>, request: Request) -> Response {
    let from = peer(request.extensions());
    if !may_log_in(&request) {
        return forbidden("a page of another origin may not ask for this");
    }
    let Ok(body) = to_bytes(request.into_body(), LARGEST_BODY).await else {
        return bad_login();
    };
    // What was sent is in no message: it may hold a token.
    let Ok(Login { token }) = serde_json::from_slice(&body) else {
        return bad_login();
    };
    if perimeter.access().is_open() {
        return Json(told(&Principal::anonymous_admin(), true)).into_response();
    }
    let session = match perimeter.access().begin_session(token.trim()).await {
        Ok(session) => session,
        Err(denied) => return stranger(&perimeter, &denied, from),
    };
    let record = AuditRecord {
        at: Utc::now(),
        who: session.principal.name.to_string(),
        role: session.principal.role.to_string(),
        from: from.map_or_else(String::new, |peer| peer.address.to_string()),
        service: perimeter.service().to_owned(),
        action: "POST /v1/login".to_owned(),
        outcome: "ok 200".to_owned(),
    };
    perimeter.audit().record(&record).await;
    let encrypted = from.is_some_and(|peer| peer.encrypted);
    let cookie = set_cookie(&session.cookie, session.lifetime.as_secs(), encrypted);
    ([(header::SET_COOKIE, cookie)], Json(told(&session.principal, false))).into_response()
}

async fn log_out(request: Request) -> Response {
    if !may_log_in(&request) {
        return forbidden("a page of another origin may not ask for this");
    }
    let encrypted = peer(request.extensions()).is_some_and(|peer| peer.encrypted);
    ([(header::SET_COOKIE, set_cookie("", 0, encrypted))], Json(json!({}))).into_response()
}

async fn who_am_i(State(perimeter): State<Perimeter>, Extension(principal): Extension<Principal>) -> Json<Value> {
    Json(told(&principal, perimeter.access().is_open()))
}

fn told(principal: &Principal, open: bool) -> Value {
    json!({
        "name": principal.name,
        "role": principal.role,
        "views": principal.views,
        "open": open,
    })
}

fn bad_login() -> Response {
    ApiError::new(ErrorKind::Invalid, "the body is no login")
        .with_hint(r#"send {"token": "…"}"#)
        .into_response()
}

/// Not to be read by scripts, and not sent along with what other sites ask for.
fn set_cookie(value: &str, seconds: u64, encrypted: bool) -> HeaderValue {
    let secure = if encrypted { "; Secure" } else { "" };
    let text = format!("{SESSION_COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&text).expect("a session is base64 and dots")
}
