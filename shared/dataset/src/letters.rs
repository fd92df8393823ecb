use std::collections::BTreeMap;

use anabranch_model::{Offset, OffsetRange, PartitionId, RangeSet};
use serde::{Deserialize, Serialize};

/// A set of records, by partition and offset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Letters(BTreeMap<PartitionId, RangeSet>);

impl Letters {
    pub fn is_empty(&self) -> bool {
        self.0.values().all(RangeSet::is_empty)
    }

    /// How many records these are.
    pub fn count(&self) -> u64 {
        let ranges = self.0.values().flat_map(RangeSet::iter);
        ranges.map(|range| range.len().unsigned_abs()).sum()
    }

    pub fn contains(&self, partition: PartitionId, offset: Offset) -> bool {
        self.0.get(&partition).is_some_and(|offsets| offsets.contains(offset))
    }

    /// From the first to the last offset of each partition.
    pub fn spans(&self) -> impl Iterator<Item = (PartitionId, OffsetRange)> + '_ {
        self.0.iter().filter_map(|(partition, offsets)| {
            let (first, last) = offsets.iter().next().zip(offsets.iter().last())?;
            Some((*partition, OffsetRange::new(first.start, last.end)))
        })
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let nothing = RangeSet::new();
        let rest = self.0.iter().map(|(partition, offsets)| {
            let taken = other.0.get(partition).unwrap_or(&nothing);
            (*partition, offsets.minus(taken))
        });
        Self(rest.filter(|(_, offsets)| !offsets.is_empty()).collect())
    }

    /// Adds another set.
    pub fn add(&mut self, other: &Self) {
        for (partition, offsets) in &other.0 {
            self.0.entry(*partition).or_default().extend(offsets.iter());
        }
    }
}

impl FromIterator<(PartitionId, Offset)> for Letters {
    fn from_iter<I: IntoIterator<Item = (PartitionId, Offset)>>(records: I) -> Self {
        let mut offsets: BTreeMap<PartitionId, Vec<OffsetRange>> = BTreeMap::new();
        for (partition, offset) in records {
            let range = OffsetRange::new(offset, Offset(offset.0 + 1));
            offsets.entry(partition).or_default().push(range);
        }
        let sets = offsets.into_iter();
        Self(
            sets.map(|(partition, ranges)| (partition, ranges.into_iter().collect()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests;
