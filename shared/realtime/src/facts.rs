use std::collections::BTreeMap;

use anabranch_model::PartitionId;
use serde::{Deserialize, Serialize};

/// What a speed worker's lease says about it. What an older worker leaves out has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpeedFacts {
    /// By table.
    pub sources: BTreeMap<String, SourceFacts>,
    /// Realtime state held, in bytes.
    pub state_bytes: u64,
    /// Publications that are about to be rolled back to, and whose cuts the worker's state reaches back to by now.
    pub holds: Vec<u64>,
}

/// A worker's part of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceFacts {
    pub topic: String,
    /// Partitions that the log has, whoever owns them.
    pub partitions_total: i32,
    pub owned: BTreeMap<PartitionId, OwnedFacts>,
}

/// One partition that a worker owns. Offsets are consumer positions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnedFacts {
    /// Ownership epoch.
    pub epoch: i64,
    pub next_consumed: i64,
    pub next_landed: i64,
    /// Where the log ends.
    pub end: i64,
}
