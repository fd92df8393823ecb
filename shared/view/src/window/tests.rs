use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;
use proptest::prelude::*;

use super::Grid;

fn starts(grid: Grid, at: i64) -> Vec<i64> {
    grid.starts(at).collect()
}

#[test]
fn tumbling_windows_round_down_before_the_epoch_too() {
    let minute = Grid::new(60, 60, 0);
    assert_eq!(starts(minute, 0), [0]);
    assert_eq!(starts(minute, 59), [0]);
    assert_eq!(starts(minute, 60), [60]);
    assert_eq!(starts(minute, -1), [-60]);
    assert_eq!(starts(minute, -60), [-60]);
    assert_eq!(starts(minute, -61), [-120]);
}

#[test]
fn an_offset_moves_every_window_and_only_its_remainder_counts() {
    for offset in [7, 67, -53, 7 - 600] {
        let grid = Grid::new(60, 60, offset);
        assert_eq!(starts(grid, 7), [7], "offset {offset}");
        assert_eq!(starts(grid, 6), [-53], "offset {offset}");
        assert_eq!(starts(grid, 66), [7], "offset {offset}");
        assert_eq!(starts(grid, 67), [67], "offset {offset}");
    }
}

#[test]
fn a_hop_gives_every_window_that_holds_the_time_earliest_first() {
    let grid = Grid::new(5, 13, 0);
    assert_eq!(starts(grid, 0), [-10, -5, 0]);
    assert_eq!(starts(grid, 2), [-10, -5, 0]);
    assert_eq!(starts(grid, 3), [-5, 0]);
    assert_eq!(starts(grid, -1), [-10, -5]);
    assert_eq!(starts(grid, -3), [-15, -10, -5]);
    assert_eq!(grid.most_windows(), 3);
}

#[test]
fn windows_with_gaps_between_them_drop_what_falls_into_a_gap() {
    let grid = Grid::new(10, 4, 0);
    assert_eq!(starts(grid, 3), [0]);
    assert_eq!(starts(grid, 4), [0; 0]);
    assert_eq!(starts(grid, 9), [0; 0]);
    assert_eq!(starts(grid, -7), [-10]);
    assert_eq!(starts(grid, -6), [0; 0]);
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    let grid = Grid::new(7, 7, 3);
    assert_eq!(grid.last_start(i64::MIN), None);
    assert!(grid.last_start(i64::MAX).is_some_and(|start| start > i64::MAX - 7));
    let hop = Grid::new(7, 70, 3);
    assert!(starts(hop, i64::MIN + 20).len() < 10);
    assert_eq!(starts(hop, i64::MAX).len(), 10);
}

#[test]
fn expansion_keeps_one_place_for_a_missing_time() {
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(0), None, Some(12)]).with_timezone("UTC"));
    let (rows, windows) = Grid::new(5, 10, 0).expand(&times);
    assert_eq!(rows.values().as_ref(), [0, 0, 1, 2, 2]);
    let windows = windows.as_primitive::<TimestampMicrosecondType>();
    assert_eq!(
        windows.iter().collect::<Vec<_>>(),
        [Some(-5), Some(0), None, Some(5), Some(10)]
    );
}

proptest! {
    /// A window holds a time exactly if it starts on the grid, at or before the time, and ends after it.
    #[test]
    fn starts_are_exactly_the_windows_that_hold_the_time(
        at in -1000_i64..1000, slide in 1_i64..40, size in 1_i64..100, offset in -50_i64..50,
    ) {
        let expected: Vec<i64> = (-1200..1200)
            .filter(|start| (start - offset).rem_euclid(slide) == 0 && *start <= at && at < start + size)
            .collect();
        prop_assert_eq!(starts(Grid::new(slide, size, offset), at), expected);
    }
}
