use serde_json::json;

use super::operation::{Operation, content, schema};

const TAG: &str = "platform";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(
            TAG,
            "get",
            "/v1/status",
            "status",
            "Lag, segments, publication and services",
        )
        .answers(200, "The platform as this service sees it.", &schema("Status")),
        Operation::new(TAG, "get", "/healthz", "health", "Whether the process answers").answers(
            200,
            "It does.",
            &schema("Health"),
        ),
        Operation::new(TAG, "get", "/readyz", "ready", "Whether the service can do its work")
            .more("503 before publications and leases were read, and from the moment the service is asked to stop.")
            .answers(200, "It can.", &schema("Health"))
            .errors(&[503]),
        Operation::new(TAG, "get", "/metrics", "metrics", "Prometheus metrics of this process").answers_in(
            200,
            "Text exposition format 0.0.4.",
            [content("text/plain", &json!({"type": "string"}))],
        ),
        Operation::new(TAG, "get", "/openapi.json", "openApi", "This document").answers(
            200,
            "OpenAPI 3.1.",
            &json!({"type": "object", "required": ["openapi", "paths"]}),
        ),
    ]
}
