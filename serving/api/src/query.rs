//! The query engine: SQL over merged views, for every front end.
//!
//! ```text
//!  sql ─► check ─► prepare: plan, columns, parameters ─► run ─► admission: a permit, or a place in the queue, or 503
//!         one SELECT over views that                      │     freeze: one consistent state of all its views
//!         the principal may read                          │     bind parameters, plan, execute within limits
//!                                                         └───► a stream of record batches and its coverage
//! ```
//!
//! Invariants:
//!
//! * A query sees the views of its principal and the system tables: no files, no network, no spilling.
//! * It holds a permit while it computes, has a deadline, and takes its memory out of its own limit and the one of all.
//! * Dropping what [`SqlEngine::run`] returned stops the query and gives back everything that it held.

mod check;
mod convert;
mod cooperate;
mod engine;
mod front;
mod prepared;
mod provider;
mod running;
mod session;
mod states;
mod system;

pub(crate) use engine::SqlEngine;
pub(crate) use front::FrontEngine;
pub(crate) use running::Rows;
pub(crate) use system::System;
