//! `/v1/tables/…`: what an operator took out of a table's answers, what did not decode, and producing it again.

mod answers;
pub(crate) mod dead_letters;
pub(crate) mod exclusions;
pub(crate) mod letters;
pub(crate) mod redrives;
