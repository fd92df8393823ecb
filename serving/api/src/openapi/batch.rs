//! `/v1/batch/…`, which the batch service that leads answers.
#![expect(dead_code, reason = "what is here describes; nobody calls or makes it")]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::answers::{Conflict, Invalid, NotFound, TooLarge, Unavailable, Unclear};
use super::parameters::{Limit, OneRun, WhichUpkeep};
use super::types::{Cut, PartitionOffsets, Time};

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum RunState {
    Queued,
    Running,
    Published,
    Failed,
    Held,
    Discarded,
    Compared,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum RunKind {
    Run,
    Rollback,
    Verify,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum RunMode {
    Full,
    Incremental,
}

#[derive(ToSchema)]
struct Run {
    run_id: String,
    state: RunState,
    #[schema(inline)]
    kind: RunKind,
    trigger: String,
    #[schema(inline)]
    mode: RunMode,
    /// The run whose batch views it went on from.
    #[schema(required = false)]
    base: String,
    #[schema(required = false)]
    based_on: u64,
    /// Why it is not incremental.
    #[schema(required = false)]
    reason: String,
    created_at: Time,
    started_at: Option<Time>,
    finished_at: Option<Time>,
    #[schema(inline)]
    progress: Progress,
    cuts: BTreeMap<String, Cut>,
    rows: u64,
    groups: u64,
    publication: Option<u64>,
    error: Option<String>,
    /// How the run compares with what was served, cut to the same version.
    #[schema(required = false, value_type = Object)]
    diff: Value,
    timings_ms: BTreeMap<String, u64>,
}

#[derive(ToSchema)]
struct Progress {
    rows_done: u64,
    rows_total: u64,
    bytes_done: u64,
    bytes_total: u64,
    #[schema(required)]
    eta_seconds: Option<f64>,
}

#[derive(ToSchema)]
struct Runs {
    runs: Vec<Run>,
}

#[derive(ToSchema)]
struct RunStarted {
    run_id: String,
    state: RunState,
}

#[derive(ToSchema)]
struct RunPublished {
    run_id: String,
    publication: u64,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RunRequest {
    /// Fold all of history, whatever `[batch] mode` says.
    #[serde(default)]
    full: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RollbackRequest {
    /// Number of a publication, or id of the run that was published; the one before when absent.
    to: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VerifyRequest {
    /// Views to verify; all of them when empty.
    #[serde(default)]
    views: Vec<String>,
}

#[derive(ToSchema)]
struct Publications {
    #[schema(inline)]
    publications: Vec<OnePublication>,
}

#[derive(ToSchema)]
struct OnePublication {
    number: u64,
    run_id: String,
    published_at: Time,
    mode: String,
    cuts: BTreeMap<String, Cut>,
}

#[derive(ToSchema)]
struct BatchStatus {
    #[schema(required, inline)]
    schedule: Option<Schedule>,
    #[schema(required)]
    running: Option<Run>,
    #[schema(required)]
    queued: Option<Run>,
    #[schema(required)]
    last: Option<Run>,
    /// Id of the run that waits to be published or discarded.
    #[schema(required)]
    held: Option<String>,
    leader: bool,
    service: String,
    skipped: Value,
    threads: u64,
}

#[derive(ToSchema)]
struct Schedule {
    expression: String,
    time_zone: String,
    next_at: Option<Time>,
}

#[derive(ToSchema)]
struct Maintenance {
    enabled: bool,
    #[schema(required)]
    done_by: Option<String>,
    #[schema(inline)]
    tables: BTreeMap<String, TableFiles>,
    #[schema(value_type = Object)]
    last: Value,
}

#[derive(ToSchema)]
struct TableFiles {
    version: u64,
    files: u64,
    small_files: u64,
    bytes: u64,
    rows: u64,
    dead_letters: u64,
    #[schema(required)]
    retention: Option<String>,
    since: PartitionOffsets,
}

/// What was done, or would be, by table.
#[derive(ToSchema)]
struct Upkeep {
    dry_run: bool,
}

/// Batch runs, newest first.
#[utoipa::path(get, path = "/v1/batch/runs", operation_id = "listRuns", tag = "batch", params(Limit),
    responses((status = 200, description = "The runs.", body = Runs), Invalid, Unavailable))]
pub(super) fn list_runs() {}

/// Recompute all views and publish them.
///
/// A run that is queued already answers for all who ask meanwhile.
#[utoipa::path(post, path = "/v1/batch/runs", operation_id = "startRun", tag = "batch",
    request_body(content = Option<RunRequest>, description = "`full` folds all of history, whatever `[batch] mode` says.",
        example = json!({"full": true})),
    responses((status = 202, description = "Started, or queued.", body = RunStarted),
        Invalid, Conflict, TooLarge, Unavailable, Unclear))]
pub(super) fn start_run() {}

/// One run, with progress and diff.
#[utoipa::path(get, path = "/v1/batch/runs/{run_id}", operation_id = "showRun", tag = "batch", params(OneRun),
    responses((status = 200, description = "The run.", body = Run), Invalid, NotFound, Unavailable))]
