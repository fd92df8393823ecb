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
//! Where many processes are killed at random, a [`Witness`] asks all the time and holds every answer against what its coverage
//! claims, by an [`oracle`] that folds the log plainly.
//!
//! Everything here panics when something is wrong, because its callers are tests; nothing here is part of the product.

pub mod answer;
mod backend;
pub mod browser;
pub mod child;
pub mod clients;
mod cluster;
pub mod compare;
pub mod data;
pub mod dev;
pub mod examples;
mod feed;
pub mod gate;
pub mod go;
mod http;
mod loader;
pub mod master;
pub mod oracle;
pub mod orders;
pub mod ports;
mod process;
pub mod promtool;
pub mod python;
pub mod reference;
mod runtime;
mod site;
mod witness;
pub mod yaml;

pub use answer::Answer;
pub use backend::Backend;
pub use cluster::{Cluster, Member};
pub use dev::Dev;
pub use feed::Feed;
pub use http::{Http, Reply};
pub use loader::Loader;
pub use process::{Output, Process};
pub use runtime::{block_on, until};
pub use site::Site;
pub use witness::{Figures, Witness};
