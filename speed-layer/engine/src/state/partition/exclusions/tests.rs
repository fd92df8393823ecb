use std::sync::Arc;

use anabranch_model::PartitionId;
use anabranch_model::realtime::Piece;

use super::super::tests::{newest, views};
use super::super::{Base, Install, Members, Wanted};
use super::*;

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end))
}

fn set(ranges: &[(i64, i64)]) -> RangeSet {
    ranges.iter().map(|(start, end)| range(*start, *end)).collect()
}

/// A partition that is read from 0 on, with one view and one ViewBolt, whose base is there.
fn partition() -> Arc<PartitionState> {
    let state = PartitionState::new((PartitionId(0), 1), (Offset(0), Offset(0)), &views([0]), 1);
    assert_eq!(install(&state, 0, &[]), Install::Done);
    state
}

fn install(state: &PartitionState, through: i64, excluded: &[(i64, i64)]) -> Install {
    let base = Base {
        excluded: set(excluded),
        ..Base::default()
    };
    // An empty base may stand for any range here: what counts is what is said about it.
    let runs = if through == 0 {
        Vec::new()
    } else {
        vec![super::super::Run::new(range(0, through), None)]
    };
    state.install(0, (Offset(0), Offset(through)), &mut Some(Base { runs, ..base }))
}

/// Reads and folds the next batch, and returns what decoding leaves out of it.
fn fold(state: &PartitionState, start: i64, end: i64) -> RangeSet {
    state.set_consumed(Offset(end));
    let excluded = state.excluded_within(range(start, end));
    state.publish(0, range(start, end), vec![(0, None)]).unwrap();
    excluded
}

/// What an answer from the start says it leaves out.
fn left_out(state: &PartitionState) -> RangeSet {
    let frozen = state.freeze(&[newest(None)]).remove(0).unwrap();
    assert!(matches!(frozen.piece, Piece::Ready { .. }), "{:?}", frozen.piece);
    frozen.excluded
}

#[test]
fn what_is_excluded_ahead_is_left_out_when_it_comes() {
    let state = partition();
    fold(&state, 0, 10);
    assert!(!state.exclude(&set(&[(15, 17), (40, 50)])), "nothing of it was read");
    assert!(state.rebuilding().is_empty());
    assert_eq!(left_out(&state), set(&[]));
    assert_eq!(fold(&state, 10, 20), set(&[(15, 17)]));
    assert_eq!(left_out(&state), set(&[(15, 17)]));
    assert_eq!(fold(&state, 20, 45), set(&[(40, 45)]));
    assert_eq!(left_out(&state), set(&[(15, 17), (40, 45)]), "no more than was read");
    assert!(!state.exclude(&set(&[(15, 17), (40, 50)])));
}

#[test]
fn what_was_read_already_stays_in_the_answer_until_a_base_without_it_is_installed() {
    let state = partition();
    fold(&state, 0, 10);
    fold(&state, 10, 20);
    assert!(state.exclude(&set(&[(5, 12), (18, 25)])));
    assert_eq!(
        state.rebuilding(),
        [(0, Offset(20))],
        "rows up to there must be landed first"
    );
    assert_eq!(left_out(&state), set(&[]), "it says what it does, not what it should");
    assert_eq!(fold(&state, 20, 30), set(&[(20, 25)]));
    assert_eq!(left_out(&state), set(&[(20, 25)]));

    assert_eq!(install(&state, 20, &[(5, 12), (18, 25)]), Install::Done);
    assert_eq!(left_out(&state), set(&[(5, 12), (18, 25)]));
    assert!(state.rebuilding().is_empty());
}

#[test]
fn what_is_included_again_is_folded_again() {
    let state = partition();
    state.exclude(&set(&[(2, 4)]));
    assert_eq!(fold(&state, 0, 10), set(&[(2, 4)]));
    assert!(state.exclude(&set(&[])));
    assert_eq!(left_out(&state), set(&[(2, 4)]));
    assert_eq!(state.rebuilding(), [(0, Offset(4))]);
    assert_eq!(install(&state, 10, &[]), Install::Done);
    assert_eq!(left_out(&state), set(&[]));
}

#[test]
fn a_base_of_older_notes_does_not_settle_it() {
    let state = partition();
    fold(&state, 0, 10);
    state.exclude(&set(&[(1, 2)]));
    state.exclude(&set(&[(1, 2), (5, 6)]));
    assert_eq!(install(&state, 10, &[(1, 2)]), Install::Done);
    assert_eq!(left_out(&state), set(&[(1, 2)]));
    assert_eq!(state.rebuilding(), [(0, Offset(6))]);
}

#[test]
fn one_fold_at_a_time() {
    let state = partition();
    assert!(state.begin_refold());
    assert!(!state.begin_refold());
    state.end_refold();
    assert!(state.begin_refold());
}

#[test]
fn what_lies_before_the_state_is_not_its_business() {
    let state = partition();
    fold(&state, 0, 10);
    fold(&state, 10, 20);
    state.drop_below(0, Offset(10));
    assert!(!state.exclude(&set(&[(3, 10)])));
    assert!(state.exclude(&set(&[(3, 11)])));
}

#[test]
fn a_view_that_is_added_leaves_out_what_decoding_left_out() {
    let state = partition();
    fold(&state, 0, 10);
    state.exclude(&set(&[(12, 14)]));
    fold(&state, 10, 20);
    let both = Members {
        generation: 2,
        ..views([0, 1])
    };
    state.turn_to(&both, Offset(20));
    state.exclude(&set(&[(12, 14), (21, 22)]));
    state.set_consumed(Offset(30));
    assert_eq!(state.excluded_within(range(20, 30)), set(&[(21, 22)]));
    state.publish(0, range(20, 30), vec![(0, None), (1, None)]).unwrap();
    let base = Base {
        runs: vec![super::super::Run::new(range(0, 20), None)],
        excluded: set(&[(12, 14)]),
        since: Some(Offset(7)),
    };
    assert_eq!(
        state.install(1, (Offset(0), Offset(20)), &mut Some(base)),
        Install::Done
    );
    let added = Wanted {
        view: 1,
        ..newest(None)
    };
    let frozen = state.freeze(&[added]).remove(0).unwrap();
    assert_eq!(frozen.excluded, set(&[(12, 14), (21, 22)]));
    assert_eq!(frozen.since, Some(Offset(7)));
    let behind = Wanted {
        cut: Some(Offset(20)),
        ..added
    };
    assert_eq!(state.freeze(&[behind]).remove(0).unwrap().since, None);
}
