//! What the front ends of serving ask of the query engine, and the spelling of values that they share.
//!
//! ```text
//!  psql, JDBC, psycopg ──► anabranch-postgres ──┐
//!  ADBC, Flight SQL    ──► anabranch-flight-sql ┼─► QueryEngine ◄── anabranch-serving (which HTTP asks directly)
//! ```
//!
//! Owns: the [`QueryEngine`] trait and its errors, the types of a plan's parameters, bounds of functions, JSON spelling of Arrow values, small tables made by
//! hand. Refuses to own: protocols, and how a query is answered.
//!
//! Invariants:
//!
//! * A principal sees the same relations, rows and errors through every front end.
//! * Dropping what [`QueryEngine::run`] returned stops the query and gives back what it held.

mod bounded;
mod complexity;
mod engine;
mod error;
mod parameters;
mod sheet;
mod value;

pub use bounded::bound_functions;
pub use complexity::{MAX_DEPTH, MAX_OPERATORS, PLANNING_STACK_BYTES, has_too_many_operators, is_deeper};
pub use engine::{Demand, Prepared, QueryEngine, Relation, RelationKind, Running};
pub use error::{Cause, QueryError, mismatch};
pub use parameters::parameter_types;
pub use sheet::{columns, sheet};
pub use value::{Cell, json_cell, object, quoted};

/// Schema of the merged views.
pub const PUBLIC: &str = "public";
/// Schema of the system tables.
pub const SYSTEM: &str = "anabranch";
/// The one catalog (database).
pub const CATALOG: &str = "anabranch";
