use serde_json::{Value, json};

use super::operation::{Operation, content, schema};

const TAG: &str = "queries";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        sql(),
        Operation::new(TAG, "get", "/v1/views", "listViews", "All views, with columns and size")
            .answers(200, "The views that are served.", &schema("Views")),
        Operation::new(TAG, "get", "/v1/views/{view}", "showView", "Definition, plan and coverage of a view")
            .at("view", &json!({"type": "string"}), json!("pages"), "Name of a view.")
            .takes("require", &schema("Require"), json!("exact"), REQUIRE)
            .parameter(at_least())
            .takes("timeout", &schema("Patience"), json!("2s"), TIMEOUT)
            .answers(200, "The view.", &schema("ViewDetail"))
            .errors(&[400, 404, 503, 504]),
        rows(),
        live(),
        Operation::new(TAG, "post", "/v1/views/apply", "applyViews", "Make a changed views.sql the one that runs")
            .more(
                "Added and changed views are built from history in the shadow; the former versions answer until then. What would \
                 misread landed events is refused.",
            )
            .takes("dry_run", &json!({"type": "boolean"}), json!(true), "Only say what would happen.")
            .takes(
                "force",
                &json!({"type": "boolean"}),
                json!(false),
                "Go back to a text that was applied, and replaced, before.",
            )
            .body(
                "text/plain",
                &json!({"type": "string"}),
                &json!("CREATE TABLE …; CREATE MATERIALIZED VIEW …;"),
                true,
                "The whole text of a views.sql.",
            )
            .answers(200, "What becomes of each table and view.", &schema("Applied"))
            .errors(&[400, 409, 413, 415, 503]),
    ]
}

const REQUIRE: &str = "`exact`: wait until nothing is missing, or answer 503.";
const TIMEOUT: &str =
    "How long `require` and `at_least` may wait: `5s`, `250ms`, or seconds. Default 5 s, at most 10 minutes.";

fn sql() -> Operation {
    Operation::new(TAG, "post", "/v1/sql", "runSql", "One SELECT over merged views")
        .more("Any DataFusion SELECT over views, joins included. Read-only: it reaches neither files nor the network.")
        .body(
            "application/json",
            &schema("SqlRequest"),
            &json!({"sql": "SELECT page, clicks FROM pages ORDER BY clicks DESC LIMIT 3", "timeout": "2s"}),
            true,
            "The query, and what its answer must cover.",
        )
        .answers_in(200, "The rows, and what they cover.", answers())
        .errors(&[400, 404, 413, 503, 504])
}

fn rows() -> Operation {
    let operation = Operation::new(
        TAG,
        "get",
        "/v1/views/{view}/rows",
        "viewRows",
        "Rows of one view: filters, order, columns",
    )
    .more("Filters on group keys read the selected groups only.");
    selecting(operation)
        .answers_in(200, "The rows, and what they cover.", answers())
        .errors(&[400, 404, 413, 503, 504])
}

fn live() -> Operation {
    let operation = Operation::new(
        TAG,
        "get",
        "/v1/views/{view}/live",
        "followRows",
        "Rows of one view, then what changes, as Server-Sent Events",
    )
    .more(
        "Events `snapshot`, `change`, `trouble` and `end`, each with JSON; docs/live.md describes them, and how to come back with \
         `Last-Event-ID`. The answer has no end of its own.",
    );
    selecting(operation)
        .takes(
            "interval",
            &schema("Patience"),
            json!("250ms"),
            "How often changes are sent at most: from 50 ms to 60 s, 250 ms by default.",
        )
        .answers_in(
            200,
            "The stream.",
            [content("text/event-stream", &json!({"type": "string"}))],
        )
        .errors(&[400, 404, 413, 503, 504])
}

/// The parameters that say which rows of a view.
fn selecting(operation: Operation) -> Operation {
    let filters = json!({
        "name": "filter", "in": "query", "style": "form", "explode": true,
        "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        "description": "One parameter per condition: `channel=en`, `edits.gte=5`. Operators are `.eq` (the default), `.ne`, `.gt`, \
                        `.gte`, `.lt`, `.lte`, `.in` (values separated by commas) and `.null` (`true` or `false`).",
    });
    operation
        .at("view", &json!({"type": "string"}), json!("pages"), "Name of a view.")
        .parameter(filters)
        .takes(
            "order",
            &json!({"type": "string"}),
            json!("-clicks"),
            "Columns, separated by commas; a minus sorts descending. The view's keys decide among equals.",
        )
        .takes("limit", &schema("Count"), json!(10), "Rows to answer at most.")
        .takes("offset", &schema("Count"), json!(0), "Rows to leave out before.")
        .takes(
            "columns",
            &json!({"type": "string"}),
            json!("page,clicks"),
            "Columns, separated by commas; all by default.",
        )
        .takes("require", &schema("Require"), json!("exact"), REQUIRE)
        .parameter(at_least())
        .takes("timeout", &schema("Patience"), json!("2s"), TIMEOUT)
        .takes(
            "layer",
            &schema("Layer"),
            json!("merged"),
            "One arm of the river alone, or both.",
        )
}

/// `at_least` in a query string is JSON text.
fn at_least() -> Value {
    json!({
        "name": "at_least", "in": "query",
        "content": {"application/json": {"schema": schema("Offsets"), "example": {"clicks/0": 0}}},
        "description": "The `through` of an ingest answer: the rows must include those events.",
    })
}

/// Formats of rows. All but JSON carry coverage in the header `x-anabranch-coverage`.
fn answers() -> [(String, Value); 4] {
    let text = json!({"type": "string"});
    [
        content("application/json", &schema("Answer")),
        content("text/csv", &text),
        content("application/x-ndjson", &text),
        content("application/vnd.apache.arrow.stream", &json!({})),
    ]
}
