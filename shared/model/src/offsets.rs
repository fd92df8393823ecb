use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A consumer position in one partition: the offset of the next record to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition number of a topic, as Kafka counts them (from zero).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub i32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A half-open range of consumer positions `[start, end)` in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OffsetRange {
    pub start: Offset,
    pub end: Offset,
}

impl OffsetRange {
    /// # Panics
    /// When `end` lies before `start`: a range of consumer positions never runs backwards.
    pub fn new(start: Offset, end: Offset) -> Self {
        assert!(start <= end, "offset range runs backwards: {start}..{end}");
        Self { start, end }
    }

    /// Positions in the range. An upper bound of its records, since offsets may have gaps.
    pub fn len(&self) -> i64 {
        self.end.0 - self.start.0
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether `next` begins exactly where this range ends.
    pub fn meets(&self, next: &Self) -> bool {
        self.end == next.start
    }

    /// Whether a cut at `at` would divide this range.
    pub fn straddles(&self, at: Offset) -> bool {
        self.start < at && at < self.end
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// The next offset of each partition of one source. A partition that is absent has not begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OffsetVector(BTreeMap<PartitionId, Offset>);

impl OffsetVector {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn get(&self, partition: PartitionId) -> Option<Offset> {
        self.0.get(&partition).copied()
    }

    pub fn set(&mut self, partition: PartitionId, next: Offset) {
        self.0.insert(partition, next);
    }

    pub fn remove(&mut self, partition: PartitionId) -> Option<Offset> {
        self.0.remove(&partition)
    }

    pub fn iter(&self) -> impl Iterator<Item = (PartitionId, Offset)> + '_ {
        self.0.iter().map(|(p, o)| (*p, *o))
    }

    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.0.keys().copied()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every partition of `other` is reached: `self[p] >= other[p]` for each `p` of `other`.
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(p, o)| self.get(p).is_some_and(|mine| mine >= o))
    }
}

impl FromIterator<(PartitionId, Offset)> for OffsetVector {
    fn from_iter<I: IntoIterator<Item = (PartitionId, Offset)>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

/// One state of a source's master dataset: a Delta table version and the next offsets recorded in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Delta table version. `None` names the empty cut, before any commit.
    pub version: Option<u64>,
    /// Next offset per partition at that version.
    pub next: OffsetVector,
}

/// Source name → cut. What a batch run covers.
pub type CutMap = BTreeMap<String, Cut>;

/// `topic/partition` → next offset, as HTTP answers spell offset vectors.
pub type TopicOffsets = BTreeMap<String, i64>;

/// Spells a partition the way HTTP answers do: `topic/partition`.
pub fn topic_partition(topic: &str, partition: PartitionId) -> String {
    format!("{topic}/{partition}")
}
