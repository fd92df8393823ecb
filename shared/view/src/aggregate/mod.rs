//! Aggregates as partial state.
//!
//! A view's aggregate calls become **slots**, pieces of partial state that several calls may share (`avg(x)` is the slots
//! of `sum(x)` and `count(x)`), and **answers**, what is computed from merged slots. Most slots are DataFusion's own
//! accumulators. Its integer and decimal sums wrap, its float MIN and MAX depend on the order of NaNs, and its DISTINCT
//! keeps a set per group; its sketches of distinct values are 16 KiB a group as soon as it has some hundred; those are
//! replaced here.

mod answer;
mod approx_distinct;
mod compile;
mod count;
mod distinct;
mod extreme;
mod seen;
mod sketch;
mod slot;
mod sum;
mod sum_long;

pub(crate) use answer::Answer;
pub(crate) use compile::Slots;
pub(crate) use slot::{Slot, evaluate};

/// How two computations of an output column compare (ARCHITECTURE.md, rule 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Equal, whatever the order of merging: keys, counts, integer and decimal sums, MIN and MAX, distinct counts, HLL.
    Exact,
    /// Equal within 1e-9 of the input's scale: sums of floats, averages, variances, regressions.
    Float,
    /// Equal within the documented bounds of the sketch: t-digest.
    Sketch,
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Float => "float",
            Self::Sketch => "sketch",
        })
    }
}

#[cfg(test)]
mod tests;
