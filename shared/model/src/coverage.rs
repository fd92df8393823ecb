use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{RangeSet, TopicOffsets};

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
    /// True when nothing is missing: each event before `served_through` is counted exactly once, but for what `since`, `gaps`
    /// and `excluded` name.
    pub exact: bool,
    /// `topic/partition` → offset before which events have expired and are not in the answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub since: TopicOffsets,
    /// Positions that the log had lost before they were read, and that an operator chose to go on without.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gaps: TopicRanges,
    /// Positions whose events an operator has excluded and that this answer leaves out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub excluded: TopicRanges,
    /// Positions whose exclusion is recorded but whose events are still in this answer, until the next publication or until
    /// realtime state is rebuilt.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub still_included: TopicRanges,
}

/// `topic/partition` → consumer positions.
pub type TopicRanges = BTreeMap<String, RangeSet>;

/// View name → coverage.
pub type CoverageMap = BTreeMap<String, Coverage>;
