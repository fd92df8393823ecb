use anabranch_access::Principal;
use anabranch_catalog::did_you_mean;
use anabranch_model::Coverage;
use anabranch_view::View;
use serde_json::{Value, json};

use crate::Error;
use crate::adoption::Published;
use crate::format::sql_type;

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

/// What `GET /v1/views` says of a view.
pub(crate) fn summary(view: &View, published: &Published) -> Value {
    let batch = published.views.get(view.name());
    json!({
        "name": view.name(),
        "source": view.source().name,
        "topic": view.source().topic,
        "hash": view.hash(),
        // A newer definition is being built; until it is there, this one answers.
        "changing": published.definitions.view(view.name()).is_some_and(|newest| newest.hash() != view.hash()),
        "columns": column_list(view),
        "publication": batch.map(|_| published.number),
        "batch_groups": batch.map(|batch| batch.state.rows()),
        "batch_events": batch.map(|batch| batch.events),
    })
}

/// What `GET /v1/views/{view}` adds: definition, plan, coverage.
pub(crate) fn detail(view: &View, published: &Published, coverage: &Coverage) -> Value {
    let mut detail = summary(view, published);
    detail["definition"] = json!(
        published
            .catalog()
            .views
            .get(view.name())
            .map(|definition| &definition.query)
    );
    detail["plan"] = view.describe();
    detail["nulled_values"] = json!(view.nulled_values());
    detail["coverage"] = json!(coverage);
    detail
}

fn column_list(view: &View) -> Vec<Value> {
    let schema = view.output_schema();
    schema
        .fields()
        .iter()
        .map(|field| {
            json!({
                "name": field.name(),
                "type": sql_type(field.data_type()),
                "key": view.output_keys().iter().any(|(name, _)| name == field.name()),
            })
        })
        .collect()
}
