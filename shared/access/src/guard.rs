//! What every request passes: who is it, may they, how often; and what every answer says to browsers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anabranch_model::ErrorKind;
use anabranch_runtime::http::ApiError;
use anabranch_runtime::tls::Peer;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::Utc;

use crate::audit::AuditRecord;
use crate::need::{Need, Needs, is_safe};
use crate::{Access, Denied, Perimeter, Principal, signed};

/// The cookie of a console session.
pub(crate) const SESSION_COOKIE: &str = "anabranch_session";
/// A header that a page of another origin cannot send without asking first, which it is never granted.
pub(crate) const CSRF_HEADER: HeaderName = HeaderName::from_static("x-anabranch-csrf");
/// Pages may load what comes from here and nothing else, and stand in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; \
    object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// By what somebody was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Access is open.
    Open,
    Token,
    Session,
    /// Another service of the site asks, for somebody whom it let in.
    Service,
}

/// Why a request goes no further.
#[derive(Debug)]
enum Refusal {
    Stranger(Denied),
    /// Somebody known, without the right.
    NoRight,
    /// A page of another origin made a browser ask.
    ForeignPage,
    TooOften(Duration),
}

/// The middleware. Puts the [`Principal`] into the request's extensions.
pub(crate) async fn guard(
    State((perimeter, needs)): State<(Perimeter, Needs)>,
    request: Request,
    next: Next,
) -> Response {
    // Apart from its body a request can be looked at from several threads.
    let (mut head, body) = request.into_parts();
    let route = head.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    let need = needs(&head.method, route);
    let from = peer(&head.extensions);
    let admitted = admit(&perimeter, &head, need, from).await;
    let acts = need == Need::Admin && !is_safe(&head.method);
    let action = acts.then(|| {
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        format!("{} {target}", head.method)
    });
    let (mut response, actor) = match admitted {
        Ok((principal, way)) => {
            let tells = need != Need::Probe || principal.as_ref().is_some_and(Principal::may_read_all);
            if let Some(principal) = &principal {
                head.extensions.insert(principal.clone());
            }
            let response = next.run(Request::from_parts(head, body)).await;
            let response = if tells { response } else { without_reason(response) };
            // The service that let them in has recorded it.
            (response, principal.filter(|_| way != Way::Service))
        }
        Err((refusal, principal)) => (refused(&perimeter, &refusal, from), principal),
    };
    if let (Some(action), Some(actor)) = (action, actor) {
        let status = response.status();
        let outcome = match status.as_u16() {
            403 | 429 => "denied",
            200..=399 => "ok",
            _ => "failed",
        };
        let record = AuditRecord {
            at: Utc::now(),
            who: actor.name.to_string(),
            role: actor.role.to_string(),
            from: from.map_or_else(String::new, |peer| peer.address.to_string()),
            service: perimeter.service().to_owned(),
            action,
            outcome: format!("{outcome} {}", status.as_u16()),
        };
        perimeter.audit().record(&record).await;
    }
    secure(response.headers_mut());
    response
}

pub(crate) fn peer(extensions: &Extensions) -> Option<Peer> {
    extensions.get::<ConnectInfo<Peer>>().map(|info| info.0)
}

/// Who asks, if they may. `Ok` without a principal: nobody known, and nobody need be.
async fn admit(
    perimeter: &Perimeter,
    head: &Parts,
    need: Need,
    from: Option<Peer>,
) -> Result<(Option<Principal>, Way), (Refusal, Option<Principal>)> {
    let public = matches!(need, Need::Nothing | Need::Probe) || (need == Need::Metrics && perimeter.open_metrics());
    let (principal, way) = match identify(perimeter.access(), &head.headers).await {
        Ok(known) => known,
        Err(_) if public => return Ok((None, Way::Token)),
        Err(denied) => return Err((Refusal::Stranger(denied), None)),
    };
    if !is_safe(&head.method)
        && matches!(way, Way::Open | Way::Session)
        && !asked_by_own_page(&head.headers, &head.uri, way)
    {
        return Err((Refusal::ForeignPage, Some(principal)));
    }
    if !public && !need.is_met_by(&principal) {
        return Err((Refusal::NoRight, Some(principal)));
    }
    if way != Way::Service && !public {
        let often = perimeter.count(&principal, from.map(|peer| network(peer.address.ip())), Instant::now());
        if let Err(wait) = often {
            return Err((Refusal::TooOften(wait), Some(principal)));
        }
    }
    Ok((Some(principal), way))
}

