//! Generators, naive oracles and real servers for tests.

mod disk;
pub mod fuzz;
pub mod servers;

pub use disk::SmallDisk;
pub use servers::skip;
