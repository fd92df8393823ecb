//! The master dataset, read by another implementation of the Delta protocol.

use anabranch_e2e::{Dev, gate, python};
use serde_json::Value;

use crate::edits::{EVENTS, Edits, TABLE, views};

/// Prints what the table holds, as JSON.
const SCRIPT: &str = r#"
import json, sys
from collections import Counter
from deltalake import DeltaTable
table = DeltaTable(sys.argv[1])
rows = table.to_pyarrow_table(columns=["_partition", "_offset", "_dead", "added", "page"]).to_pylist()
offsets = Counter((row["_partition"], row["_offset"]) for row in rows)
ends = {}
for partition, offset in offsets:
    ends[partition] = max(ends.get(partition, 0), offset + 1)
before = DeltaTable(sys.argv[1], version=int(sys.argv[2]))
print(json.dumps({
    "version": table.version(),
    "files": len(table.file_uris()),
    "files_before": len(before.file_uris()),
    "rows_before": before.to_pyarrow_table(columns=["_offset"]).num_rows,
    "merges": sum(1 for commit in table.history() if commit["operation"] == "OPTIMIZE"),
    "columns": [field.name for field in table.schema().fields],
    "rows": len(rows),
    "distinct": len(offsets),
    "most": max(offsets.values()),
    "ends": sum(ends.values()),
    "dead": sum(1 for row in rows if row["_dead"]),
    "added": sum(row["added"] for row in rows if row["added"] is not None),
    "pages": len({row["page"] for row in rows}),
}))
"#;

#[test]
fn the_delta_table_opens_elsewhere_and_holds_each_offset_once() {
    const TEST: &str = "the_delta_table_opens_elsewhere_and_holds_each_offset_once";
    let Some(edits) = Edits::load(TEST) else { return };
    let python = match python::interpreter() {
        Ok(python) => python,
        Err(reason) => return gate::skip(TEST, &format!("no Python with `deltalake`: {reason}")),
    };
    let _gate = gate::heavy();
    // More than 100 landings, so that the table is read through a checkpoint; a kill in the middle, and small files merged
    // before the end.
    let mut dev = Dev::start(
        &views("connector = 'log', partitions = 3"),
        "[landing]\nmax_age = '10ms'\n[maintenance]\nenabled = false",
    );
    let mut through = anabranch_model::TopicOffsets::new();
    let mut before = (0, 0);
    let chunks: Vec<_> = (0..edits.lines.len())
        .step_by(edits.lines.len().div_ceil(120))
        .collect();
    for (at, start) in chunks.iter().enumerate() {
        let end = chunks.get(at + 1).copied().unwrap_or(edits.lines.len());
        let sent = dev.ingest(TABLE, edits.body(*start..end));
        dev.wait_landed(TABLE, &sent);
        through.extend(sent);
        if at == chunks.len() / 2 {
            dev.kill9();
            dev.restart();
        }
        if at == chunks.len() * 9 / 10 {
            let state = dev.http().get("/v1/batch/maintenance").expect(200).json();
            let number = |key: &str| state["tables"][TABLE][key].as_u64().expect("a number");
            before = (number("version"), number("rows"));
            let site = dev.site();
            site.cli(&["maintenance", "run", "--config", site.config()]).success();
        }
    }
    dev.wait_landed(TABLE, &through);
    dev.terminate();
    let folder = dev.site().file(".anabranch/store/sources/wikipedia");
    let printed = python::script(
        &python,
        SCRIPT,
        &[
            folder.to_str().expect("temporary folders have plain names"),
            &before.0.to_string(),
        ],
    );
    let found: Value =
        serde_json::from_str(&printed.unwrap_or_else(|error| panic!("{error}"))).expect("the script prints JSON");
    for key in ["rows", "distinct", "ends"] {
        assert_eq!(found[key], EVENTS, "{key}: {found}");
    }
    assert_eq!(found["most"], 1, "an offset is there more than once: {found}");
    assert_eq!(found["rows_before"], before.1, "as it was before: {found}");
    assert!(found["merges"].as_u64() >= Some(1), "{found}");
    let files = |key: &str| found[key].as_u64().expect("files are counted");
    assert!(files("files_before") > 100 && files("files") < 40, "{found}");
    assert_eq!(found["dead"], 0, "{found}");
    assert_eq!(found["added"], crate::edits::ADDED, "{found}");
    let columns: Vec<&str> = found["columns"]
        .as_array()
        .expect("columns are listed")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for column in [
        "time",
        "cityname",
        "_partition",
        "_offset",
        "_timestamp",
        "_key",
        "_headers",
        "_raw",
        "_reason",
        "_dead",
    ] {
        assert!(
            columns.iter().any(|found| found.eq_ignore_ascii_case(column)),
            "no column {column}: {columns:?}"
        );
    }
    assert!(
        found["version"].as_i64().is_some_and(|version| version > 100),
        "the table has a checkpoint: {found}"
    );
}
