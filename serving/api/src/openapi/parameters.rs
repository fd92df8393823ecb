//! Parameters that several operations take, or that are read by hand.
#![expect(dead_code, reason = "these types describe; nobody makes one")]

use std::collections::HashMap;

use serde_json::json;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ContentBuilder, Ref};

use super::types::{LayerName, Require};

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OneView {
    /// Name of a view.
    #[param(example = "pages")]
    view: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OneTable {
    /// Name of a table.
    #[param(example = "clicks")]
    table: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OneRun {
    /// Id of a run.
    #[param(example = "20260131T120000Z-1f3a9c44")]
    run_id: String,
}

/// Which rows of a view.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Selection {
    /// One parameter per condition: `channel=en`, `edits.gte=5`. Operators are `.eq` (the default), `.ne`, `.gt`, `.gte`,
    /// `.lt`, `.lte`, `.in` (values separated by commas) and `.null` (`true` or `false`).
    #[param(style = Form, explode)]
    filter: Option<HashMap<String, String>>,
    /// Columns, separated by commas; a minus sorts descending. The view's keys decide among equals.
    #[param(example = "-clicks")]
    order: Option<String>,
    /// Rows to answer at most.
    #[param(maximum = 1_000_000, example = 10)]
    limit: Option<u64>,
    /// Rows to leave out before.
    #[param(maximum = 1_000_000, example = 0)]
    offset: Option<u64>,
    /// Columns, separated by commas; all by default.
    #[param(example = "page,clicks")]
    columns: Option<String>,
}

/// What an answer must cover, beside [`AtLeast`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Demand {
    /// `exact`: wait until nothing is missing, or answer 503.
    #[param(inline, example = "exact")]
    require: Option<Require>,
    /// How long `require` and `at_least` may wait: `5s`, `250ms`, or seconds. Default 5 s, at most 10 minutes.
    #[param(pattern = "^[0-9]{1,3}(ms|s)$", example = "2s")]
    timeout: Option<String>,
}

/// `at_least` in a query string is JSON text, which no derive spells.
pub(crate) struct AtLeast;

impl IntoParams for AtLeast {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let offsets = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Offsets")))
            .example(Some(json!({"clicks/0": 0})))
            .build();
        let parameter = ParameterBuilder::new()
            .name("at_least")
            .parameter_in(ParameterIn::Query)
            .description(Some(
                "The `through` of an ingest answer: the rows must include those events.",
            ))
            .content("application/json", offsets);
        vec![parameter.build()]
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Layer {
    /// One arm of the river alone, or both.
    #[param(inline, example = "merged")]
    layer: Option<LayerName>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Interval {
    /// How often changes are sent at most: from 50 ms to 60 s, 250 ms by default.
    #[param(pattern = "^[0-9]{1,3}(ms|s)$", example = "250ms")]
    interval: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Limit {
    /// Entries to answer; 50 by default, 1,000 at most.
    #[param(maximum = 1_000_000, example = 20)]
    limit: Option<u64>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhichUpkeep {
    /// Only this table; all by default.
    #[param(example = "clicks")]
    table: Option<String>,
    /// Only say what would be done.
    #[param(example = true)]
    dry_run: Option<bool>,
}
