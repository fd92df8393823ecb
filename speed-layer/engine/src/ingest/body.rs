//! Reads a request body, compressed or not, up to a limit.

use std::io::Read;
use std::time::Duration;

use anabranch_model::ErrorKind;
use anabranch_runtime::http::ApiError;
use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use futures::StreamExt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        match headers
            .get(CONTENT_ENCODING)
            .map(|value| value.as_bytes().to_ascii_lowercase())
            .as_deref()
        {
            None | Some(b"" | b"identity") => Ok(Self::Identity),
            Some(b"gzip" | b"x-gzip") => Ok(Self::Gzip),
            Some(b"zstd") => Ok(Self::Zstd),
            Some(other) => {
                let message = format!("Content-Encoding {} is not supported", String::from_utf8_lossy(other));
                Err(ApiError::new(ErrorKind::Invalid, message)
                    .with_hint("use gzip, zstd or none")
                    .with_status(415))
            }
        }
    }
}

/// How much of a body there may be, and how long it may stand still. Whoever sends one holds memory that others wait for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) idle: Duration,
}

/// The whole body, decompressed. The limit of its size holds before and after.
pub(super) async fn read_all(body: Body, encoding: Encoding, limits: Limits) -> Result<Bytes, ApiError> {
    let broke_off = |why: &str| ApiError::new(ErrorKind::Invalid, format!("the body broke off: {why}"));
    let max_bytes = limits.bytes;
    let mut chunks = body.into_data_stream();
    let mut raw = Vec::new();
    loop {
        let chunk = match tokio::time::timeout(limits.idle, chunks.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => return Err(broke_off(&error.to_string())),
            Err(_) => {
                let waited = format!("nothing came for {:?}", limits.idle);
                return Err(broke_off(&waited).with_hint("send it again; nothing was ingested"));
            }
        };
        if chunk.len() > max_bytes - raw.len() {
            return Err(too_large_error(max_bytes));
        }
        raw.extend_from_slice(&chunk);
    }
    let raw = Bytes::from(raw);
    if encoding == Encoding::Identity {
        return Ok(raw);
    }
    let decompressed = tokio::task::spawn_blocking(move || decompress(&raw, encoding, max_bytes)).await;
    decompressed.map_err(|error| ApiError::new(ErrorKind::Internal, error.to_string()))?
}

fn decompress(raw: &[u8], encoding: Encoding, max_bytes: usize) -> Result<Bytes, ApiError> {
    let invalid =
        |error: std::io::Error| ApiError::new(ErrorKind::Invalid, format!("the body cannot be decompressed: {error}"));
    let mut reader: Box<dyn Read + '_> = match encoding {
        Encoding::Identity => Box::new(raw),
        Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(raw)),
        Encoding::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(raw).map_err(invalid)?),
    };
    let mut plain = Vec::new();
    reader
        .by_ref()
        .take(max_bytes as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(invalid)?;
    if plain.len() > max_bytes {
        return Err(too_large_error(max_bytes));
    }
    Ok(plain.into())
}

fn too_large_error(max_bytes: usize) -> ApiError {
    ApiError::new(ErrorKind::Invalid, format!("the body is larger than {max_bytes} bytes"))
        .with_hint("send it in parts, or raise `max_ingest_body` in [serving]")
        .with_status(413)
}
