//! Which runs to merge: size-tiered, as an LSM tree does it.

use std::ops::Range;

use anabranch_model::{Offset, OffsetRange};

/// Runs of one tier that are merged at once. More means fewer rewrites of a row and more runs for a query to read.
const FAN_IN: usize = 6;
/// The same where no run is added any more, between two barriers: a landing is there once every few seconds, so fewer runs
/// are worth a rewrite more.
const CLOSED_FAN_IN: usize = 2;
/// Rows of the smallest tier; each further tier is `FAN_IN` times as large.
const SMALLEST_TIER_ROWS: usize = 512;

/// Picks adjacent runs to merge: the newest in a row that are of the same tier or smaller, if there are enough of them.
///
/// Only runs that end at or before `limit` are considered, and no merge reaches across an offset for which `is_barrier`
/// holds.
pub(crate) fn plan(
    runs: &[(OffsetRange, usize)],
    limit: Offset,
    is_barrier: impl Fn(Offset) -> bool,
) -> Option<Range<usize>> {
    let end = runs.partition_point(|(range, _)| range.end <= limit);
    let mut group_end = end;
    while group_end > 0 {
        let mut group_start = group_end - 1;
        while group_start > 0 && !is_barrier(runs[group_start].0.start) {
            group_start -= 1;
        }
        let closed = is_barrier(runs[group_end - 1].0.end);
        let fan_in = if closed { CLOSED_FAN_IN } else { FAN_IN };
        if let Some(found) = plan_within(&runs[group_start..group_end], fan_in) {
            return Some(group_start + found.start..group_start + found.end);
        }
        group_end = group_start;
    }
    None
}

/// As [`plan`], for runs without a barrier between them.
fn plan_within(runs: &[(OffsetRange, usize)], fan_in: usize) -> Option<Range<usize>> {
    let mut end = runs.len();
    while end >= fan_in {
        let top = tier(runs[end - 1].1);
        let mut start = end - 1;
        while start > 0 && tier(runs[start - 1].1) <= top {
            start -= 1;
        }
        if end - start >= fan_in {
            return Some(start..end);
        }
        end = start;
    }
    None
}

fn tier(rows: usize) -> u32 {
    let mut tier = 0;
    let mut limit = SMALLEST_TIER_ROWS;
    while rows > limit {
        limit = limit.saturating_mul(FAN_IN);
        tier += 1;
    }
    tier
}

#[cfg(test)]
mod tests;
