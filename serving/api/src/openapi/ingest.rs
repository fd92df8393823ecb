//! `/v1/ingest/…`, which a speed worker answers.
#![expect(dead_code, reason = "what is here describes; nobody calls or makes it")]

use utoipa::{IntoParams, ToSchema};

use super::answers::{DiskFull, Invalid, NotFound, TooLarge, Unavailable, Unclear, UnknownType};
use super::parameters::OneTable;
use super::types::Offsets;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct How {
    /// `reject`: one bad line refuses the whole body with its number, and nothing is produced. `dead_letter`: bad lines go
    /// through, and are kept as dead letters.
    #[param(inline, example = "dead_letter")]
    on_invalid: Option<OnInvalid>,
    /// Column whose value becomes the record's key: equal keys go to the same partition.
    #[param(example = "page")]
    key: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case", default = "reject")]
enum OnInvalid {
    Reject,
    DeadLetter,
}

/// What the log has made durable.
#[derive(ToSchema)]
struct Accepted {
    accepted: u64,
    /// Give it to a query as `at_least` to see these events.
    through: Offsets,
}

/// Events into a table's log.
///
/// Newline-delimited JSON, plain or with `Content-Encoding: gzip` or `zstd`. Answers when the log has made the events durable.
/// Passed on to a speed worker.
#[utoipa::path(post, path = "/v1/ingest/{table}", operation_id = "ingest", tag = "ingest", params(OneTable, How),
    request_body(content = String, content_type = "text/plain",
        description = "One JSON object per line; `application/x-ndjson` is as welcome as any other type.",
        example = "{\"time\": \"2026-01-31T12:00:00Z\", \"session\": \"s1\", \"page\": \"/\"}\n"),
    responses((status = 200, description = "What was acknowledged.", body = Accepted),
        Invalid, NotFound, TooLarge, UnknownType, Unavailable, Unclear, DiskFull))]
pub(super) fn ingest() {}
