//! What becomes of tables and views when one `views.sql` follows another: decisions only.

use std::collections::BTreeMap;

use anabranch_catalog::{Catalog, Column, Connector, Place, Source};
use arrow::datatypes::Schema;
use serde::Serialize;

use crate::Definitions;

/// Everything that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Tables, then views, by name.
    pub items: Vec<Item>,
}

/// What becomes of one table or view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    pub kind: Kind,
    pub name: String,
    pub action: Action,
    /// Whether state is computed anew from history before the new version answers.
    pub rebuild: bool,
    /// What changes, and what follows from it; why it is refused.
    pub detail: String,
    /// Where in the new text, for what is refused there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Table,
    View,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Added,
    Changed,
    Dropped,
    Unchanged,
    Refused,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Dropped => "dropped",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
        }
    }
}

/// What a table's master dataset holds.
#[derive(Clone, Debug)]
pub struct Landed {
    /// Every column ever declared.
    pub columns: Schema,
    /// Why the new declaration does not fit it, if it does not.
    pub refusal: Option<String>,
    /// Whether any event was landed.
    pub has_events: bool,
}

impl Change {
    /// What follows when `new` takes the place of `old`. `landed` has what is known of each table of `new`.
    pub fn between(old: &Definitions, new: &Definitions, landed: &BTreeMap<String, Landed>) -> Self {
        let mut items = Vec::new();
        for (name, source) in &new.catalog.sources {
            let landed = landed.get(name);
            items.push(match old.catalog.sources.get(name) {
                Some(former) => table(former, source, landed, &new.sql),
                None => new_table(source, landed, &new.sql),
            });
        }
        let dropped = |name: &&String| !new.catalog.sources.contains_key(*name);
        items.extend(old.catalog.sources.keys().filter(dropped).map(|name| {
            item(Kind::Table, name, Action::Dropped)
                .detail("its log is no longer read; what was landed is kept".to_owned())
        }));
        for view in new.views.iter() {
            let item = item(Kind::View, view.name(), Action::Unchanged);
            items.push(match old.view(view.name()) {
                None => item
                    .action(Action::Added)
                    .rebuild(format!("over {}", view.source().name)),
                Some(former) if former.hash() != view.hash() => item
                    .action(Action::Changed)
                    .rebuild("the former version answers until then".to_owned()),
                Some(_) if text(old, view.name()) != text(new, view.name()) => {
                    item.action(Action::Changed).detail("the same state".to_owned())
                }
                Some(_) => item,
            });
        }
        let dropped = old.views.iter().filter(|view| new.view(view.name()).is_none());
        items.extend(dropped.map(|view| item(Kind::View, view.name(), Action::Dropped)));
        Self { items }
    }

    /// Whether nothing may be applied.
    pub fn refused(&self) -> bool {
        self.items.iter().any(|item| item.action == Action::Refused)
    }

    /// Whether anything is another than before.
    pub fn is_change(&self) -> bool {
        self.items.iter().any(|item| item.action != Action::Unchanged)
    }

    /// What is refused, with its place and reason, a line each.
    pub fn refusals(&self) -> String {
        let lines = self.items.iter().filter(|item| item.action == Action::Refused);
        let line = |item: &Item| {
            let place = item
                .place
                .map(|place| format!("line {}, column {}: ", place.line, place.column));
            format!(
                "{}{} `{}`: {}",
                place.unwrap_or_default(),
                item.kind.as_str(),
                item.name,
                item.detail
            )
        };
        lines.map(line).collect::<Vec<_>>().join("\n")
    }
}

fn item(kind: Kind, name: &str, action: Action) -> Item {
    Item {
        kind,
        name: name.to_owned(),
        action,
        rebuild: false,
        detail: String::new(),
        place: None,
    }
}

impl Item {
    fn action(mut self, action: Action) -> Self {
        self.action = action;
        self
    }

    fn detail(mut self, detail: String) -> Self {
        self.detail = detail;
        self
    }

    fn rebuild(mut self, detail: String) -> Self {
        self.rebuild = true;
        self.detail = detail;
        self
    }

    fn refuse(mut self, place: Option<Place>, reason: String) -> Self {
        (self.action, self.place, self.detail) = (Action::Refused, place, reason);
        self
    }
}

fn text<'d>(definitions: &'d Definitions, view: &str) -> Option<&'d str> {
    Some(definitions.catalog.views.get(view)?.query.as_str())
}

fn new_table(source: &Source, landed: Option<&Landed>, sql: &str) -> Item {
    let item = item(Kind::Table, &source.name, Action::Added);
    match landed {
        Some(Landed {
            refusal: Some(reason), ..
        }) => item.refuse(Catalog::place_of(sql, &source.name, None), reason.clone()),
        Some(landed) if landed.has_events => item.detail("goes on with what was landed under this name".to_owned()),
        _ => item,
    }
}

