//! `/v1/login`, `/v1/logout`, `/v1/whoami`: how the console's user comes in and goes.

use anabranch_model::ErrorKind;
use anabranch_runtime::http::ApiError;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::audit::AuditRecord;
use crate::guard::{SESSION_COOKIE, cookies, forbidden, may_log_in, peer, stranger};
use crate::{Perimeter, Principal, Role, ViewPatterns};

/// A token of an identity provider may take some kilobytes.
const LARGEST_BODY: usize = 64 << 10;

/// Body of `POST /v1/login`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

/// Who it is that asks.
#[derive(Serialize, ToSchema)]
#[schema(as = Principal)]
struct Told {
    name: String,
    #[schema(inline)]
    role: Role,
    /// Patterns of the views that it may see.
    #[schema(value_type = Vec<String>)]
    views: ViewPatterns,
    /// Whether everybody is let in.
    open: bool,
}

/// The three routes. `/v1/login` and `/v1/logout` need nothing, `/v1/whoami` to be let in.
pub(crate) fn router(perimeter: Perimeter) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(log_in))
        .routes(routes!(log_out))
        .routes(routes!(who_am_i))
        .with_state(perimeter)
}

/// Begin a session of a browser.
///
/// Sets the cookie `anabranch_session`. Requests with it that change something must come from a page of the same origin, which
/// the header `x-anabranch-csrf` shows. Needs no credential but the token in the body.
#[utoipa::path(post, path = "/v1/login", operation_id = "logIn", tag = "access",
    request_body(content = Login, description = "A token.", example = json!({"token": "ab_0123456789ab_…"})),
    responses((status = 200, description = "Who it is that has come in.", body = Told),
        (status = 400, description = "The body is no login.", body = ref("#/components/schemas/Error"))))]
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

/// End the session.
#[utoipa::path(post, path = "/v1/logout", operation_id = "logOut", tag = "access",
    responses((status = 200, description = "The session has ended, and the cookie is gone.", body = Object),
        (status = 503, description = "That it has ended could not be written down; try again.",
            body = ref("#/components/schemas/Error"))))]
async fn log_out(State(perimeter): State<Perimeter>, request: Request) -> Response {
    if !may_log_in(&request) {
        return forbidden("a page of another origin may not ask for this");
    }
    // A copy of the cookie, and what is open with it, must not outlive it.
    let cookies: Vec<String> = cookies(request.headers(), SESSION_COOKIE).map(str::to_owned).collect();
    for cookie in cookies {
        if let Err(error) = perimeter.access().end_session(&cookie).await {
            tracing::warn!(%error, "a session could not be ended");
            return ApiError::new(ErrorKind::Unavailable, "the session could not be ended")
                .with_hint("try again shortly")
                .into_response();
        }
    }
    let encrypted = peer(request.extensions()).is_some_and(|peer| peer.encrypted);
    ([(header::SET_COOKIE, set_cookie("", 0, encrypted))], Json(json!({}))).into_response()
}

/// Whom the credential of this request names.
#[utoipa::path(get, path = "/v1/whoami", operation_id = "whoAmI", tag = "access",
    responses((status = 200, description = "Name, role and views.", body = Told)))]
async fn who_am_i(State(perimeter): State<Perimeter>, Extension(principal): Extension<Principal>) -> Json<Told> {
    Json(told(&principal, perimeter.access().is_open()))
}

fn told(principal: &Principal, open: bool) -> Told {
    Told {
        name: principal.name.to_string(),
        role: principal.role,
        views: principal.views.clone(),
        open,
    }
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
