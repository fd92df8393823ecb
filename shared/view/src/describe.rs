//! A compiled view as people and machines compare it: its description, and the hash of what its state depends on.

use std::fmt::Write;

use anabranch_catalog::{Source, ViewDefinition};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Expr;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::aggregate::{Answer, Class, Slot};
use crate::plan::Texts;
use crate::sql::Logical;
use crate::window::Windows;

/// Changes whenever the same definition would give other state, or state of another meaning.
const ALGEBRA_VERSION: u32 = 1;

/// SHA-256 over plan, state schema, and the versions of what computes them. Neither the view's name nor the spelling of its
/// text goes into it.
pub(crate) fn hash(
    source: &Source,
    texts: &Texts,
    slots: &[Slot],
    answers: &[Answer],
    state: &Schema,
    finalise: &str,
) -> String {
    let mut text = format!(
        "algebra {ALGEBRA_VERSION}\ndatafusion {}\n",
        datafusion::DATAFUSION_VERSION
    );
    // Writing to a String cannot fail.
    let _ = writeln!(text, "source {:?}", source.name);
    for filter in &texts.filter {
        let _ = writeln!(text, "where {filter}");
    }
    if let Some(hop) = &texts.hop {
        let _ = writeln!(text, "hop {hop}");
    }
    for key in &texts.keys {
        let _ = writeln!(text, "key {key}");
    }
    for slot in slots {
        let _ = writeln!(text, "slot {}", slot.text);
    }
    for field in state.fields() {
        let _ = writeln!(text, "state {:?} {}", field.name(), field.data_type());
    }
    for answer in answers {
        let _ = writeln!(text, "answer {}", answer.text());
    }
    let _ = writeln!(text, "finalise {finalise}");
    Sha256::digest(text.as_bytes())
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

pub(crate) struct Description<'a> {
    pub definition: &'a ViewDefinition,
    pub logical: &'a Logical,
    pub hop: Option<&'a Windows>,
    pub input_columns: &'a [String],
    pub slots: &'a [Slot],
    pub state_schema: &'a Schema,
    pub key_types: &'a [DataType],
    pub output_schema: &'a Schema,
    pub output_classes: &'a [Class],
    pub hash: &'a str,
}

/// What `check --json` prints of a view.
pub(crate) fn describe(d: &Description<'_>) -> Value {
    let texts = |exprs: &[Expr]| exprs.iter().map(show).collect::<Vec<_>>();
    let field = |name: &str, data_type: &DataType| json!({ "name": name, "type": data_type.to_string() });
    let keys: Vec<Value> = d
        .logical
        .groups
        .iter()
        .zip(d.key_types)
        .map(|(expr, data_type)| json!({ "expression": show(expr), "type": data_type.to_string() }))
        .collect();
    let state: Vec<Value> = d
        .state_schema
        .fields()
        .iter()
        .map(|f| field(f.name(), f.data_type()))
        .collect();
    let columns: Vec<Value> = d
        .logical
        .outputs
        .iter()
        .zip(d.output_schema.fields())
        .zip(d.output_classes)
        .map(|(((name, expr), field), class)| {
            json!({ "name": name, "type": field.data_type().to_string(), "class": class, "expression": show(expr) })
        })
        .collect();
    json!({
        "view": d.definition.name,
        "source": d.definition.source.name,
        "hash": d.hash,
        "prepare": {
            "columns": d.input_columns,
            "where": texts(&d.logical.filters),
            "hop": d.hop.map(|w| json!({
                "time": show(&w.time), "slide_us": w.grid.slide_us, "size_us": w.grid.size_us, "offset_us": w.grid.offset_us,
            })),
            "aggregates": texts(&d.logical.aggregates),
        },
        "keys": keys,
        "state": state,
        "slots": d.slots.iter().map(|s| &s.label).collect::<Vec<_>>(),
        "finalise": { "columns": columns, "having": texts(&d.logical.having) },
    })
}

/// An expression as SQL-like text, without the table's name before every column.
fn show(expr: &Expr) -> String {
    let bare = expr.clone().transform_up(|node| {
        Ok(match node {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
            other => Transformed::no(other),
        })
    });
    bare.map_or_else(|_| expr.to_string(), |t| t.data.human_display().to_string())
}
