use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::TopicOffsets;

/// What one view's part of an answer covers. Sent with every answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Number of the publication whose batch view was used; `None` when the view is in no publication yet.
    pub publication: Option<u64>,
    /// Delta version of the source's master dataset at the cut.
    pub batch_version: Option<u64>,
    /// `topic/partition` → next offset at the cut: the batch view holds everything before it.
    pub batch_cut: TopicOffsets,
    /// `topic/partition` → next offset: the answer holds everything before it, and nothing after.
    pub served_through: TopicOffsets,
    /// `topic/partition` of partitions whose realtime part could not be read (no owner, or still being rebuilt).
    pub missing: Vec<String>,
    /// True when nothing is missing: each event before `served_through` is counted exactly once.
    pub exact: bool,
}

/// View name → coverage.
pub type CoverageMap = BTreeMap<String, Coverage>;
