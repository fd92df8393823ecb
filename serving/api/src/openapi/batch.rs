use serde_json::{Value, json};

use super::operation::{Operation, schema};

const TAG: &str = "batch";

fn on_run(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    let run_id = json!({"type": "string"});
    Operation::new(TAG, method, path, id, summary).at(
        "run_id",
        &run_id,
        json!("20260131T120000Z-1f3a9c44"),
        "Id of a run.",
    )
}

pub(super) fn operations() -> Vec<Operation> {
    let mut all = runs();
    all.extend(maintenance());
    all
}

fn runs() -> Vec<Operation> {
    let limit = "Entries to answer; 50 by default, 1,000 at most.";
    vec![
        Operation::new(TAG, "get", "/v1/batch/runs", "listRuns", "Batch runs, newest first")
            .takes("limit", &schema("Count"), json!(20), limit)
            .answers(200, "The runs.", &schema("Runs"))
            .errors(&[400, 503]),
        Operation::new(
            TAG,
            "post",
            "/v1/batch/runs",
            "startRun",
            "Recompute all views and publish them",
        )
        .more("A run that is queued already answers for all who ask meanwhile.")
        .body(
            "application/json",
            &schema("RunRequest"),
            &json!({"full": true}),
            false,
            "`full` folds all of history, whatever `[batch] mode` says.",
        )
        .answers(202, "Started, or queued.", &schema("RunStarted"))
        .errors(&[400, 409, 413, 503]),
        on_run(
            "get",
            "/v1/batch/runs/{run_id}",
            "showRun",
            "One run, with progress and diff",
        )
        .answers(200, "The run.", &schema("Run"))
        .errors(&[400, 404, 503]),
        on_run(
            "post",
            "/v1/batch/runs/{run_id}/publish",
            "publishRun",
            "Publish a held run",
        )
        .answers(200, "The publication it became.", &schema("RunPublished"))
        .errors(&[400, 404, 409, 503]),
        on_run(
            "post",
            "/v1/batch/runs/{run_id}/discard",
            "discardRun",
            "Discard a held run",
        )
        .answers(200, "The run.", &schema("Run"))
        .errors(&[400, 404, 409, 503]),
        Operation::new(
            TAG,
            "post",
            "/v1/batch/rollback",
            "rollBack",
            "Serve an earlier run again",
        )
        .body(
            "application/json",
            &schema("RollbackRequest"),
            &json!({"to": "12"}),
            false,
            "Number of a publication, or id of the run that was published; the one before when absent.",
        )
        .answers(202, "Queued.", &schema("RunStarted"))
        .errors(&[400, 404, 409, 413, 503]),
        Operation::new(
            TAG,
            "post",
            "/v1/batch/verify",
            "verify",
            "Compute views from all of history and compare them with what is served",
        )
        .body(
            "application/json",
            &schema("VerifyRequest"),
            &json!({"views": []}),
            false,
            "Views to verify; all of them when empty.",
        )
        .answers(202, "Queued.", &schema("RunStarted"))
        .errors(&[400, 404, 409, 413, 503]),
        Operation::new(
            TAG,
            "get",
            "/v1/batch/publications",
            "listPublications",
            "The publication log, newest first",
        )
        .takes("limit", &schema("Count"), json!(20), limit)
        .answers(200, "The publications.", &schema("Publications"))
        .errors(&[400, 503]),
        Operation::new(
            TAG,
            "get",
            "/v1/batch/status",
            "batchStatus",
            "What the batch layer does at the moment",
        )
        .answers(200, "Schedule, queue and leadership.", &schema("BatchStatus"))
        .errors(&[503]),
    ]
}

fn maintenance() -> Vec<Operation> {
    vec![
        Operation::new(
            TAG,
            "get",
            "/v1/batch/maintenance",
            "maintenanceStatus",
            "State of each table's files",
        )
        .answers(200, "Files, rows, and what was done last.", &schema("Maintenance"))
        .errors(&[503]),
        upkeep(
            "/v1/batch/maintenance/run",
            "maintain",
            "Merge, expire and remove at once what is done in time anyway",
        ),
        upkeep("/v1/batch/maintenance/compact", "compact", "Merge small files"),
        upkeep(
            "/v1/batch/maintenance/vacuum",
            "vacuum",
            "Remove files that nobody can read any more",
        ),
        upkeep(
            "/v1/batch/maintenance/retention",
            "expire",
            "Let events expire that are older than their table's `retention`",
        ),
    ]
}

fn upkeep(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    let table: Value = json!({"type": "string"});
    Operation::new(TAG, "post", path, id, summary)
        .takes("table", &table, json!("clicks"), "Only this table; all by default.")
        .takes(
            "dry_run",
            &json!({"type": "boolean"}),
            json!(true),
            "Only say what would be done.",
        )
        .answers(200, "What was done, or would be.", &schema("Upkeep"))
        .errors(&[400, 404, 409, 503])
}
