use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::*;

/// Route parameters of the routers that pass requests on; what stands behind them is in the document by itself.
const PASSED_ON: [&str; 2] = ["/v1/batch/{*rest}", "/v1/ingest/{*rest}"];
/// Pages for people, not for programs.
const PAGES: [&str; 4] = ["/", "/console", "/console/{*path}", "/favicon.ico"];
/// Ports that are not the serving port have routes of their own.
const ELSEWHERE: [&str; 1] = ["/arrow.flight.protocol.FlightService/{*method}"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Source files below a folder, without tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name == "tests") {
            continue;
        } else if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path
                .file_stem()
                .is_some_and(|stem| stem != "tests" && stem != "testing")
        {
            found.push(path);
        }
    }
}

/// Paths that a source text gives to `route` or `route_service`.
fn routes(text: &str) -> BTreeSet<String> {
    let calls = text
        .split(".route(")
        .skip(1)
        .chain(text.split(".route_service(").skip(1));
    let literals = calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next());
    literals
        .filter(|path| path.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_route_is_documented_and_every_documented_path_is_a_route() {
    let mut files = Vec::new();
    for folder in [
        "serving",
        "batch-layer/engine/src",
        "speed-layer/engine/src",
        "shared/runtime/src",
        "shared/access",
    ] {
        let folder = workspace().join(folder);
        if folder.exists() {
            sources(&folder, &mut files);
        }
    }
    let mut routed = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        routed.extend(routes(&text).into_iter().map(|route| (route, file.clone())));
    }
    assert!(routed.len() > 15, "the routers were not read properly: {routed:?}");
    let documented: BTreeSet<&String> = openapi()["paths"].as_object().unwrap().keys().collect();
    let forgotten: Vec<_> = routed
        .iter()
        .filter(|(route, _)| !PASSED_ON.contains(&route.as_str()) && !ELSEWHERE.contains(&route.as_str()))
        .filter(|(route, _)| !PAGES.contains(&route.as_str()) && !documented.contains(route))
        .collect();
    assert!(
        forgotten.is_empty(),
        "routes without an operation in serving/api/src/openapi: {forgotten:#?}"
    );
    // What was registered as one is a route; what is only described must be one elsewhere.
    let imagined: Vec<_> = described::elsewhere()
        .filter(|path| !routed.contains_key(path))
        .collect();
    assert!(
        imagined.is_empty(),
        "the document has paths that no router has: {imagined:?}"
    );
}

#[test]
fn routes_are_found_in_source_text() {
    let text = "Router::new().route(\"/a\", get(x)).route(\n    \"/b/{id}\",\n    get(y)).route(value, 3).route_service(\"/c\", s)";
    assert_eq!(routes(text).into_iter().collect::<Vec<_>>(), ["/a", "/b/{id}", "/c"]);
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn references_resolve_and_no_schema_is_left_over() {
    let mut named = BTreeSet::new();
    references(openapi(), &mut named);
    let schemas = openapi()["components"]["schemas"].as_object().unwrap();
    let there: BTreeSet<String> = schemas
        .keys()
        .map(|name| format!("#/components/schemas/{name}"))
        .collect();
    assert_eq!(named, there);
}

/// Names of the members that a schema of the document has.
fn members(schema: &str) -> BTreeSet<String> {
    let properties = openapi()["components"]["schemas"][schema]["properties"].as_object();
    properties.unwrap().keys().cloned().collect()
}

fn keys(value: impl serde::Serialize) -> BTreeSet<String> {
    let value = serde_json::to_value(value).unwrap();
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn what_is_described_by_hand_is_what_is_serialised() {
    use anabranch_model::{Coverage, Cut, Offset, OffsetRange, RangeSet};

    let range = OffsetRange::new(Offset(3), Offset(5));
    let ranges = BTreeMap::from([("clicks/0".to_owned(), RangeSet::from_iter([range]))]);
    let coverage = Coverage {
        since: BTreeMap::from([("clicks/0".to_owned(), 3)]),
        gaps: ranges.clone(),
        excluded: ranges.clone(),
        still_included: ranges,
        ..Coverage::default()
    };
    assert_eq!(keys(&coverage), members("Coverage"));
    assert_eq!(keys(Cut::default()), members("Cut"));
    let applied = anabranch_definitions::Applied {
        number: 1,
        written: true,
        change: Default::default(),
    };
    assert_eq!(keys(applied), members("Applied"));
}

/// The word that stands for a value.
fn word(value: impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap();
    value.as_str().unwrap().to_owned()
}

fn words(schema: &Value) -> Vec<String> {
    let values = schema["enum"].as_array().unwrap();
    values.iter().map(word).collect()
}

/// A variant that is new does not compile until it is listed here, and then it has to be described.
#[test]
fn runs_are_described_as_they_are_recorded() {
    use anabranch_dataset::{Diff, RunKind, RunMode, RunRecord, RunState};

    let record = RunRecord {
        base: Some("r".into()),
        based_on: Some(1),
        reason: Some("asked for".into()),
        diff: Some(Diff::default()),
        ..RunRecord::default()
    };
    assert_eq!(keys(&record), members("Run"));
    let schemas = &openapi()["components"]["schemas"];
    let run = &schemas["Run"]["properties"];
    let described: BTreeSet<String> = run["progress"]["properties"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let mut progress = keys(record.progress);
    progress.insert("eta_seconds".to_owned());
    assert_eq!(described, progress);

    let states = {
        use RunState::{Compared, Discarded, Failed, Held, Published, Queued, Running};
        [Queued, Running, Published, Failed, Held, Discarded, Compared].map(|state| match state {
            Queued | Running | Published | Failed | Held | Discarded | Compared => word(state),
        })
    };
    assert_eq!(words(&schemas["RunState"]), states);
    let kinds = {
        use RunKind::{Rollback, Run, Verify};
        [Run, Rollback, Verify].map(|kind| match kind {
            Run | Rollback | Verify => word(kind),
        })
    };
    assert_eq!(words(&run["kind"]), kinds);
    let modes = {
        use RunMode::{Full, Incremental};
        [Full, Incremental].map(|mode| match mode {
            Full | Incremental => word(mode),
        })
    };
    assert_eq!(words(&run["mode"]), modes);
}

#[test]
fn operations_are_complete() {
    let mut ids = BTreeSet::new();
    for (path, item) in openapi()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "operationId {id} is there twice");
            assert!(!operation["summary"].as_str().unwrap().is_empty());
            let responses = operation["responses"].as_object().unwrap();
            assert!(
                responses.keys().any(|status| status.starts_with('2')),
                "{method} {path} never succeeds"
            );
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let in_path: BTreeSet<&str> = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let named: BTreeSet<&str> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            assert_eq!(in_path, named, "parameters of {method} {path}");
            for parameter in &parameters {
                assert!(
                    parameter["description"].is_string(),
                    "a parameter of {method} {path} is not described"
                );
            }
        }
    }
}
