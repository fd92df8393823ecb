//! What goes over the wire and is declared in crates that know nothing of HTTP, or is read and written by hand. Tests hold these
//! descriptions against the values.
#![expect(dead_code, reason = "these types describe; nobody makes one")]

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Array, ArrayBuilder, ObjectBuilder, OneOfBuilder, SchemaType, Type};

#[derive(ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorAnswer {
    #[schema(inline)]
    error: ErrorBody,
}

#[derive(ToSchema)]
struct ErrorBody {
    /// Stable, for programs: `invalid`, `not_found`, `conflict`, `unavailable`, …
    code: String,
    /// What is wrong.
    message: String,
    /// What to do instead.
    #[schema(required = false)]
    hint: String,
}

/// `topic/partition` → next offset: everything before it.
#[derive(ToSchema)]
pub(crate) struct Offsets(BTreeMap<String, i64>);

/// Partition → next offset: everything before it.
#[derive(ToSchema)]
pub(crate) struct PartitionOffsets(BTreeMap<String, i64>);

/// Positions of one partition, ascending.
#[derive(ToSchema)]
pub(crate) struct Ranges(#[schema(inline)] Vec<Range>);

#[derive(ToSchema)]
struct Range {
    start: i64,
    /// Not among them.
    end: i64,
}

/// Where a batch run ended.
#[derive(ToSchema)]
pub(crate) struct Cut {
    #[schema(required)]
    version: Option<u64>,
    next: PartitionOffsets,
}

/// What one view's part of an answer covers.
#[derive(ToSchema)]
pub(crate) struct Coverage {
    #[schema(required)]
    publication: Option<u64>,
    #[schema(required)]
    batch_version: Option<u64>,
    batch_cut: Offsets,
    served_through: Offsets,
    /// Partitions whose realtime part could not be read.
    missing: Vec<String>,
    /// Nothing is missing: each event before `served_through` is counted once.
    exact: bool,
    #[schema(required = false)]
    since: Offsets,
    #[schema(required = false)]
    gaps: BTreeMap<String, Ranges>,
    #[schema(required = false)]
    excluded: BTreeMap<String, Ranges>,
    #[schema(required = false)]
    still_included: BTreeMap<String, Ranges>,
}

/// View → what its part covers.
#[derive(ToSchema)]
pub(crate) struct Coverages(BTreeMap<String, Coverage>);

/// RFC 3339, in UTC.
#[derive(ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub(crate) struct Time(String);

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum Require {
    Exact,
}

#[derive(ToSchema)]
#[schema(as = Layer, rename_all = "lowercase", default = "merged")]
pub(crate) enum LayerName {
    Merged,
    Batch,
    Realtime,
}

#[derive(ToSchema)]
#[schema(pattern = "^[0-9]{1,3}(ms|s)$", example = "5s")]
pub(crate) struct Patience(String);

/// `A..B`: from A on, without B.
#[derive(ToSchema)]
#[schema(pattern = r"^[0-9]{1,9}\.\.[0-9]{1,9}$", example = "100..250")]
pub(crate) struct OffsetSpan(String);

/// Values of a query's parameters.
pub(crate) fn parameter_values() -> Array {
    let types = [Type::String, Type::Number, Type::Boolean, Type::Null];
    let scalar = ObjectBuilder::new().schema_type(SchemaType::from_iter(types)).build();
    let list = ArrayBuilder::new().items(scalar.clone()).build();
    let lists = ArrayBuilder::new()
        .description(Some("A list of values of one type, or of such lists."))
        .items(OneOfBuilder::new().item(scalar.clone()).item(list));
    ArrayBuilder::new()
        .description(Some(
            "Values of `$1`, `$2`, … in the query, each taken as the type that the query expects: a list for an array, as in \
             `page = ANY($1)`.",
        ))
        .items(OneOfBuilder::new().item(scalar).item(lists))
        .build()
}

/// What becomes of each table and view.
#[derive(ToSchema)]
pub(crate) struct Applied {
    number: u64,
    written: bool,
    #[schema(inline)]
    change: Change,
}

#[derive(ToSchema)]
struct Change {
    #[schema(inline)]
    items: Vec<ChangeItem>,
}

#[derive(ToSchema)]
struct ChangeItem {
    #[schema(inline)]
    kind: ChangeKind,
    name: String,
    #[schema(inline)]
    action: ChangeAction,
    rebuild: bool,
    detail: String,
    #[schema(required = false, value_type = Object)]
    place: Value,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum ChangeKind {
    Table,
    View,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum ChangeAction {
    Added,
    Changed,
    Dropped,
    Unchanged,
    Refused,
}

/// An OpenAPI document.
#[derive(ToSchema)]
pub(crate) struct Document {
    openapi: String,
    #[schema(value_type = Object)]
    paths: Value,
}
