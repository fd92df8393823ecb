//! Views as the API shows them.

pub(crate) mod apply;

use anabranch_access::Principal;
use anabranch_catalog::did_you_mean;
use anabranch_model::Coverage;
use anabranch_view::View;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::Error;
use crate::follow::adoption::Published;
use crate::format::sql_type;
use crate::openapi;

/// `GET /v1/views`
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Views)]
pub(crate) struct List {
    /// Number of the definitions that run.
    pub(crate) definitions: u64,
    pub(crate) views: Vec<Summary>,
}

/// A view in a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = View)]
pub(crate) struct Summary {
    name: String,
    source: String,
    topic: String,
    hash: String,
    /// A newer definition is being built; until it is there, this one answers.
    changing: bool,
    columns: Vec<ViewColumn>,
    /// The publication that has its batch view.
    #[schema(required)]
    publication: Option<u64>,
    #[schema(required)]
    batch_groups: Option<usize>,
    #[schema(required)]
    batch_events: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ViewColumn {
    name: String,
    #[serde(rename = "type")]
    sql_type: String,
    /// Whether it is one of the keys of the view's groups.
    key: bool,
}

/// `GET /v1/views/{view}`
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ViewDetail)]
pub(crate) struct Detail {
    #[serde(flatten)]
    summary: Summary,
    #[schema(required)]
    definition: Option<String>,
    #[schema(value_type = Object)]
    plan: Value,
    /// Values that became NULL because they could not be cast or divided.
    nulled_values: u64,
    #[schema(value_type = openapi::Coverage)]
    coverage: Coverage,
}

/// The views that a principal may see; for it there are no others.
pub(crate) fn visible<'v>(views: &'v [View], principal: &Principal) -> impl Iterator<Item = &'v View> + Clone {
    views.iter().filter(|view| principal.may_read(view.name()))
}

/// Finds a view by name, among those that the principal may see.
pub(crate) fn find<'v>(views: &'v [View], principal: &Principal, name: &str) -> Result<&'v View, Error> {
    let visible = visible(views, principal);
    let mut found = visible.clone();
    found
        .find(|view| view.name() == name)
        .ok_or_else(|| Error::UnknownView {
            name: name.to_owned(),
            hint: did_you_mean(name, visible.map(View::name)),
        })
}

/// What a list says of a view.
pub(crate) fn summary(view: &View, published: &Published) -> Summary {
    let batch = published.views.get(view.name());
    let newest = published.definitions.view(view.name());
    Summary {
        name: view.name().to_owned(),
        source: view.source().name.clone(),
        topic: view.source().topic.clone(),
        hash: view.hash().to_string(),
        changing: newest.is_some_and(|newest| newest.hash() != view.hash()),
        columns: column_list(view),
        publication: batch.map(|_| published.number),
        batch_groups: batch.map(|batch| batch.state.rows()),
        batch_events: batch.map(|batch| batch.events),
    }
}

/// What is said of one view that is asked for.
pub(crate) fn detail(view: &View, published: &Published, coverage: Coverage) -> Detail {
    let definition = published.catalog().views.get(view.name());
    Detail {
        summary: summary(view, published),
        definition: definition.map(|definition| definition.query.clone()),
        plan: view.describe(),
        nulled_values: view.nulled_values(),
        coverage,
    }
}

fn column_list(view: &View) -> Vec<ViewColumn> {
    let schema = view.output_schema();
    let columns = schema.fields().iter().map(|field| ViewColumn {
        name: field.name().clone(),
        sql_type: sql_type(field.data_type()),
        key: view.output_keys().iter().any(|(name, _)| name == field.name()),
    });
    columns.collect()
}
