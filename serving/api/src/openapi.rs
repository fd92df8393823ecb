//! `GET /openapi.json`: every route of the serving port, those that are passed on to other services included, as an
//! OpenAPI 3.1 document.
//!
//! A handler of this crate is described where it stands, and its route and its place in the document are one registration (`http.rs`). What is passed on is answered by crates that this one does not depend on; it is described here, one
//! module per service. Tests hold the document against their routers, and let a fuzzer hold a live platform against it.

mod answers;
mod batch;
mod ingest;
mod parameters;
mod platform;
mod types;

use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi::PathItem;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

pub(crate) use answers::{Conflict, Invalid, NotFound, TimedOut, TooLarge, Unavailable, UnknownType};
pub(crate) use parameters::{AtLeast, Demand, Interval, Layer, OneTable, OneView, Selection};
pub(crate) use platform::Status;
pub(crate) use types::{
    Applied, Coverage, Document, LayerName, OffsetSpan, Offsets, PartitionOffsets, Patience, Ranges, Require,
    parameter_values,
};

/// The frame of the document, and what other crates answer.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Anabranch",
        description = "Live numbers and exact numbers from the same events. Every answer says what it covers: which publication it \
                       used, where the cut lies, how far it goes, what is missing, and whether it is exact.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "queries", description = "Merged views: batch up to the cut, realtime from there on."),
        (name = "ingest", description = "Events into a table's log."),
        (name = "tables", description = "Exclusions and dead letters of a table."),
        (name = "batch", description = "Batch runs, publications and maintenance; passed on to the batch layer."),
        (name = "platform", description = "Health, status and metrics."),
        (name = "access", description = "Who asks. Where access is open, nobody need say."),
    ),
    paths(
        ingest::ingest,
        batch::list_runs,
        batch::start_run,
        batch::show_run,
        batch::publish_run,
        batch::discard_run,
        batch::roll_back,
        batch::verify,
        batch::list_publications,
        batch::batch_status,
        batch::maintenance_status,
        batch::maintain,
        batch::compact,
        batch::vacuum,
        batch::expire,
        platform::health,
        platform::ready,
        platform::metrics,
    ),
    components(schemas(types::ErrorAnswer)),
    security((), ("token" = [])),
)]
struct Elsewhere;

/// Paths that this crate describes and does not answer.
#[cfg(test)]
pub(crate) fn elsewhere() -> impl Iterator<Item = String> {
    Elsewhere::openapi().paths.paths.into_keys()
}

/// The document of these routes, and of what other crates answer.
pub(crate) fn document(routes: impl IntoIterator<Item = utoipa::openapi::OpenApi>) -> Value {
    let mut api = Elsewhere::openapi();
    for routes in routes {
        api.merge(routes);
    }
    for (path, item) in &mut api.paths.paths {
        // A defect of ours: no operation wants one, and every one can have it.
        for operation in operations(item) {
            answers::add(operation, &answers::OF_ALL);
            if path.starts_with("/v1/") {
                answers::add(operation, &answers::OF_GUARDED);
            }
        }
    }
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token, or a JWT of the identity provider."))
        .build();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    serde_json::to_value(api).expect("a document of texts and numbers is JSON")
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.put,
        &mut item.delete,
        &mut item.patch,
    ]
    .into_iter()
    .flatten()
}
