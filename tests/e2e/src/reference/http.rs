use std::fmt::Write;

use serde_json::Value;

use super::{cell, made_from};

/// docs/http.md: every operation of the serving port, from its OpenAPI document.
pub fn http() -> String {
    let document = anabranch_serving::openapi();
    let mut page = made_from("the OpenAPI document in serving/api/src/openapi/");
    page.push_str(INTRODUCTION);
    for tag in list(&document["tags"]) {
        let name = text(&tag["name"]);
        let _ = writeln!(page, "\n## {}\n\n{}", capital(name), text(&tag["description"]));
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                if list(&operation["tags"]).iter().any(|tag| tag == name) {
                    describe(&mut page, method, path, operation);
                }
            }
        }
    }
    page
}

const INTRODUCTION: &str = "# HTTP API

The serving layer answers on `[serving] listen` (8080). This page is the same as its `GET /openapi.json`, which generators of clients and
`schemathesis` read; a test lets the latter run against a live platform.

* Rows are answered as JSON, or as `Accept` asks: `text/csv`, `application/x-ndjson`, `application/vnd.apache.arrow.stream`. Formats
  without a place for coverage carry it in the header `x-anabranch-coverage`.
* Errors are `{\"error\": {\"code\", \"message\", \"hint\"}}`, whatever the status.
* Ingest is passed on to a speed worker, `/v1/batch/…` to the batch service that leads; any serving process will do.
";

fn describe(page: &mut String, method: &str, path: &str, operation: &Value) {
    let _ = writeln!(
        page,
        "\n### `{} {path}`\n\n{}",
        method.to_uppercase(),
        text(&operation["summary"])
    );
    if let Some(more) = operation["description"].as_str() {
        let _ = writeln!(page, "{more}");
    }
    let parameters = list(&operation["parameters"]);
    if !parameters.is_empty() {
        page.push_str("\n| parameter | in | |\n|---|---|---|\n");
    }
    for parameter in parameters {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} |",
            text(&parameter["name"]),
            text(&parameter["in"]),
            cell(text(&parameter["description"]))
        );
    }
    if let Some(body) = operation.get("requestBody") {
        let _ = writeln!(page, "\nBody: {}\n", text(&body["description"]));
        for (media, content) in body["content"].as_object().into_iter().flatten() {
            let example = match &content["example"] {
                Value::String(text) => text.trim_end().to_owned(),
                other => other.to_string(),
            };
            let _ = writeln!(page, "```text\n{media}\n\n{example}\n```");
        }
    }
    page.push('\n');
    let mut errors = Vec::new();
    for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
        if status.starts_with('2') {
            let media: Vec<_> = answer["content"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(media, content)| match content["schema"]["$ref"].as_str() {
                    Some(schema) => format!("{media} (`{}`)", schema.rsplit('/').next().unwrap_or(schema)),
                    None => media.clone(),
                })
                .collect();
            let _ = writeln!(
                page,
                "* **{status}** {} {}",
                text(&answer["description"]),
                media.join(", ")
            );
        } else {
            errors.push(status.as_str());
        }
    }
    let _ = writeln!(page, "* errors: {}", errors.join(", "));
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}