fn table(former: &Source, source: &Source, landed: Option<&Landed>, sql: &str) -> Item {
    let item = item(Kind::Table, &source.name, Action::Unchanged);
    if let Some((column, reason)) = refusal(former, source, landed) {
        return item.refuse(Catalog::place_of(sql, &source.name, column), reason);
    }
    if former == source {
        return item;
    }
    let mut details = Vec::new();
    let added: Vec<&str> = source
        .columns
        .iter()
        .filter(|column| former.column(&column.name).is_none())
        .map(|column| column.name.as_str())
        .collect();
    if !added.is_empty() {
        let filled = if former.keep_raw {
            "filled from the raw bytes of earlier events"
        } else {
            "NULL in earlier events: keep_raw = 'false' has not kept their bytes"
        };
        details.push(format!("new columns {}, {filled}", added.join(", ")));
    }
    if former.keep_raw != source.keep_raw {
        details.push(format!("keep_raw is {} for new events", source.keep_raw));
    }
    if former.partitions != source.partitions {
        details.push("more partitions".to_owned());
    }
    if former.retention != source.retention {
        details.push("another retention".to_owned());
    }
    if former.start != source.start {
        details.push("start counts for partitions that were never read".to_owned());
    }
    let not_null = |column: &&Column| {
        former
            .column(&column.name)
            .is_some_and(|f| f.not_null != column.not_null)
    };
    if source.columns.iter().any(|column| not_null(&column)) {
        details.push("NOT NULL counts for new events".to_owned());
    }
    item.action(Action::Changed).detail(details.join("; "))
}

/// Why a table cannot become another, and the column that is meant.
fn refusal<'s>(former: &'s Source, source: &'s Source, landed: Option<&Landed>) -> Option<(Option<&'s str>, String)> {
    let whole = |reason: &str| Some((None, reason.to_owned()));
    if former.connector != source.connector {
        let name = |connector| match connector {
            Connector::Kafka => "kafka",
            Connector::Log => "log",
        };
        return Some((
            None,
            format!(
                "its connector cannot change from '{}' to '{}': offsets of one log mean nothing in another; declare a table \
                 of another name",
                name(former.connector),
                name(source.connector)
            ),
        ));
    }
    if former.topic != source.topic {
        return Some((
            None,
            format!(
                "its topic cannot change from '{}' to '{}': recorded offsets are of the former; declare a table of another \
                 name",
                former.topic, source.topic
            ),
        ));
    }
    if former.event_time != source.event_time {
        return whole(
            "its event_time cannot change: first_value and last_value of what is published went by the former; declare a \
             table of another name",
        );
    }
    let default = if former.connector == Connector::Log {
        Some(4)
    } else {
        None
    };
    let partitions = |source: &Source| source.partitions.or(default);
    if let (Some(before), Some(after)) = (partitions(former), partitions(source))
        && after < before
    {
        return Some((
            None,
            format!("it cannot have fewer partitions: {before} are there, {after} are declared"),
        ));
    }
    for column in &former.columns {
        let Some(now) = source.column(&column.name) else {
            if landed.is_some_and(|landed| landed.has_events) {
                return Some((
                    None,
                    format!(
                        "column `{}` cannot be dropped: landed events have it. Leave it declared; views need not read it",
                        column.name
                    ),
                ));
            }
            continue;
        };
        if let Some(reason) = column_refusal(column, now) {
            return Some((Some(now.name.as_str()), reason));
        }
    }
    landed
        .and_then(|landed| landed.refusal.clone())
        .map(|reason| (None, reason))
}

fn column_refusal(former: &Column, now: &Column) -> Option<String> {
    let name = &former.name;
    if former.json_key != now.json_key {
        return Some(format!(
            "column `{name}` cannot read the JSON key `{}` instead of `{}`: landed events were read by the former; declare \
             a column of another name",
            now.json_key, former.json_key
        ));
    }
    if former.timestamp_format != now.timestamp_format {
        return Some(format!(
            "timestamp_format cannot change: landed values of `{name}` were read by the former"
        ));
    }
    (!grows(&former.arrow_type(), &now.arrow_type())).then(|| {
        format!(
            "column `{name}` cannot change its type from {} to {}: declare a column of another name",
            former.arrow_type(),
            now.arrow_type()
        )
    })
}

/// Whether `now` is `former`, with further fields in structs at most.
fn grows(former: &arrow::datatypes::DataType, now: &arrow::datatypes::DataType) -> bool {
    use arrow::datatypes::DataType::{List, Struct};
    match (former, now) {
        (Struct(former), Struct(now)) => former.iter().all(|field| {
            now.iter()
                .any(|other| other.name() == field.name() && grows(field.data_type(), other.data_type()))
        }),
        (List(former), List(now)) => grows(former.data_type(), now.data_type()),
        (former, now) => former == now,
    }
}

#[cfg(test)]
mod tests;
