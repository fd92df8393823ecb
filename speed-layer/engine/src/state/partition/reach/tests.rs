use std::sync::Arc;

use anabranch_model::realtime::Piece;
use anabranch_model::{OffsetRange, PartitionId};

use super::super::tests::{newest, views};
use super::super::{Adoption, Base, Install, Run};
use super::*;

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end))
}

/// A partition of which [0, 40) was read, and what lies before 30 was dropped for a publication with that cut.
fn behind_a_publication() -> Arc<PartitionState> {
    let state = PartitionState::new((PartitionId(0), 1), (Offset(0), Offset(0)), &views([0]), 1);
    assert_eq!(
        state.install(0, (Offset(0), Offset(0)), &mut Some(Base::default())),
        Install::Done
    );
    for start in [0, 10, 20, 30] {
        state.set_consumed(Offset(start + 10));
        state.publish(0, range(start, start + 10), vec![(0, None)]).unwrap();
    }
    assert_eq!(state.adopt(0, Offset(30), true), Adoption::Drop);
    state.drop_below(0, Offset(30));
    state
}

fn back_to(cut: i64) -> BTreeMap<usize, Offset> {
    BTreeMap::from([(0, Offset(cut))])
}

fn install(state: &PartitionState, runs: &[(i64, i64)]) {
    let runs: Vec<Run> = runs
        .iter()
        .map(|(start, end)| Run::new(range(*start, *end), None))
        .collect();
    let bounds = (runs[0].range.start, runs[runs.len() - 1].range.end);
    assert_eq!(state.install(0, bounds, &mut Some(Base::from(runs))), Install::Done);
}

/// What an answer from `cut` on would be.
fn piece(state: &PartitionState, cut: i64) -> Piece {
    state.freeze(&[newest(Some(Offset(cut)))]).remove(0).unwrap().piece
}

fn ready(start: i64, end: i64) -> Piece {
    Piece::Ready {
        epoch: 1,
        range: range(start, end),
    }
}

#[test]
fn state_that_was_dropped_is_folded_again_for_a_rollback_and_answers_meanwhile() {
    let state = behind_a_publication();
    assert!(state.rebuilding().is_empty());
    assert!(!state.reaches(&back_to(10)));

    assert!(state.reach_back(back_to(10)));
    assert!(state.begin_reach() && !state.begin_reach(), "one folds for it");
    assert_eq!(
        state.rebuilding(),
        [(0, Offset(30))],
        "rows up to what is held must be landed"
    );
    assert_eq!(state.reach_of(0), Some(Offset(10)));
    assert_eq!(
        piece(&state, 30),
        ready(30, 40),
        "the publication that is served is answered from as before"
    );

    install(&state, &[(10, 30), (30, 40)]);
    state.end_reach();
    assert!(state.rebuilding().is_empty());
    assert!(state.reaches(&back_to(10)) && !state.reaches(&back_to(20)));
    assert_eq!(piece(&state, 30), ready(30, 40));
    assert_eq!(piece(&state, 10), ready(10, 40));
    assert!(!state.reach_back(back_to(10)), "nothing is left to do");
    assert_eq!(
        state.adopt(0, Offset(10), false),
        Adoption::Keep,
        "the rollback finds it there"
    );
}

#[test]
fn state_that_lies_across_the_old_cut_is_divided_at_it() {
    let state = behind_a_publication();
    state.reach_back(back_to(10));
    install(&state, &[(0, 30), (30, 40)]);
    assert!(!state.reaches(&back_to(10)));
    assert!(state.reach_back(back_to(10)));
    assert_eq!(state.rebuilding(), [(0, Offset(10))]);
    install(&state, &[(0, 10), (10, 30), (30, 40)]);
    assert!(state.reaches(&back_to(10)));
}

#[test]
fn a_rollback_that_does_not_come_leaves_nothing_to_do() {
    let state = behind_a_publication();
    assert!(state.reach_back(back_to(10)));
    assert!(!state.reach_back(BTreeMap::new()));
    assert!(state.rebuilding().is_empty());
    assert_eq!(state.reach_of(0), None);
}

#[test]
fn a_view_that_is_being_rebuilt_reaches_nowhere_yet() {
    let state = behind_a_publication();
    assert!(state.begin_rebuild(0));
    assert!(!state.reach_back(back_to(30)), "the rebuild sees to it");
    assert!(!state.reaches(&back_to(30)));
    assert!(
        !state.reaches(&BTreeMap::from([(7, Offset(0))])),
        "a view that is not read yet"
    );
}