pub(super) fn show_run() {}

/// Publish a held run.
#[utoipa::path(post, path = "/v1/batch/runs/{run_id}/publish", operation_id = "publishRun", tag = "batch", params(OneRun),
    responses((status = 200, description = "The publication it became.", body = RunPublished),
        Invalid, NotFound, Conflict, Unavailable, Unclear))]
pub(super) fn publish_run() {}

/// Discard a held run.
#[utoipa::path(post, path = "/v1/batch/runs/{run_id}/discard", operation_id = "discardRun", tag = "batch", params(OneRun),
    responses((status = 200, description = "The run.", body = Run), Invalid, NotFound, Conflict, Unavailable, Unclear))]
pub(super) fn discard_run() {}

/// Serve an earlier run again.
#[utoipa::path(post, path = "/v1/batch/rollback", operation_id = "rollBack", tag = "batch",
    request_body(content = Option<RollbackRequest>, description = "Where to; the publication before when absent.",
        example = json!({"to": "12"})),
    responses((status = 202, description = "Queued.", body = RunStarted),
        Invalid, NotFound, Conflict, TooLarge, Unavailable, Unclear))]
pub(super) fn roll_back() {}

/// Compute views from all of history and compare them with what is served.
#[utoipa::path(post, path = "/v1/batch/verify", operation_id = "verify", tag = "batch",
    request_body(content = Option<VerifyRequest>, description = "Views to verify; all of them when empty.",
        example = json!({"views": []})),
    responses((status = 202, description = "Queued.", body = RunStarted),
        Invalid, NotFound, Conflict, TooLarge, Unavailable, Unclear))]
pub(super) fn verify() {}

/// The publication log, newest first.
#[utoipa::path(get, path = "/v1/batch/publications", operation_id = "listPublications", tag = "batch", params(Limit),
    responses((status = 200, description = "The publications.", body = Publications), Invalid, Unavailable))]
pub(super) fn list_publications() {}

/// What the batch layer does at the moment.
#[utoipa::path(get, path = "/v1/batch/status", operation_id = "batchStatus", tag = "batch",
    responses((status = 200, description = "Schedule, queue and leadership.", body = BatchStatus), Unavailable))]
pub(super) fn batch_status() {}

/// State of each table's files.
#[utoipa::path(get, path = "/v1/batch/maintenance", operation_id = "maintenanceStatus", tag = "batch",
    responses((status = 200, description = "Files, rows, and what was done last.", body = Maintenance), Unavailable))]
pub(super) fn maintenance_status() {}

/// Merge, expire and remove at once what is done in time anyway.
#[utoipa::path(post, path = "/v1/batch/maintenance/run", operation_id = "maintain", tag = "batch", params(WhichUpkeep),
    responses((status = 200, description = "What was done, or would be.", body = Upkeep),
        Invalid, NotFound, Conflict, Unavailable, Unclear))]
pub(super) fn maintain() {}

/// Merge small files.
#[utoipa::path(post, path = "/v1/batch/maintenance/compact", operation_id = "compact", tag = "batch", params(WhichUpkeep),
    responses((status = 200, description = "What was done, or would be.", body = Upkeep),
        Invalid, NotFound, Conflict, Unavailable, Unclear))]
pub(super) fn compact() {}

/// Remove files that nobody can read any more.
#[utoipa::path(post, path = "/v1/batch/maintenance/vacuum", operation_id = "vacuum", tag = "batch", params(WhichUpkeep),
    responses((status = 200, description = "What was done, or would be.", body = Upkeep),
        Invalid, NotFound, Conflict, Unavailable, Unclear))]
pub(super) fn vacuum() {}

/// Let events expire that are older than their table's `retention`.
#[utoipa::path(post, path = "/v1/batch/maintenance/retention", operation_id = "expire", tag = "batch", params(WhichUpkeep),
    responses((status = 200, description = "What was done, or would be.", body = Upkeep),
        Invalid, NotFound, Conflict, Unavailable, Unclear))]
pub(super) fn expire() {}
