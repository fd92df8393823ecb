//! `views.sql` as typed sources and view definitions.
//!
//! Owns the DDL dialect (`CREATE TABLE … WITH (…)`, `CREATE MATERIALIZED VIEW … AS SELECT`), column types and options, the
//! purely syntactic limits of a view's SELECT, and the place in the file of everything it refuses. Refuses to own what a
//! SELECT means: `anabranch-view` compiles that. Does no I/O.
//!
//! ```text
//! views.sql ─► tokens (sqlparser) ─► statements, cut at `;`
//!                                      ├─ CREATE TABLE              own cursor   ─► Source
//!                                      └─ CREATE MATERIALIZED VIEW  header: own cursor
//!                                                                   SELECT: sqlparser ─► ViewDefinition
//! ```
//!
//! Invariants:
//! * [`Catalog::parse`] finds every problem of a file, not the first: a broken statement, column or option never hides
//!   the next one. [`Diagnostic`]s come in file order.
//! * SQL names are folded exactly as DataFusion's planner folds them ([`fold_identifier`]); JSON keys are never folded.
//! * A name that begins with `_` belongs to Anabranch; tables and views share one namespace.

mod cursor;
mod definition;
mod diagnostic;
mod name;
mod nearest;
mod options;
mod parse;
mod table;
mod types;
mod view;

pub use definition::{
    Catalog, Column, Connector, JSON_KEY, OnGap, Retention, Source, Start, TimestampFormat, ViewDefinition, json_key,
    without_json_keys,
};
pub use diagnostic::{Diagnostic, Place};
pub use name::fold_identifier;
pub use nearest::{did_you_mean, nearest};
