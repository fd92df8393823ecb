use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Offset, OffsetRange};

/// A set of consumer positions of one partition, as ascending ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RangeSet(#[serde(deserialize_with = "normalised")] Vec<OffsetRange>);

impl RangeSet {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = OffsetRange> + '_ {
        self.0.iter().copied()
    }

    /// The last range of which some position is at or before `at`, if it is there.
    fn up_to(&self, at: Offset) -> Option<OffsetRange> {
        let after = self.0.partition_point(|range| range.start <= at);
        after.checked_sub(1).map(|index| self.0[index])
    }

    pub fn contains(&self, at: Offset) -> bool {
        self.up_to(at).is_some_and(|range| at < range.end)
    }

    /// Whether all of `range` is in the set. An empty range always is.
    pub fn covers(&self, range: OffsetRange) -> bool {
        range.is_empty() || self.up_to(range.start).is_some_and(|known| range.end <= known.end)
    }

    /// Whether any position of `range` is in the set.
    pub fn intersects(&self, range: OffsetRange) -> bool {
        let next = self.0.partition_point(|known| known.end <= range.start);
        !range.is_empty() && self.0.get(next).is_some_and(|known| known.start < range.end)
    }

    /// The stretch around `at` on which [`contains`](Self::contains) gives the same answer, and that answer. The stretch
    /// is as long as it can be; its ends may be `i64::MIN` and `i64::MAX`.
    pub fn stretch(&self, at: Offset) -> (OffsetRange, bool) {
        let after = self.0.partition_point(|range| range.start <= at);
        let before = after.checked_sub(1).map(|index| self.0[index]);
        if let Some(range) = before.filter(|range| at < range.end) {
            return (range, true);
        }
        let start = before.map_or(Offset(i64::MIN), |range| range.end);
        let end = self.0.get(after).map_or(Offset(i64::MAX), |range| range.start);
        (OffsetRange::new(start, end), false)
    }

    /// What is in the set and in `range`.
    #[must_use]
    pub fn within(&self, range: OffsetRange) -> Self {
        let from = self.0.partition_point(|known| known.end <= range.start);
        let cut = |known: &OffsetRange| OffsetRange::new(known.start.max(range.start), known.end.min(range.end));
        let known = self.0[from..].iter().take_while(|known| known.start < range.end);
        known.map(cut).collect()
    }

    /// What is in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut rest = Vec::with_capacity(self.0.len());
        for range in self.iter() {
            let mut start = range.start;
            for hole in other.within(range).iter() {
                rest.push(OffsetRange::new(start, hole.start));
                start = hole.end;
            }
            rest.push(OffsetRange::new(start, range.end));
        }
        rest.into_iter().collect()
    }
}

impl FromIterator<OffsetRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = OffsetRange>>(ranges: I) -> Self {
        let mut sorted: Vec<OffsetRange> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        sorted.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<OffsetRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

impl Extend<OffsetRange> for RangeSet {
    fn extend<I: IntoIterator<Item = OffsetRange>>(&mut self, ranges: I) {
        *self = self.iter().chain(ranges).collect();
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

/// Reads ranges in any order, and refuses one that runs backwards.
fn normalised<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<OffsetRange>, D::Error> {
    let ranges = Vec::<OffsetRange>::deserialize(input)?;
    match ranges.iter().find(|range| range.end < range.start) {
        Some(range) => Err(serde::de::Error::custom(format!("{range} runs backwards"))),
        None => Ok(ranges.into_iter().collect::<RangeSet>().0),
    }
}

#[cfg(test)]
mod tests;
