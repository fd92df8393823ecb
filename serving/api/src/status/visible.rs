//! What of the status somebody may see who is no administrator. What is not named here they do not see.

use std::collections::BTreeSet;

use anabranch_access::Principal;
use serde_json::{Map, Value};

use crate::follow::adoption::Published;
use crate::views;

/// Of a source: figures. Not samples of events, and not what goes wrong where.
const OF_SOURCE: [&str; 9] = [
    "topic",
    "partitions_total",
    "lag",
    "open_segments",
    "sealed_segments",
    "connected",
    "dead_letters",
    "columns_never_seen",
    "partitions",
];
const OF_PUBLICATION: [&str; 4] = ["number", "run_id", "published_at", "age_seconds"];

/// The part of the status that a principal may see: its views, and the sources that they are made of.
pub(crate) fn visible(whole: Value, principal: &Principal, published: &Published) -> Value {
    if principal.may_administer() {
        return whole;
    }
    let (mut names, mut sources) = (BTreeSet::new(), BTreeSet::new());
    for view in views::visible(&published.served, principal) {
        names.insert(view.name());
        sources.insert(view.source().name.as_str());
    }
    reduced(&whole, &names, &sources, principal.may_read_all())
}

fn reduced(whole: &Value, views: &BTreeSet<&str>, sources: &BTreeSet<&str>, all: bool) -> Value {
    let mut part = Map::new();
    part.insert("service".to_owned(), whole["service"].clone());
    let of_sources = entries(&whole["sources"])
        .filter(|(name, _)| sources.contains(name.as_str()))
        .map(|(name, source)| (name.clone(), some(source, &OF_SOURCE)));
    part.insert("sources".to_owned(), of_sources.collect());
    let publication = match &whole["publication"] {
        Value::Null => Value::Null,
        publication => {
            let mut some = some(publication, &OF_PUBLICATION);
            let cuts = entries(&publication["cuts"]).filter(|(source, _)| sources.contains(source.as_str()));
            some["cuts"] = cuts.map(|(source, cut)| (source.clone(), cut.clone())).collect();
            let named = publication["views"].as_array().into_iter().flatten();
            let named = named.filter(|name| name.as_str().is_some_and(|name| views.contains(name)));
            some["views"] = named.cloned().collect();
            some
        }
    };
    part.insert("publication".to_owned(), publication);
    if all {
        // Runs tell of every view.
        part.insert("runs".to_owned(), whole["runs"].clone());
    }
    Value::Object(part)
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn some(value: &Value, keys: &[&str]) -> Value {
    keys.iter()
        .filter_map(|key| Some(((*key).to_owned(), value.get(*key)?.clone())))
        .collect()
}

#[cfg(test)]
mod tests;
