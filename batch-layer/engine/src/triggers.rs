//! When runs start, and when they do not.
//!
//! `schedule`, `watch`, `retention`: what asks for runs by itself · `requests`: where everybody asks · `queue`: what becomes of it.

pub(crate) mod queue;
pub(crate) mod requests;
pub(crate) mod retention;
pub(crate) mod schedule;
pub(crate) mod watch;
