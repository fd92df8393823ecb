//! Landing: raw events become rows of the master dataset, files and next offsets in one commit.
//!
//! ```text
//!   LandBolt (gathers, closes) ─► encode and upload ─► commit, in order ─► ack
//!                              1                     1        ▲ channel capacities
//! ```
//!
//! A landing is closed when its encoding *starts*; what arrives meanwhile belongs to the next one. While one landing
//! commits, the next is encoded, and the one after that gathers.

mod bolt;
mod close;
mod encode;
mod pipeline;

pub(crate) use bolt::LandBolt;
