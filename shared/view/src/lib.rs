//! The view algebra: `prepare → group → partial state → finalise`, compiled once and used by all three layers.
//!
//! ```text
//! events ──prepare──► keys, inputs ──fold──► Aggregator ──emit──► state batch ──finalise──► answer
//!          WHERE, windows,                     ▲   │                 (keys + partial state)
//!          arguments                           └───┘ merge any state of the same view
//! ```
//!
//! Owns what a SELECT means: planning it with DataFusion, taking the plan apart, refusing what does not merge, and the
//! partial state of every aggregate. Refuses to own what a `views.sql` looks like (`anabranch-catalog`), where events come
//! from, and where state is kept.
//!
//! Invariants:
//! * Any split of the events, any order of merging, and any encoding in between give the same answer, by [`Class`].
//! * State is mergeable exactly between views of equal [`View::hash`].
//! * No event can stop or falsify a view: what cannot be computed for a row is NULL there, and counted
//!   ([`View::nulled_values`]).

mod aggregate;
mod aggregator;
mod compare;
mod describe;
mod dictionary;
mod error;
mod expr;
mod filter;
mod finalise;
mod groups;
mod keys;
mod plan;
mod prepare;
mod sql;
mod view;
mod window;

pub use aggregate::Class;
pub use aggregator::Aggregator;
pub use compare::{Comparison, Difference};
pub use error::Error;
pub use filter::KeyFilter;
pub use keys::{KeyCodec, KeyHashes, KeyIndex, KeyOrder, KeyRange, KeyRanges, partition_point};
pub use sql::AGGREGATES;
pub use view::{Prepared, View, ViewHash};
