//! The serving layer: merged views over HTTP and SQL.
//!
//! ```text
//!  request ─► parse ─► consistency ──────────────────────► read ──► DataFusion ──► format
//!             query    pin one publication                  │       filters, joins,  JSON CSV
//!             rows     ask every speed worker for one       │       order            NDJSON Arrow
//!                      snapshot of all views of the request │
//!                      decide (anabranch-merge): coverage   └─ per view: batch state, by key
//!                      retry · wait (require, at_least)                  + realtime state over Flight
//! ```
//!
//! | folder | |
//! |---|---|
//! | `follow` | what this service follows: publications and their batch views, leases of other services, master datasets |
//! | `snapshot` | one consistent snapshot for each request, and reading the views of it |
//! | `admission` | who may compute at the same time, for how long, with how much memory |
//! | `query`, `rows`, `live` | the three ways to ask: SQL, the rows of one view, and what changes in them |
//! | `tables`, `views`, `status` | what is told about them, and the commands of operators |
//! | `http`, `openapi`, `params`, `format`, `forward` | the protocol: routes, their document, parameters, encodings, what goes to other services |
//! | `front_ends` | PostgreSQL and Flight SQL, over the same query engine |
//!
//! Owns: adoption of publications, one consistent snapshot per request, the HTTP API, and its lease. Refuses to own: what a
//! view means (`anabranch-view`), which pieces fit together (`anabranch-merge`), ingestion and batch runs (forwarded).
//!
//! Invariants:
//!
//! * One request is answered from one publication and, per partition, one prefix of the log, whatever views it joins.
//! * A publication serves only once all its batch views are at hand, in memory or in local files; one that is still read by a request is kept, and
//!   this service's lease names the oldest such, so that the speed layer keeps the realtime state that belongs to it.
//! * What an answer lacks is said in its coverage; `require=exact` answers 503 instead.
//! * Planning, merging and formatting run on a runtime of their own, so that a heavy query delays no health check.

mod admission;
mod compute;
mod error;
mod follow;
mod format;
mod forward;
mod front_ends;
mod http;
mod live;
mod openapi;
mod params;
mod query;
mod rows;
mod server;
mod service;
#[doc(hidden)]
pub mod simulation;
mod snapshot;
mod status;
mod tables;
mod views;

pub use error::Error;
pub use front_ends::FrontEnds;
pub use http::openapi;
pub use server::{ServingHandle, ServingLayer, ServingOptions};
