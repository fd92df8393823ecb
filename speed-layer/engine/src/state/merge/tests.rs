use super::*;

/// Runs of ten offsets each, with the given rows.
fn runs(rows: &[usize]) -> Vec<(OffsetRange, usize)> {
    let range = |i: usize| OffsetRange::new(Offset(10 * i as i64), Offset(10 * i as i64 + 10));
    rows.iter().enumerate().map(|(i, rows)| (range(i), *rows)).collect()
}

fn planned(rows: &[usize], limit: i64, barriers: &[i64]) -> Option<Range<usize>> {
    plan(&runs(rows), Offset(limit), |offset| barriers.contains(&offset.0))
}

#[test]
fn small_runs_are_merged_when_there_are_enough() {
    assert_eq!(planned(&[1; 5], 1000, &[]), None);
    assert_eq!(planned(&[1; 6], 1000, &[]), Some(0..6));
}

#[test]
fn a_large_run_is_left_alone_until_it_has_peers() {
    assert_eq!(planned(&[100_000, 1, 1, 1, 1, 1, 1], 1000, &[]), Some(1..7));
    assert_eq!(planned(&[100_000, 1, 1, 1], 1000, &[]), None);
    assert_eq!(
        planned(&[2000, 2000, 3, 2000, 2000, 2000], 1000, &[]),
        Some(0..6),
        "smaller runs between peers go along"
    );
}

#[test]
fn nothing_behind_the_limit_is_touched() {
    assert_eq!(planned(&[1; 8], 50, &[]), None);
    assert_eq!(planned(&[1; 8], 60, &[]), Some(0..6));
    assert_eq!(
        planned(&[1; 8], 69, &[]),
        Some(0..6),
        "the seventh run is not whole at 69"
    );
}

#[test]
fn no_merge_reaches_across_a_barrier() {
    assert_eq!(planned(&[1; 8], 1000, &[20]), Some(2..8));
    assert_eq!(planned(&[1; 14], 1000, &[70, 140]), Some(7..14));
    assert_eq!(
        planned(&[1; 9], 1000, &[60]),
        Some(0..6),
        "an older group is merged when the newest needs nothing"
    );
    assert_eq!(planned(&[1; 6], 1000, &[10, 20, 30, 40, 50]), None);
}

#[test]
fn a_closed_segment_becomes_one_run_unless_that_rewrites_a_larger_one() {
    assert_eq!(
        planned(&[1; 8], 1000, &[30]),
        Some(0..3),
        "the 5 runs behind it are still open"
    );
    assert_eq!(planned(&[700, 1, 1], 1000, &[30]), Some(1..3));
    assert_eq!(planned(&[700, 1], 1000, &[20]), None);
    assert_eq!(planned(&[1, 700], 1000, &[20]), Some(0..2));
}

#[test]
fn a_row_is_rewritten_a_logarithmic_number_of_times() {
    let mut lane: Vec<usize> = Vec::new();
    let (mut rewritten, batches, rows) = (0, 2000, 1000);
    for _ in 0..batches {
        lane.push(rows);
        while let Some(range) = plan(&runs(&lane), Offset(i64::MAX), |_| false) {
            let merged: usize = lane[range.clone()].iter().sum();
            rewritten += merged;
            lane.splice(range, [merged]);
        }
    }
    assert!(
        rewritten <= 5 * batches * rows,
        "{rewritten} rows rewritten for {} rows",
        batches * rows
    );
    assert!(lane.len() <= 5 * FAN_IN, "{} runs for a query to read", lane.len());
}
