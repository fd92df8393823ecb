//! The query engine: SQL over merged views, for every front end.
//!
//! ```text
//!  sql ─► check ─► prepare: plan, columns, parameters ─► run ─► admission: a permit, or a place in the queue, or 503
//!         one SELECT over views that  (or a plan that     │     freeze: one consistent state of all its views
//!         the principal may read       is kept)           │     bind parameters, plan, execute within limits; or, when the
//!                                                         │     query is plain and its rows are few, compute them at once
//!                                                         └───► a stream of record batches and its coverage
//! ```
//!
//! Invariants:
//!
//! * A query sees the views of its principal and the system tables: no files, no network, no spilling.
//! * It holds a permit while it computes, has a deadline, and takes its memory out of its own limit and the one of all.
//! * Plans are kept by text, and used for the versions of views that they were made for, by whom may read these.
//! * Dropping what [`SqlEngine::run`] returned stops the query and gives back everything that it held.

mod check;
mod convert;
mod cooperate;
mod direct;
mod engine;
mod front;
mod literals;
mod plans;
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
