//! The console: web pages that show what Anabranch does, embedded in the binary.
//!
//! Owns: pages, styles and scripts under `/` and `/console/`, and how browsers may treat them. Refuses to own: data. Pages ask
//! the public HTTP API for everything, through one module (`assets/js/api.js`), and nothing outside of it.
//!
//! Invariants:
//!
//! * Nothing is loaded from another host, and nothing inline is executed: the policy sent with the page forbids both.
//! * Building needs cargo only. Third-party code under `assets/vendor` is committed as built files (`vendor/README.md`).

mod assets;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use assets::{Asset, find};

/// What the page may do: load its own files, and talk to the service it came from.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Routes of the console: the page at `/`, its files under `/console/`.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async |headers: HeaderMap| answer("index.html", &headers)))
        .route("/console", get(async || Redirect::permanent("/")))
        .route(
            "/console/{*path}",
            get(async |Path(path): Path<String>, headers: HeaderMap| answer(&path, &headers)),
        )
        .route(
            "/favicon.ico",
            get(async |headers: HeaderMap| answer("logo.svg", &headers)),
        )
}

fn answer(path: &str, request: &HeaderMap) -> Response {
    let Some(asset) = find(path) else {
        return (StatusCode::NOT_FOUND, "there is no such file").into_response();
    };
    let mut response = if is_known(asset, request) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if takes_gzip(request) {
        let mut response = asset.gzip.as_slice().into_response();
        let encoding = HeaderValue::from_static("gzip");
        response.headers_mut().insert(header::CONTENT_ENCODING, encoding);
        response
    } else {
        asset.bytes.into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(header::ETAG, asset.etag.clone());
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    // Asked again each time, answered without a body: a new binary shows at once.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn is_known(asset: &Asset, request: &HeaderMap) -> bool {
    let values = request.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tags.any(|tag| tag.trim().trim_start_matches("W/").as_bytes() == asset.etag.as_bytes())
}

fn takes_gzip(request: &HeaderMap) -> bool {
    let values = request.get_all(header::ACCEPT_ENCODING).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        let is_refused = parts.any(|part| {
            let quality = part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
            quality == Some(0.0)
        });
        is_gzip && !is_refused
    })
}

#[cfg(test)]
mod tests;
