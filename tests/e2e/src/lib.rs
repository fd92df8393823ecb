//! The harness of the end-to-end tests: real processes, real files, real HTTP.
//!
//! A test writes a configuration folder ([`Site`]), starts services in child processes ([`Process`]; `kill -9` is real),
//! and asks them questions over HTTP ([`Http`]) or through the command line ([`Site::cli`]). [`Dev`] is the common case:
//! one `anabranch dev` on a folder of its own.
//!
//! ```text
//! test ──► Dev ──► Site (anabranch.toml, views.sql, ports)
//!           │       └─ cli() ─► child process, run to its end
//!           ├─► Process (child running `anabranch dev`)
//!           └─► Http ──► Answer (rows + coverage)
//! ```
//!
//! The children are the test binary itself ([`child`]): Cargo tells a package nothing about another package's binaries.
//!
//! Everything here panics when something is wrong, because its callers are tests; nothing here is part of the product.

pub mod answer;
pub mod child;
pub mod compare;
pub mod data;
pub mod dev;
pub mod examples;
pub mod gate;
mod http;
pub mod master;
pub mod ports;
mod process;
pub mod python;
mod runtime;
mod site;
pub mod yaml;

pub use answer::Answer;
pub use dev::Dev;
pub use http::{Http, Reply};
pub use process::{Output, Process};
pub use runtime::{block_on, until};
pub use site::Site;
