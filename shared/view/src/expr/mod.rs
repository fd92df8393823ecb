//! Scalar expressions that no event can make fail.
//!
//! DataFusion's expressions stop a whole batch when one row divides by zero, overflows or does not cast. Here such a row
//! gives NULL and is counted. Every node first runs its fast kernel over the whole batch; only a batch that fails is
//! taken apart, by halving, until the failing rows stand alone.

mod arithmetic;
mod cast;
mod function;
mod guard;
mod measurable;
mod rewrite;

pub(crate) use guard::{NullCounter, truth};
pub(crate) use measurable::Measurable;
pub(crate) use rewrite::{ColumnsBy, Scope, canonical, plain_type, split_conjunction};

#[cfg(test)]
mod tests;