/// Who bears what the headers show.
async fn identify(access: &Access, headers: &HeaderMap) -> Result<(Principal, Way), Denied> {
    if access.is_open() {
        return Ok((Principal::anonymous_admin(), Way::Open));
    }
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    match (shown.next(), shown.next()) {
        (Some(value), None) => {
            let value = value.to_str().map_err(|_| Denied::Unknown)?;
            let (scheme, credential) = value.split_once(' ').ok_or(Denied::Unknown)?;
            let credential = credential.trim();
            if scheme.eq_ignore_ascii_case("bearer") {
                let way = if credential.starts_with(signed::PREFIX) {
                    Way::Service
                } else {
                    Way::Token
                };
                return Ok((access.authenticate_bearer(credential).await?, way));
            }
            if scheme.eq_ignore_ascii_case("basic") {
                let (user, password) = basic(credential).ok_or(Denied::Unknown)?;
                return Ok((access.authenticate_password(&user, &password).await?, Way::Token));
            }
            Err(Denied::Unknown)
        }
        (None, _) => {
            let cookie = cookies(headers, SESSION_COOKIE).next().ok_or(Denied::Unknown)?;
            Ok((access.authenticate_session(cookie)?, Way::Session))
        }
        // Two credentials: whose request would it be?
        _ => Err(Denied::Unknown),
    }
}

fn basic(credential: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64_STANDARD.decode(credential).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// The values of all cookies of this name.
pub(crate) fn cookies<'h>(headers: &'h HeaderMap, name: &'static str) -> impl Iterator<Item = &'h str> + use<'h> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(move |pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Whether a browser that asks does so for a page of our own. Without a session, whoever says nothing of a page is no
/// browser.
fn asked_by_own_page(headers: &HeaderMap, target: &Uri, way: Way) -> bool {
    if headers.contains_key(CSRF_HEADER) {
        return true;
    }
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text(&HeaderName::from_static("sec-fetch-site")) {
        return matches!(site, "same-origin" | "none");
    }
    match text(&header::ORIGIN) {
        Some(origin) => {
            // HTTP/2 has the host in its target.
            let host = target.authority().map(|authority| authority.as_str());
            let host = host.or_else(|| text(&header::HOST)).unwrap_or_default();
            origin.split_once("://").is_some_and(|(_, from)| from == host)
        }
        None => way == Way::Open,
    }
}

/// Whether what asks to log in or out is a page of our own, or no page at all.
pub(crate) fn may_log_in(request: &Request) -> bool {
    asked_by_own_page(request.headers(), request.uri(), Way::Open)
}

/// An address, as far as one party holds it: IPv6 hands out networks.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

fn refused(perimeter: &Perimeter, refusal: &Refusal, from: Option<Peer>) -> Response {
    let reason = match refusal {
        Refusal::Stranger(Denied::Unknown) => "unknown",
        Refusal::Stranger(Denied::Expired) => "expired",
        Refusal::Stranger(Denied::Revoked) => "revoked",
        Refusal::Stranger(Denied::NoRole { .. }) => "no_role",
        Refusal::Stranger(Denied::Unavailable { .. }) => "unavailable",
        Refusal::NoRight => "no_right",
        Refusal::ForeignPage => "foreign_page",
        Refusal::TooOften(_) => "too_often",
    };
    metrics::counter!("anabranch_access_denied_total", "reason" => reason).increment(1);
    match refusal {
        Refusal::Stranger(denied) => stranger(perimeter, denied, from),
        Refusal::NoRight => forbidden("this credential does not permit it"),
        Refusal::ForeignPage => forbidden("a page of another origin may not ask for this"),
        Refusal::TooOften(wait) => too_often(*wait),
    }
}

/// What somebody is told who was not let in: the same whatever they asked for, and whatever was wrong with what they showed.
pub(crate) fn stranger(perimeter: &Perimeter, denied: &Denied, from: Option<Peer>) -> Response {
    if let Denied::Unavailable { reason } = denied {
        tracing::warn!(reason, "a credential could not be checked");
        return ApiError::new(ErrorKind::Unavailable, "credentials cannot be checked at the moment")
            .with_hint("try again shortly")
            .into_response();
    }
    let address = from.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| network(peer.address.ip()));
    tracing::debug!(%address, reason = %denied, "not let in");
    if let Err(wait) = perimeter.count_failure(address, Instant::now()) {
        return too_often(wait);
    }
    let mut error = ApiError::new(ErrorKind::Invalid, "a valid credential is needed")
        .with_hint("send `authorization: Bearer <token>`; an administrator makes tokens with `anabranch token create`")
        .with_status(401);
    error.code = "unauthorized".into();
    let mut response = error.into_response();
    let challenge = HeaderValue::from_static("Bearer realm=\"anabranch\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

pub(crate) fn forbidden(message: &str) -> Response {
    let mut error = ApiError::new(ErrorKind::Invalid, message).with_status(403);
    error.code = "forbidden".into();
    error.into_response()
}

fn too_often(wait: Duration) -> Response {
    let seconds = wait.as_secs().max(1);
    let mut error = ApiError::new(ErrorKind::Unavailable, "too many requests")
        .with_hint(format!("wait {seconds} s"))
        .with_status(429);
    error.code = "too_many_requests".into();
    let mut response = error.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

/// A readiness answer for those who may not know why.
fn without_reason(response: Response) -> Response {
    if response.status() == StatusCode::OK {
        return response;
    }
    ApiError::new(ErrorKind::Unavailable, "not ready")
        .with_hint("try again shortly")
        .into_response()
}

/// What browsers are told about every answer. What a handler has said itself stays.
fn secure(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests;
