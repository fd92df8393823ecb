//! From the text of a view to plain expressions: what is refused and where, planning, and taking the plan apart.

mod casts;
mod check;
mod logical;
mod session;

pub use check::AGGREGATES;
pub(crate) use check::{check, in_aggregate, internal, place_of_key};
pub(crate) use logical::{Logical, plan};
pub(crate) use session::{coerce, coerced_expression, event_schema, session};
