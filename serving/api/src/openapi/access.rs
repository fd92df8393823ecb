use serde_json::{Value, json};

use super::operation::{Operation, schema};

const TAG: &str = "access";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(TAG, "post", "/v1/login", "logIn", "Begin a session of a browser")
            .more(
                "Sets the cookie `anabranch_session`. Requests with it that change something must come from a page of the same origin, \
                 which the header `x-anabranch-csrf` shows. Needs no credential but the token in the body.",
            )
            .body(
                "application/json",
                &schema("Login"),
                &json!({"token": "ab_0123456789ab_…"}),
                true,
                "A token.",
            )
            .answers(200, "Who it is that has come in.", &schema("Principal"))
            .errors(&[400]),
        Operation::new(TAG, "post", "/v1/logout", "logOut", "End the session")
            .answers(200, "The cookie is gone.", &json!({"type": "object"})),
        Operation::new(TAG, "get", "/v1/whoami", "whoAmI", "Whom the credential of this request names").answers(
            200,
            "Name, role and views.",
            &schema("Principal"),
        ),
    ]
}

/// Schemas of these operations.
pub(super) fn schemas() -> Value {
    json!({
        "Login": {
            "type": "object", "required": ["token"], "properties": {"token": {"type": "string"}}, "additionalProperties": false,
        },
        "Principal": {
            "type": "object", "required": ["name", "role", "views", "open"],
            "properties": {
                "name": {"type": "string"},
                "role": {"type": "string", "enum": ["read", "ingest", "admin"]},
                "views": {"type": "array", "items": {"type": "string"}, "description": "Patterns of the views that it may see."},
                "open": {"type": "boolean", "description": "Whether everybody is let in."},
            },
        },
    })
}
