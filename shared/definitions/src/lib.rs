//! Definitions that change while everything runs.
//!
//! ```text
//!   views.sql ─► apply / settle ─► definitions log ─► Follower (in each service) ─► adopt
//!                   │ Change: added, changed, dropped, unchanged, refused            │
//!                   └ refused: nothing is written                                    └ versions: old and new side by side
//! ```
//!
//! Owns what a changed `views.sql` means for what was landed and published, the decision which file is newer than what
//! runs, and which earlier version of a view answers until the new one can. Refuses to own how a service takes a new
//! definition up.
//!
//! Invariants:
//! * A change that would misread landed data is never written to the log ([`Change::refused`]).
//! * The newest entry of the log is what runs. A file that equals an earlier entry is stale and reverts nothing, unless
//!   somebody insists ([`Options::force`]).
//! * Of two that apply at the same time one is first; the other decides again, on top of it.

mod apply;
mod change;
mod compile;
mod error;
mod follow;
mod versions;

pub use apply::{Applied, Options, Settled, apply, settle};
pub use change::{Action, Change, Item, Kind, Landed};
pub use compile::{Definitions, compile};
pub use error::Error;
pub use follow::Follower;
pub use versions::shadows;
