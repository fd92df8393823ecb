//! What goes over the wire. Objects of answers may gain members; those that are always there are required.

use serde_json::{Map, Value, json};

/// Name → JSON Schema (2020-12).
pub(super) fn all() -> Value {
    let parts = [
        common(),
        queries(),
        tables(),
        batch(),
        platform(),
        super::access::schemas(),
    ];
    let mut all = Map::new();
    for part in parts {
        if let Value::Object(part) = part {
            all.extend(part);
        }
    }
    Value::Object(all)
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// An object all of whose members are always there.
fn object(members: Value) -> Value {
    let required: Vec<&String> = members
        .as_object()
        .into_iter()
        .flat_map(|members| members.keys())
        .collect();
    json!({"type": "object", "required": required, "properties": members})
}

/// An object of a request: no other members, none of them required but those named.
fn request(required: &[&str], members: Value) -> Value {
    json!({"type": "object", "required": required, "properties": members, "additionalProperties": false})
}

fn list(of: Value) -> Value {
    json!({"type": "array", "items": of})
}

/// Name → value.
fn map(of: Value) -> Value {
    json!({"type": "object", "additionalProperties": of})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn whole() -> Value {
    json!({"type": "integer", "format": "int64"})
}

fn count() -> Value {
    json!({"type": "integer", "format": "int64", "minimum": 0})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// The same, or null.
fn or_null(mut schema: Value) -> Value {
    match schema["type"].as_str() {
        Some(kind) => {
            schema["type"] = json!([kind, "null"]);
            schema
        }
        None => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}

fn common() -> Value {
    json!({
        "Error": object(json!({"error": {
            "type": "object", "required": ["code", "message"],
            "properties": {
                "code": {"type": "string", "description": "Stable, for programs: `invalid`, `not_found`, `conflict`, `unavailable`, …"},
                "message": {"type": "string", "description": "What is wrong."},
                "hint": {"type": "string", "description": "What to do instead."},
            },
        }})),
        "Offsets": {
            "type": "object", "additionalProperties": whole(),
            "description": "`topic/partition` → next offset: everything before it.",
        },
        "PartitionOffsets": {
            "type": "object", "additionalProperties": whole(), "description": "Partition → next offset: everything before it.",
        },
        "Ranges": list(object(json!({"start": whole(), "end": whole()}))),
        "Cut": object(json!({"version": or_null(count()), "next": reference("PartitionOffsets")})),
        "Coverage": {
            "type": "object",
            "description": "What one view's part of an answer covers.",
            "required": ["publication", "batch_version", "batch_cut", "served_through", "missing", "exact"],
            "properties": {
                "publication": or_null(count()),
                "batch_version": or_null(count()),
                "batch_cut": reference("Offsets"),
                "served_through": reference("Offsets"),
                "missing": {"type": "array", "items": text(), "description": "Partitions whose realtime part could not be read."},
                "exact": {"type": "boolean", "description": "Nothing is missing: each event before `served_through` is counted once."},
                "since": reference("Offsets"),
                "gaps": map(reference("Ranges")),
                "excluded": map(reference("Ranges")),
                "still_included": map(reference("Ranges")),
            },
        },
        "Require": {"type": "string", "enum": ["exact"]},
        "Layer": {"type": "string", "enum": ["merged", "batch", "realtime"], "default": "merged"},
        "Patience": {"type": "string", "pattern": "^[0-9]{1,3}(ms|s)$", "examples": ["5s", "250ms"]},
        "Count": {"type": "integer", "minimum": 0, "maximum": 1_000_000},
        "OffsetSpan": {"type": "string", "pattern": "^[0-9]{1,9}\\.\\.[0-9]{1,9}$", "description": "`A..B`: from A on, without B."},
    })
}

fn queries() -> Value {
    let column = object(json!({"name": text(), "type": text()}));
    let view_column = object(json!({"name": text(), "type": text(), "key": {"type": "boolean"}}));
    let view = json!({
        "name": text(), "source": text(), "topic": text(), "hash": text(), "changing": {"type": "boolean"},
        "columns": list(view_column), "publication": or_null(count()), "batch_groups": or_null(count()),
        "batch_events": or_null(count()),
    });
    let mut detail = view.clone();
    detail["definition"] = or_null(text());
    detail["plan"] = json!({"type": "object"});
    detail["nulled_values"] = count();
    detail["coverage"] = reference("Coverage");
    json!({
        "SqlRequest": request(&["sql"], json!({
            "sql": {"type": "string", "description": "One SELECT."},
            "parameters": {
                "type": "array",
                "items": {"type": ["string", "number", "boolean", "null"]},
                "description": "Values of $1, $2, … in the query.",
            },
            "require": or_null(reference("Require")),
            "at_least": or_null(reference("Offsets")),
            "timeout": or_null(reference("Patience")),
            "layer": or_null(reference("Layer")),
        })),
        "Answer": object(json!({
            "columns": list(column),
            "rows": list(list(json!({}))),
            "row_count": count(),
            "elapsed_ms": {"type": "number"},
            "coverage": {"type": "object", "additionalProperties": reference("Coverage"), "description": "View → what its part covers."},
        })),
        "View": object(view),
        "Views": object(json!({"definitions": count(), "views": list(reference("View"))})),
        "ViewDetail": object(detail),
        "Applied": object(json!({
            "number": count(),
            "written": {"type": "boolean"},
            "change": object(json!({"items": list(json!({
                "type": "object",
                "required": ["kind", "name", "action", "rebuild", "detail"],
                "properties": {
                    "kind": {"type": "string", "enum": ["table", "view"]},
                    "name": text(),
                    "action": {"type": "string", "enum": ["added", "changed", "dropped", "unchanged", "refused"]},
                    "rebuild": {"type": "boolean"},
                    "detail": text(),
                    "place": {"type": "object"},
                },
            }))})),
        })),
        "Accepted": object(json!({
            "accepted": count(),
            "through": {"$ref": "#/components/schemas/Offsets", "description": "Give it to a query as `at_least` to see these events."},
        })),
    })
}

fn tables() -> Value {
    let exclusion = json!({
        "id": count(), "partition": whole(), "offsets": text(), "reason": text(), "by": text(), "at": time(),
    });
    let mut listed = object(exclusion);
    listed["properties"]["published"] =
        json!({"type": "boolean", "description": "Whether the batch views that are served leave the events out."});
    let bytes = object(json!({"text": or_null(text()), "base64": text()}));
    let letter = json!({
        "partition": whole(), "offset": whole(), "timestamp": or_null(time()), "reason": text(), "redriven": list(count()),
    });
    let (mut in_list, mut shown) = (letter.clone(), letter);
    in_list["bytes"] = or_null(count());
    in_list["preview"] = or_null(text());
    shown["table"] = text();
    shown["decodes_now"] = json!({"type": "boolean"});
    shown["key"] = or_null(bytes.clone());
    shown["headers"] = map(bytes.clone());
    shown["payload"] = or_null(bytes);
    json!({
        "Exclusion": listed,
        "ExclusionRequest": request(&["partition", "offsets", "reason"], json!({
            "partition": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 100_000},
            "offsets": reference("OffsetSpan"),
            "reason": {"type": "string", "minLength": 1},
            "by": or_null(text()),
        })),
        "Exclusions": object(json!({
            "table": text(),
            "exclusions": list(reference("Exclusion")),
            "excluded": map(reference("Ranges")),
            "gaps": map(reference("Ranges")),
            "since": reference("PartitionOffsets"),
        })),
        "DeadLetters": object(json!({
            "table": text(),
            "matched": count(),
            "reasons": list(object(json!({"reason": text(), "count": count()}))),
            "other_reasons": count(),
            "dead_letters": list(object(in_list)),
        })),
        "DeadLetter": object(shown),
        "RedriveRequest": request(&[], json!({
            "partition": or_null(json!({"type": "integer", "format": "int32"})),
            "offsets": or_null(reference("OffsetSpan")),
            "reason": or_null(text()),
            "by": or_null(text()),
            "again": {"type": "boolean", "default": false},
            "undecodable": {"type": "boolean", "default": false},
            "dry_run": {"type": "boolean", "default": false},
        })),
        "RedriveAnswer": object(json!({
            "matched": count(), "letters": count(), "redriven_before": count(), "undecodable": count(), "left": count(),
            "number": or_null(count()),
        })),
        "Redrive": object(json!({
            "number": count(), "at": time(), "by": text(), "letters": count(),
            "state": {"type": "string", "enum": ["asked", "done"]},
            "done": or_null(object(json!({
                "number": count(), "at": time(), "worker": text(), "produced": count(), "found": count(), "gone": count(),
            }))),
        })),
        "Redrives": object(json!({"table": text(), "redrives": list(reference("Redrive"))})),
    })
}

fn batch() -> Value {
    let flag = json!({"type": "boolean"});
    let state = json!({
        "type": "string", "enum": ["queued", "running", "published", "failed", "held", "discarded", "compared"],
    });
    json!({
        "RunState": state,
        "Run": {
            "type": "object",
            "required": ["run_id", "state", "kind", "trigger", "mode", "created_at", "progress", "cuts", "rows", "groups", "timings_ms"],
            "properties": {
                "run_id": text(),
                "state": reference("RunState"),
                "kind": {"type": "string", "enum": ["run", "rollback", "verify"]},
                "trigger": text(),
                "mode": {"type": "string", "enum": ["full", "incremental"]},
                "base": text(),
                "based_on": count(),
                "reason": text(),
                "created_at": time(),
                "started_at": or_null(time()),
                "finished_at": or_null(time()),
                "progress": object(json!({
                    "rows_done": count(), "rows_total": count(), "bytes_done": count(), "bytes_total": count(),
                    "eta_seconds": {"type": ["number", "null"]},
                })),
                "cuts": map(reference("Cut")),
                "rows": count(),
                "groups": count(),
                "publication": or_null(count()),
                "error": or_null(text()),
                "diff": {"type": "object", "description": "How the run compares with what was served, cut to the same version."},
                "timings_ms": map(count()),
            },
        },
        "Runs": object(json!({"runs": list(reference("Run"))})),
        "RunRequest": request(&[], json!({"full": flag})),
        "RunStarted": object(json!({"run_id": text(), "state": reference("RunState")})),
        "RunPublished": object(json!({"run_id": text(), "publication": count()})),
        "RollbackRequest": request(&[], json!({"to": or_null(text())})),
        "VerifyRequest": request(&[], json!({"views": list(text())})),
        "Publications": object(json!({"publications": list(object(json!({
            "number": count(), "run_id": text(), "published_at": time(), "mode": text(), "cuts": map(reference("Cut")),
        })))})),
        "BatchStatus": object(json!({
            "schedule": or_null(json!({"type": "object"})),
            "running": or_null(reference("Run")),
            "queued": or_null(reference("Run")),
            "last": or_null(reference("Run")),
            "held": or_null(text()),
            "leader": flag,
            "service": text(),
            "skipped": {},
            "threads": count(),
        })),
        "Maintenance": object(json!({
            "enabled": flag,
            "done_by": or_null(text()),
            "tables": map(object(json!({
                "version": count(), "files": count(), "small_files": count(), "bytes": count(), "rows": count(),
                "dead_letters": count(), "retention": or_null(text()), "since": reference("PartitionOffsets"),
            }))),
            "last": {"type": "object"},
        })),
        "Upkeep": {"type": "object", "required": ["dry_run"], "properties": {"dry_run": flag}},
    })
}

fn platform() -> Value {
    let service =
        json!({"type": "object", "required": ["id", "address"], "properties": {"id": text(), "address": text()}});
    json!({
        "Health": object(json!({"service": text(), "status": text()})),
        "Status": object(json!({
            "service": text(),
            "id": text(),
            "sources": map(json!({
                "type": "object",
                "required": ["topic", "partitions", "landed"],
                "properties": {
                    "topic": text(),
                    "lag": or_null(whole()),
                    "dead_letters": or_null(count()),
                    "partitions": map(object(json!({
                        "owner": text(), "epoch": whole(), "next_consumed": whole(), "next_landed": whole(), "end": whole(),
                        "lag": count(), "not_landed": count(), "open_segments": {}, "sealed_segments": {},
                    }))),
                },
            })),
            "publication": or_null(object(json!({
                "number": count(), "run_id": text(), "published_at": time(), "age_seconds": {"type": ["number", "null"]},
                "cuts": map(reference("Cut")), "views": list(text()),
            }))),
            "runs": {},
            "services": object(json!({"speed": list(service.clone()), "batch": list(service.clone()), "serve": list(service)})),
            "speed": {"type": "object"},
        })),
    })
}
