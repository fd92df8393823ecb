//! Generators, naive oracles and real servers for tests.

pub mod servers;

pub use servers::skip;
