//! Merged views over Arrow Flight SQL, for columnar clients such as ADBC.
//!
//! ```text
//!  GetFlightInfo(query) ─► prepare ─► schema, and a ticket that holds the query itself
//!  DoGet(ticket)        ─► prepare, run ─► record batches as they are computed; coverage beside the schema (app_metadata)
//! ```
//!
//! Owns: the protocol, and what clients look up before they ask. Refuses to own: how queries are answered, and who may read
//! what.
//!
//! Invariants:
//!
//! * Nothing is kept between two calls: tickets and handles of prepared statements hold the query and its parameters. Any
//!   serving process answers what another one has prepared.
//! * An answer is never gathered: a client that reads slowly slows its query, one that hangs up stops it.

mod auth;
mod catalog;
mod error;
mod handle;
mod ipc;
mod server;
mod service;

pub use error::Error;
pub use server::{FlightSqlServer, Options};
