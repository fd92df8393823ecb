//! The speed layer: reads partitioned logs, keeps realtime views fresh, lands raw events, serves realtime state.
//!
//! ```text
//!   PartitionedLog ─► LogSpout ─► DecodeBolt × n ─┬─ fields grouping on the key ─► ViewBolt × m ─► realtime state ─► Flight
//!   (Kafka, embedded)                             └────────────────────────────► LandBolt ─► master dataset
//! ```
//!
//! One topology per source, one tuple per micro-batch. It owns
//! * **partitions**: claiming them in the master dataset, reading on at the recorded next offset, giving them up;
//! * **realtime state**: immutable runs per view, partition and range, from the cut of the latest publication on, merged
//!   in the background, never across an offset at which a batch run may cut;
//! * **landing**: files and next offsets in one commit, before a tuple is acked;
//! * **ingest**: NDJSON over HTTP into the log;
//! * **redrives**: dead letters that are produced again.
//!
//! It refuses to own what a view means, where logs and objects are stored, and how batch and realtime state are merged.
//!
//! Invariants (ARCHITECTURE.md, "Rules that keep it exact"):
//! * A query sees, of each partition, one prefix of the log: up to the smallest end over all instances and views.
//! * An event counts in realtime state iff its position is at or behind the cut that was asked for; a run that straddles
//!   a cut is never served, the state is rebuilt from landed rows instead.
//! * A failed tuple is never replayed into state: the partition's state is discarded and read anew.
//! * What does not decode is landed too, as a dead letter.

mod decode_bolt;
mod definitions;
mod error;
mod exclusions;
mod flight;
mod hold;
mod ingest;
mod landing;
mod layer;
mod lease;
mod look;
mod message;
mod opening;
mod ownership;
mod program;
mod publications;
mod rebuild;
mod redrive;
#[doc(hidden)]
pub mod simulation;
mod snapshots;
mod source;
mod sources;
mod spout;
mod state;
mod status;
mod view_bolt;

pub use error::Error;
pub use layer::{SpeedHandle, SpeedLayer, SpeedOptions};
pub use opening::OpenLog;
