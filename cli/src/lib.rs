//! The `anabranch` command as a library: arguments, commands, and the platform they build.
//!
//! `main.rs` parses and waits; everything else is here so that tests can start a platform inside their own process.
//!
//! ```text
//! args ──► commands ──► platform (settings, catalog, views, store, logs)
//!                          └──► speed layer · batch layer · serving layer
//! ```

pub mod args;
pub mod client;
pub mod commands;
pub mod demo;
pub mod output;
pub mod platform;
mod starting;
