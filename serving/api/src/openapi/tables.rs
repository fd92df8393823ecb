use serde_json::json;

use super::operation::{Operation, schema};

const TAG: &str = "tables";

/// An operation on one table.
fn on_table(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(TAG, method, path, id, summary).at(
        "table",
        &json!({"type": "string"}),
        json!("clicks"),
        "Name of a table.",
    )
}

pub(super) fn operations() -> Vec<Operation> {
    let by = "Who asks, for the record.";
    let number = json!({"type": "integer", "minimum": 0});
    vec![
        on_table(
            "get",
            "/v1/tables/{table}/exclusions",
            "listExclusions",
            "Events kept out of every answer",
        )
        .answers(200, "Exclusions, gaps and what has expired.", &schema("Exclusions"))
        .errors(&[400, 404, 503]),
        on_table(
            "post",
            "/v1/tables/{table}/exclusions",
            "exclude",
            "Keep events out of every answer, from now on",
        )
        .body(
            "application/json",
            &schema("ExclusionRequest"),
            &json!({"partition": 0, "offsets": "100..250", "reason": "a test run of the shop", "by": "ops"}),
            true,
            "Which events, and why.",
        )
        .answers(201, "The exclusion, recorded.", &schema("Exclusion"))
        .errors(&[400, 404, 409, 413, 503]),
        on_table(
            "delete",
            "/v1/tables/{table}/exclusions/{id}",
            "include",
            "Undo an exclusion",
        )
        .at("id", &number, json!(3), "Id of the exclusion.")
        .takes("by", &json!({"type": "string"}), json!("ops"), by)
        .answers(200, "The exclusion that is no more.", &schema("Exclusion"))
        .errors(&[400, 404, 409, 503]),
        on_table(
            "get",
            "/v1/tables/{table}/dead-letters",
            "listDeadLetters",
            "What did not decode, newest first",
        )
        .takes(
            "partition",
            &json!({"type": "integer", "format": "int32"}),
            json!(0),
            "Only of this partition.",
        )
        .takes(
            "offsets",
            &schema("OffsetSpan"),
            json!("0..1000"),
            "From A on, without B.",
        )
        .takes(
            "reason",
            &json!({"type": "string"}),
            json!("not JSON"),
            "What the reason contains.",
        )
        .takes(
            "limit",
            &schema("Count"),
            json!(20),
            "Letters to show; 100 by default, 10,000 at most.",
        )
        .answers(
            200,
            "Letters, and how many there are for which reason.",
            &schema("DeadLetters"),
        )
        .errors(&[400, 404, 503]),
        on_table(
            "get",
            "/v1/tables/{table}/dead-letters/{partition}/{offset}",
            "showDeadLetter",
            "One dead letter with its bytes",
        )
        .at(
            "partition",
            &json!({"type": "integer", "format": "int32"}),
            json!(0),
            "Its partition.",
        )
        .at(
            "offset",
            &json!({"type": "integer", "format": "int64"}),
            json!(0),
            "Its offset.",
        )
        .answers(200, "The letter.", &schema("DeadLetter"))
        .errors(&[400, 404, 503]),
        on_table(
            "post",
            "/v1/tables/{table}/dead-letters/redrive",
            "redrive",
            "Produce dead letters again, each once",
        )
        .body(
            "application/json",
            &schema("RedriveRequest"),
            &json!({"dry_run": true}),
            true,
            "Which letters; `{}` for all that decode now and were not redriven before.",
        )
        .answers(
            200,
            "What would be produced, or that nothing is.",
            &schema("RedriveAnswer"),
        )
        .answers(
            202,
            "Asked for; the speed layer carries it out.",
            &schema("RedriveAnswer"),
        )
        .errors(&[400, 404, 409, 413, 503]),
        on_table(
            "get",
            "/v1/tables/{table}/dead-letters/redrives",
            "listRedrives",
            "All redrives",
        )
        .answers(200, "The redrives.", &schema("Redrives"))
        .errors(&[400, 404, 503]),
        on_table(
            "get",
            "/v1/tables/{table}/dead-letters/redrives/{number}",
            "showRedrive",
            "One redrive",
        )
        .at("number", &number, json!(1), "Number of the redrive.")
        .answers(200, "The redrive.", &schema("Redrive"))
        .errors(&[400, 404, 503]),
    ]
}
