//! The reader's side of realtime state: who the speed workers are, and what they hold.
//!
//! ```text
//!  services/speed/*.json ──► Directory ──► Services: workers, owners of the highest epoch
//!                                │
//!                                └─ Worker ──snapshot──► SnapshotReply ──state──► partial state of one view
//! ```
//!
//! Owns: what a speed worker's lease says, the connections to workers, and the two calls of the protocol in
//! [`anabranch_model::realtime`]. Refuses to own which pieces make an answer, when to ask again, and what to do when a worker
//! is away: serving and the batch layer decide that, each for its own purpose.

mod directory;
mod error;
mod facts;
mod secure;
mod worker;

pub use directory::{Directory, Services, SpeedWorker};
pub use error::Error;
pub use facts::{OwnedFacts, SourceFacts, SpeedFacts};
pub use worker::Worker;
#[doc(hidden)]
pub use worker::{Peer, Peers};
