//! `GET /v1/views/{view}/live`: the rows of a view, then what changes, as Server-Sent Events.
//!
//! ```text
//!  readers ──► hub: one feed per query (view version, filters, order, …), shared by all of its readers
//!                     │ looks as often as its most impatient reader wants; coverage that did not move costs no read
//!                     ▼
//!              rows, each with the position since which it is what it is ──► per reader: what came since its position
//! ```
//!
//! A reader is its position and nothing else, and its next event is made when its connection takes one. So a slow reader skips
//! positions instead of filling memory, and one that comes back with the id of its last event goes on from there.

mod event;
mod feed;
mod rows;
mod state;
pub(crate) mod stream;
mod table;

pub(crate) use feed::Hub;
