//! `GET /openapi.json`: every route of the serving port, those that are passed on to other services included, as an
//! OpenAPI 3.1 document.
//!
//! One module per part of the API lists its operations; [`schemas`] describes what goes over the wire. The document is about the
//! port as clients see it, so it lives here and not in the layers behind it. Tests hold it against the routers, in both
//! directions, and let a fuzzer hold a live platform against it.

mod access;
mod batch;
mod ingest;
mod operation;
mod platform;
mod queries;
mod schemas;
mod tables;

use std::sync::OnceLock;

use axum::Json;
use serde_json::{Map, Value, json};

use operation::Operation;

/// The document.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut paths = Map::new();
        for operation in operations() {
            let (path, method, described) = operation.described_for_strangers();
            let item = paths.entry(path).or_insert_with(|| json!({}));
            item[method] = described;
        }
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Anabranch",
                "version": env!("CARGO_PKG_VERSION"),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                "description": "Live numbers and exact numbers from the same events. Every answer says what it covers: which publication \
                                it used, where the cut lies, how far it goes, what is missing, and whether it is exact.",
            },
            "tags": [
                {"name": "queries", "description": "Merged views: batch up to the cut, realtime from there on."},
                {"name": "ingest", "description": "Events into a table's log."},
                {"name": "tables", "description": "Exclusions and dead letters of a table."},
                {"name": "batch", "description": "Batch runs, publications and maintenance; passed on to the batch layer."},
                {"name": "platform", "description": "Health, status and metrics."},
                {"name": "access", "description": "Who asks. Where access is open, nobody need say."},
            ],
            "paths": paths,
            "security": [{}, {"token": []}],
            "components": {
                "schemas": schemas::all(),
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "A token, or a JWT of the identity provider."}},
            },
        })
    })
}

fn operations() -> Vec<Operation> {
    let parts = [
        queries::operations(),
        ingest::operations(),
        tables::operations(),
        batch::operations(),
        platform::operations(),
        access::operations(),
    ];
    parts.into_iter().flatten().collect()
}

pub(crate) async fn serve() -> Json<&'static Value> {
    Json(document())
}

#[cfg(test)]
mod tests;
