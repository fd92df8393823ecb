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

mod fuzz {
    use anabranch_catalog::Catalog;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 4_096;
    const SQL: &str =
        "CREATE TABLE clicks (time TIMESTAMP NOT NULL, page TEXT, n BIGINT, tags TEXT[], at STRUCT<x DOUBLE>)
        WITH (connector = 'log', event_time = 'time');
        CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS hits FROM clicks GROUP BY page;";

    fn source() -> Arc<Source> {
        Arc::clone(&Catalog::parse(SQL).unwrap().sources["clicks"])
    }

    /// Something between an event and noise.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let value = prop_oneof![
            "[ -~]{0,12}".prop_map(|text| serde_json::Value::from(text).to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            prop::sample::select(vec![
                "null",
                "1e999",
                "-0.0",
                "[]",
                "{}",
                "[null, \"a\"]",
                "{\"x\": \"NaN\"}",
                "\"2026-01-31T12:00:00Z\"",
                "\"\\ud800\"",
                "tru",
                "1 2",
                "\"",
            ])
            .prop_map(str::to_owned),
        ];
        let name = prop::sample::select(vec!["time", "page", "n", "tags", "at", "other", "time\\u0000", ""]);
        let event = vec((name, value), 0..5).prop_map(|members| {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("\"{name}\": {value}"))
                .collect();
            format!("{{{}}}", members.join(", ")).into_bytes()
        });
        let deep = (1usize..600).prop_map(|depth| [b"{\"at\": ".to_vec(), vec![b'['; depth]].concat());
        let good = Just(br#"{"time": "2026-01-31T12:00:00Z", "page": "/", "n": 1}"#.to_vec());
        prop_oneof![3 => event, 2 => good, 1 => vec(any::<u8>(), 0..40), 1 => deep]
    }

    fn body() -> impl Strategy<Value = Vec<u8>> {
        let ends = prop::sample::select(vec![&b"\n"[..], b"\r\n", b"\n\n", b"\r"]);
        vec((line(), ends), 0..12).prop_map(|lines| {
            lines
                .into_iter()
                .flat_map(|(line, end)| [line, end.to_vec()].concat())
                .collect()
        })
    }

    fn packed(plain: &[u8], encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Identity => plain.to_vec(),
            Encoding::Zstd => zstd::encode_all(plain, 1).unwrap(),
            Encoding::Gzip => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(plain).unwrap();
                gzip.finish().unwrap()
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Whatever is sent becomes records, line by line, or is refused as the client's own mistake.
        #[test]
        fn any_body_becomes_records_or_is_refused(
            body in body(),
            key in prop::option::of(prop::sample::select(vec!["time", "page", "at"])),
            checked: bool,
        ) {
            let source = source();
            let mut decoder = Decoder::new(&source);
            let bad = lines(&body).position(|(_, line)| decoder.check(line).is_err());
            match records(&source, &body, key, checked) {
                Ok(batches) => {
                    prop_assert!(!checked || bad.is_none());
                    let payloads: Vec<_> = batches.into_iter().flatten().map(|record| record.payload.unwrap()).collect();
                    let sent: Vec<_> = lines(&body).map(|(_, line)| line.to_vec()).collect();
                    prop_assert_eq!(payloads, sent);
                }
                Err(error) => {
                    prop_assert!(checked && bad.is_some());
                    prop_assert_eq!(error.status, 400);
                }
            }
        }

        /// A body that was packed, cut off and damaged on its way is read as it was, or refused; never more of it than allowed.
        #[test]
        fn any_packed_body_is_read_or_refused(
            plain in vec(any::<u8>(), 0..2 * LIMIT),
            encoding in prop::sample::select(vec![Encoding::Identity, Encoding::Gzip, Encoding::Zstd]),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let whole = packed(&plain, encoding);
            let mut sent = whole.clone();
            if let Some(cut) = cut {
                sent.truncate(cut.index(sent.len() + 1));
            }
            if let (Some((at, byte)), false) = (damage, sent.is_empty()) {
                let at = at.index(sent.len());
                sent[at] = byte;
            }
            let same = sent == whole;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            match runtime.block_on(read_all(Body::from(sent), encoding, up_to(LIMIT))) {
                Ok(read) => {
                    prop_assert!(read.len() <= LIMIT);
                    prop_assert!(!same || read == plain);
                }
                Err(error) => {
                    prop_assert!(matches!(error.status, 400 | 413), "{}: {}", error.status, error.message);
                    prop_assert!(!same || plain.len().max(whole.len()) > LIMIT);
                }
            }
        }
    }
}
