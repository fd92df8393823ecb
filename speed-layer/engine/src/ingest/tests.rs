use std::io::Write;

use axum::http::HeaderValue;
use axum::http::header::CONTENT_ENCODING;

use super::body::{Encoding, Limits, read_all};
use super::lines::{key_of, lines};
use super::*;

#[test]
fn blank_lines_are_skipped_but_counted() {
    let found: Vec<_> = lines(b"a\r\n\n  \nb\nc").collect();
    assert_eq!(found, [(1, &b"a"[..]), (4, b"b"), (5, b"c")]);
    assert_eq!(lines(b"").count(), 0);
    assert_eq!(lines(b"\n").count(), 0);
}

#[test]
fn a_key_is_a_value_without_its_quotes() {
    let line = br#"{"n": 17, "s": "a\"b", "o": {"s": "inner"}, "z": null}"#;
    assert_eq!(key_of(line, "n").unwrap(), b"17");
    assert_eq!(key_of(line, "s").unwrap(), b"a\"b");
    assert_eq!(key_of(line, "o").unwrap(), br#"{"s": "inner"}"#);
    assert_eq!(key_of(line, "z"), None);
    assert_eq!(key_of(line, "absent"), None);
    assert_eq!(
        key_of(b"{\"s\": ", "s"),
        None,
        "a bad line has no key; the decoder says why it is bad"
    );
}

fn up_to(bytes: usize) -> Limits {
    Limits { bytes, idle: IDLE }
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let one = futures::stream::once(async { Ok::<_, std::io::Error>("{}\n") });
    let body = Body::from_stream(futures::StreamExt::chain(one, futures::stream::pending()));
    let limits = Limits {
        bytes: 100,
        idle: Duration::from_millis(1),
    };
    let error = read_all(body, Encoding::Identity, limits).await.unwrap_err();
    assert!(error.status == 400 && error.message.contains("nothing came"), "{error}");
}

#[tokio::test]
async fn compressed_bodies_are_limited_by_their_plain_size() {
    let plain = vec![b'x'; 10_000];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for (encoding, body) in [
        (Encoding::Gzip, gzip),
        (Encoding::Zstd, zstd),
        (Encoding::Identity, plain.clone()),
    ] {
        let read = read_all(Body::from(body.clone()), encoding, up_to(10_000))
            .await
            .unwrap();
        assert_eq!(read, plain);
        let refused = read_all(Body::from(body), encoding, up_to(9_999)).await.unwrap_err();
        assert_eq!(refused.status, 413, "{encoding:?}");
    }
    let broken = read_all(Body::from("no gzip"), Encoding::Gzip, up_to(100))
        .await
        .unwrap_err();
    assert_eq!(broken.status, 400);
}

#[test]
fn an_unknown_content_encoding_is_refused() {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("br"));
    assert_eq!(Encoding::of(&headers).unwrap_err().status, 415);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("GZIP"));
    assert_eq!(Encoding::of(&headers).unwrap(), Encoding::Gzip);
}
