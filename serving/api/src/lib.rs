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

mod adoption;
mod batch_view;
mod compute;
mod consistency;
mod dead_letters;
mod definitions;
mod directory;
mod error;
mod exclusions;
mod format;
mod forward;
mod front;
mod front_ends;
mod http;
mod live;
mod masters;
mod needs;
mod openapi;
mod params;
mod provider;
mod pushdown;
mod query;
mod reading;
mod rows;
mod server;
#[doc(hidden)]
pub mod simulation;
mod status;
mod system;
mod versions;
mod views;

pub use error::Error;
pub use front_ends::FrontEnds;
pub use openapi::document as openapi;
pub use server::{ServingHandle, ServingLayer, ServingOptions};
