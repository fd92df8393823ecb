//! Answers as bytes: JSON, CSV, NDJSON and Arrow IPC.
//!
//! Values are spelled the same in the text formats: integers as numbers, decimals as strings, timestamps in RFC 3339 UTC,
//! dates as `YYYY-MM-DD`, bytes in base64, lists as arrays, structs and maps as objects. `NaN`, `Infinity` and `-Infinity`,
//! which JSON has no numbers for, are strings.

mod csv;
mod json;
mod stream;
mod types;

use anabranch_model::CoverageMap;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

pub(crate) use anabranch_front::{Cell, json_cell};
pub(crate) use json::Document;
pub(crate) use stream::Writer;
pub(crate) use types::sql_type;

use crate::Error;

/// Largest answer that is put together in memory, in bytes of Arrow data.
pub(crate) const MAX_ANSWER_BYTES: usize = 512 << 20;

/// Carries coverage (JSON) beside the formats that have no place for it.
pub(crate) const COVERAGE_HEADER: HeaderName = HeaderName::from_static("x-anabranch-coverage");

/// Rows and what they cover.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) coverage: CoverageMap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Csv,
    NdJson,
    Arrow,
}

impl Format {
    /// The first format of `Accept` that is known; JSON when anything will do.
    ///
    /// # Errors
    /// When only unknown types are accepted.
    pub(crate) fn accepted(headers: &HeaderMap) -> Result<Self, Error> {
        let mut offered: Vec<(f32, &str)> = Vec::new();
        for value in headers.get_all(header::ACCEPT) {
            for entry in value.to_str().unwrap_or_default().split(',') {
                let mut parts = entry.split(';').map(str::trim);
                let media = parts.next().unwrap_or_default();
                let quality = parts
                    .find_map(|part| part.strip_prefix("q="))
                    .and_then(|q| q.parse().ok());
                if !media.is_empty() {
                    offered.push((quality.unwrap_or(1.0), media));
                }
            }
        }
        if offered.is_empty() {
            return Ok(Self::Json);
        }
        // Stable: among equals, the first one named.
        offered.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let known = offered
            .iter()
            .filter(|(quality, _)| *quality > 0.0)
            .find_map(|(_, media)| Self::of(media));
        known.ok_or_else(|| Error::Request {
            message: "none of the accepted formats is known".into(),
            hint: Some(
                "accept application/json, text/csv, application/x-ndjson or application/vnd.apache.arrow.stream".into(),
            ),
        })
    }

    fn of(media: &str) -> Option<Self> {
        match media.to_ascii_lowercase().as_str() {
            "application/json" | "application/*" | "*/*" => Some(Self::Json),
            "text/csv" | "text/*" => Some(Self::Csv),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Self::NdJson),
            "application/vnd.apache.arrow.stream" => Some(Self::Arrow),
            _ => None,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::NdJson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// Puts the whole answer into bytes. CPU-bound.
    pub(crate) fn encode(self, answer: &Answer, elapsed: std::time::Duration) -> Result<Encoded, Error> {
        let body = if self == Self::Json {
            json::document(answer, elapsed)?
        } else {
            let mut writer = Writer::new(self, &answer.schema)?;
            let mut body = writer.begin();
            for batch in &answer.batches {
                body.append(&mut writer.batch(batch)?);
            }
            body.append(&mut writer.finish()?);
            body
        };
        let head = self.head(&answer.coverage)?;
        Ok(Encoded {
            head,
            body: Body::from(body),
        })
    }

    /// What stands before the rows of an answer.
    pub(crate) fn head(self, coverage: &CoverageMap) -> Result<Head, Error> {
        let coverage = match self {
            Self::Json => None,
            _ => Some(
                serde_json::to_string(coverage)
                    .map_err(|error| Error::Internal(format!("coverage cannot be written: {error}")))?,
            ),
        };
        Ok(Head {
            content_type: self.content_type(),
            coverage,
        })
    }
}

/// Headers of an answer.
pub(crate) struct Head {
    content_type: &'static str,
    coverage: Option<String>,
}

/// An answer, ready to be sent.
pub(crate) struct Encoded {
    pub(crate) head: Head,
    pub(crate) body: Body,
}

impl IntoResponse for Encoded {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.head.content_type));
        // View and topic names may hold what a header cannot: JSON escapes keep it ASCII.
        if let Some(value) = self
            .head
            .coverage
            .and_then(|text| HeaderValue::try_from(ascii(&text)).ok())
        {
            headers.insert(COVERAGE_HEADER, value);
        }
        response
    }
}

/// The same JSON with everything beyond ASCII as `\u` escapes.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
