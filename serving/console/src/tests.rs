use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path as FilePath;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use tower::ServiceExt;

use super::*;

async fn get_with(path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    let response = router::<()>().with_state(()).oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    (
        head.status,
        head.headers,
        to_bytes(body, usize::MAX).await.unwrap().to_vec(),
    )
}

fn files(folder: &FilePath, below: &str, found: &mut BTreeSet<String>) {
    for entry in folder.read_dir().unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            files(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name);
        }
    }
}

#[tokio::test]
async fn every_file_is_served_and_nothing_else() {
    let mut found = BTreeSet::new();
    files(
        &FilePath::new(env!("CARGO_MANIFEST_DIR")).join("assets"),
        "",
        &mut found,
    );
    assert!(found.contains("index.html") && found.contains("js/main.js"));
    for path in &found {
        let (status, headers, body) = get_with(&format!("/console/{path}"), &[]).await;
        assert_eq!(status, 200, "{path} is embedded");
        assert!(!body.is_empty());
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert!(headers.contains_key("content-security-policy"));
    }
    for path in ["/console/nothing.js", "/console/../Cargo.toml", "/console/js"] {
        assert_eq!(get_with(path, &[]).await.0, 404, "{path}");
    }
    let (status, headers, body) = get_with("/", &[]).await;
    assert_eq!(
        (status, &headers["content-type"]),
        (StatusCode::OK, &HeaderValue::from_static("text/html; charset=utf-8"))
    );
    assert!(body.starts_with(b"<!doctype html>"));
}

#[tokio::test]
async fn a_browser_that_has_a_file_does_not_load_it_again() {
    let (_, headers, plain) = get_with("/console/js/main.js", &[]).await;
    let etag = headers["etag"].to_str().unwrap().to_owned();
    for tag in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}")] {
        let (status, _, body) = get_with("/console/js/main.js", &[("if-none-match", &tag)]).await;
        assert_eq!((status.as_u16(), body.len()), (304, 0), "{tag}");
    }
    assert_eq!(
        get_with("/console/js/main.js", &[("if-none-match", "\"other\"")])
            .await
            .0,
        200
    );

    let (_, headers, gzip) = get_with("/console/js/main.js", &[("accept-encoding", "br, gzip;q=0.5")]).await;
    assert_eq!(headers["content-encoding"], "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(gzip.as_slice())
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain);
    let refused = get_with("/console/js/main.js", &[("accept-encoding", "gzip;q=0")]).await;
    assert!(!refused.1.contains_key("content-encoding"));
}

/// What the policy forbids must not be there: the page would silently lack it.
#[test]
fn pages_need_nothing_inline_and_nobody_else() {
    let folder = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    let mut found = BTreeSet::new();
    files(&folder, "", &mut found);
    for path in found.iter().filter(|path| !path.starts_with("vendor/")) {
        let text = std::fs::read_to_string(folder.join(path)).unwrap();
        for forbidden in ["style=\"", " onclick=", "innerHTML", "eval(", "javascript:", "@import"] {
            assert!(!text.contains(forbidden), "{path} has {forbidden}");
        }
        let foreign = text.match_indices("://").filter(|(at, _)| {
            // Names of XML vocabularies are no addresses to load from.
            !text[at + 3..].starts_with("www.w3.org/")
        });
        assert_eq!(foreign.count(), 0, "{path} names another host");
    }
    let page = std::fs::read_to_string(folder.join("index.html")).unwrap();
    assert_eq!(
        page.matches("<script").count(),
        page.matches("<script type=\"module\" src=\"").count()
    );
}
