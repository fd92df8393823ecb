//! Merged views over the PostgreSQL wire protocol (version 3), for psql, drivers and the tools that are built on them.
//!
//! ```text
//!  socket ─► wire (messages) ─► connection ─► script: what kind of statement is this?
//!                                   │           ├─ SET, SHOW, BEGIN …      settings of the session
//!                                   │           ├─ pg_catalog and the like ─► catalog (DataFusion over empty relations)
//!                                   │           └─ everything else         ─► anabranch-front::QueryEngine
//!                                   └─ encode: Arrow ─► text or binary, row by row, as fast as the socket takes it
//! ```
//!
//! Owns: the protocol, authentication by SCRAM-SHA-256, sessions, prepared statements and portals, cancelling, the spelling
//! of values, and what clients expect of `pg_catalog` and `information_schema`. Refuses to own: how queries are answered,
//! and who may read what.
//!
//! Messages are read and written here rather than by a library. Of `pgwire` 0.42, `Bind` splits off as many bytes as a client
//! says a parameter has (fewer are a panic), a portal's rows are gathered before the first is sent, with room for as many as
//! the client names, and a cancel request ends the start of a query but not its rows; `arrow-pg`, which writes Arrow for it,
//! has 28 digits for a numeric. Here each length and count is checked before it is believed, rows are written as they are
//! computed, each wait of a statement can be ended, and DECIMAL(38) keeps its digits.
//!
//! Invariants:
//!
//! * Whatever bytes a client sends, it gets an error or a closed connection, never more than bounded memory.
//! * Before somebody is authenticated, nothing but start-up packets and passwords of bounded size is read, in bounded time.
//! * Nothing can be written: statements that would are refused with 25006, others that clients send by habit do nothing.

mod cancel;
mod catalog;
mod commands;
mod connection;
mod copy;
mod cursor;
mod dialect;
mod encode;
mod error;
mod params;
mod portal;
mod scram;
mod script;
mod server;
mod session;
#[cfg(test)]
mod testing;
mod types;
mod wire;

pub use error::{Error, PgError};
pub use server::{Options, PostgresServer};
