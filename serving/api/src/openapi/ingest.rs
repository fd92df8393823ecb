use serde_json::json;

use super::operation::{Operation, schema};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new("ingest", "post", "/v1/ingest/{table}", "ingest", "Events into a table's log")
            .more(
                "Newline-delimited JSON, plain or with `Content-Encoding: gzip` or `zstd`. Answers when the log has made the events \
                 durable. Passed on to a speed worker.",
            )
            .at("table", &json!({"type": "string"}), json!("clicks"), "Name of a table.")
            .parameter(json!({
                "name": "on_invalid", "in": "query", "example": "dead_letter",
                "schema": {"type": "string", "enum": ["reject", "dead_letter"], "default": "reject"},
                "description": "`reject`: one bad line refuses the whole body with its number, and nothing is produced. `dead_letter`: \
                                bad lines go through, and are kept as dead letters.",
            }))
            .parameter(json!({
                "name": "key", "in": "query", "example": "page", "schema": {"type": "string"},
                "description": "Column whose value becomes the record's key: equal keys go to the same partition.",
            }))
            .body(
                "text/plain",
                &json!({"type": "string"}),
                &json!("{\"time\": \"2026-01-31T12:00:00Z\", \"session\": \"s1\", \"page\": \"/\"}\n"),
                true,
                "One JSON object per line; `application/x-ndjson` is as welcome as any other type.",
            )
            .answers(200, "What was acknowledged.", &schema("Accepted"))
            .errors(&[400, 404, 413, 415, 503, 507]),
    ]
}
