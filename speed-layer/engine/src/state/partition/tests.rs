use arrow::array::Int64Array;

use super::*;

fn batch(value: i64) -> Option<RecordBatch> {
    Some(RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from(vec![value])) as _)]).unwrap())
}

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end))
}

/// A partition that begins at 0 and is read from 100 on, with one view and `instances` ViewBolts; ready unless said.
fn partition(instances: usize) -> Arc<PartitionState> {
    let state = PartitionState::new((PartitionId(0), 3), (Offset(0), Offset(100)), &views([0]), instances);
    let base = vec![Run::new(range(0, 100), batch(-1))];
    assert_eq!(
        state.install(0, (Offset(0), Offset(100)), &mut Some(base.into())),
        Install::Done
    );
    state
}

/// The first generation of these views.
pub(super) fn views(ids: impl IntoIterator<Item = usize>) -> Members {
    Members {
        generation: 1,
        views: ids.into_iter().collect(),
    }
}

fn piece(state: &PartitionState, cut: i64) -> Piece {
    state.freeze(&[newest(Some(Offset(cut)))]).remove(0).unwrap().piece
}

pub(super) fn newest(cut: Option<Offset>) -> Wanted {
    Wanted {
        view: 0,
        cut,
        until: Until::Newest,
    }
}

/// From `cut` to `until` exactly.
fn exactly(state: &PartitionState, cut: i64, until: i64) -> Frozen {
    let wanted = Wanted {
        until: Until::At(Offset(until)),
        ..newest(Some(Offset(cut)))
    };
    state.freeze(&[wanted]).remove(0).unwrap()
}

fn ready(start: i64, end: i64) -> Piece {
    Piece::Ready {
        epoch: 3,
        range: range(start, end),
    }
}

fn values(frozen: &Frozen) -> Vec<i64> {
    let value = |run: &Arc<Run>| {
        let state = run.state.as_ref().unwrap();
        state.column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0)
    };
    let mut values: Vec<_> = frozen.runs.iter().map(value).collect();
    values.sort_unstable();
    values
}

#[test]
fn a_query_sees_the_prefix_that_every_instance_has() {
    let state = partition(2);
    state.publish(0, range(100, 110), vec![(0, batch(1))]).unwrap();
    assert_eq!(
        piece(&state, 0),
        Piece::Ready {
            epoch: 3,
            range: range(0, 100)
        }
    );
    state.publish(0, range(110, 120), vec![(0, batch(2))]).unwrap();
    state.publish(1, range(100, 110), vec![(0, None)]).unwrap();
    let frozen = state.freeze(&[newest(None)]).remove(0).unwrap();
    assert_eq!(
        frozen.piece,
        Piece::Ready {
            epoch: 3,
            range: range(0, 110)
        }
    );
    assert_eq!(values(&frozen), [-1, 1], "instance 0 runs ahead, but nobody sees it");
}

#[test]
fn a_cut_that_cannot_be_served_is_answered_with_the_reason() {
    let state = partition(1);
    state.publish(0, range(100, 110), vec![(0, batch(1))]).unwrap();
    assert_eq!(state.drop_below(0, Offset(100)), 1);
    assert_eq!(
        piece(&state, 50),
        Piece::CutTooOld {
            epoch: 3,
            held_from: Offset(100)
        }
    );
    assert_eq!(
        piece(&state, 111),
        Piece::CutAhead {
            epoch: 3,
            through: Offset(110)
        }
    );
    assert_eq!(
        piece(&state, 110),
        Piece::Ready {
            epoch: 3,
            range: range(110, 110)
        }
    );
    let inside = state.freeze(&[newest(Some(Offset(105)))]).remove(0).unwrap();
    assert!(inside.straddled);
    assert_eq!(
        inside.piece,
        Piece::Rebuilding {
            epoch: 3,
            through: Offset(110)
        }
    );
}

#[test]
fn a_prefix_up_to_an_earlier_version_is_frozen_if_a_boundary_lies_there() {
    let state = partition(2);
    for (start, end) in [(100, 110), (110, 120)] {
        state.publish(0, range(start, end), vec![(0, batch(start))]).unwrap();
        state.publish(1, range(start, end), vec![(0, None)]).unwrap();
    }
    state.publish(0, range(120, 130), vec![(0, batch(120))]).unwrap();
    let frozen = exactly(&state, 100, 110);
    assert_eq!(frozen.piece, ready(100, 110));
    assert_eq!(values(&frozen), [100], "nothing from behind the end");
    assert_eq!(exactly(&state, 110, 110).piece, ready(110, 110));
    // Instance 1 has not folded that far.
    let behind = Piece::CutAhead {
        epoch: 3,
        through: Offset(120),
    };
    assert_eq!(exactly(&state, 100, 130).piece, behind);
    for (cut, until) in [(100, 105), (105, 110), (110, 100)] {
        let frozen = exactly(&state, cut, until);
        assert_eq!(frozen.piece, Piece::NoBoundary { epoch: 3 }, "[{cut}, {until})");
        assert!(
            !frozen.straddled && frozen.runs.is_empty(),
            "a question about the past changes nothing"
        );
    }
    let not_begun = Wanted {
        until: Until::Cut,
        ..newest(Some(Offset(110)))
    };
    assert_eq!(state.freeze(&[not_begun]).remove(0).unwrap().piece, ready(110, 110));
}

#[test]
fn a_view_without_its_base_is_rebuilding_however_much_it_has_consumed() {
    let state = PartitionState::new((PartitionId(0), 1), (Offset(0), Offset(100)), &views([0]), 1);
    state.publish(0, range(100, 110), vec![(0, batch(1))]).unwrap();
    assert_eq!(
        piece(&state, 0),
        Piece::Rebuilding {
            epoch: 1,
            through: Offset(110)
        }
    );
    let base = vec![Run::new(range(0, 40), batch(5)), Run::new(range(40, 100), batch(6))];
    assert_eq!(
        state.install(0, (Offset(0), Offset(100)), &mut Some(base.into())),
        Install::Done
    );
    assert_eq!(
        piece(&state, 40),
        Piece::Ready {
            epoch: 1,
            range: range(40, 110)
        }
    );
}

#[test]
fn a_base_waits_for_instances_that_lag_behind_it() {
    let state = partition(2);
    state.publish(0, range(100, 110), vec![(0, batch(1))]).unwrap();
    assert!(state.begin_rebuild(0));
    assert!(!state.begin_rebuild(0), "one rebuild at a time");
    let base = || Some(vec![Run::new(range(50, 110), batch(9))].into());
    assert_eq!(
        state.install(0, (Offset(50), Offset(110)), &mut base()),
        Install::NotYet
    );
    state.publish(1, range(100, 120), vec![(0, None)]).unwrap();
    assert_eq!(
        state.install(0, (Offset(50), Offset(110)), &mut base()),
        Install::Outdated,
        "110 lies inside a run now"
    );
    let base = vec![Run::new(range(50, 100), batch(9))];
    assert_eq!(
        state.install(0, (Offset(50), Offset(100)), &mut Some(base.into())),
        Install::Done
    );
    assert_eq!(
        piece(&state, 50),
        Piece::Ready {
            epoch: 3,
            range: range(50, 100)
        }
    );
}

#[test]
fn runs_are_merged_only_within_what_is_gathered_and_within_one_landing() {
    let state = partition(1);
    for i in 0..12 {
        state
            .publish(0, range(100 + i * 10, 110 + i * 10), vec![(0, batch(i))])
            .unwrap();
    }
    assert!(
        state.merge_jobs(0).is_empty(),
        "no landing has taken them, so a boundary may still come to lie anywhere"
    );
    state.gather(Offset(160));
    state.seal(Offset(160), Instant::now());
    state.gather(Offset(220));
    let jobs = state.merge_jobs(0);
    assert_eq!(
        jobs[0].runs.iter().map(|run| run.range.start.0).collect::<Vec<_>>(),
        [160, 170, 180, 190, 200, 210]
    );
    assert!(state.replace(0, &jobs[0], batch(100)));
    let jobs = state.merge_jobs(0);
    assert_eq!(jobs[0].runs[0].range.start, Offset(100));
    assert!(state.replace(0, &jobs[0], batch(200)));
    assert_eq!(
        piece(&state, 160),
        Piece::Ready {
            epoch: 3,
            range: range(160, 220)
        },
        "the landing is still a boundary"
    );
}

#[test]
fn a_merge_is_dropped_when_a_cut_has_come_to_lie_inside() {
    let state = partition(1);
    for i in 0..6 {
        state
            .publish(0, range(100 + i * 10, 110 + i * 10), vec![(0, batch(i))])
            .unwrap();
    }
    state.gather(Offset(160));
    let jobs = state.merge_jobs(0);
    state.keep_cuts([Offset(130)].into(), Instant::now());
    assert!(!state.replace(0, &jobs[0], batch(100)));
    assert!(matches!(piece(&state, 130), Piece::Ready { .. }));
}

#[test]
fn landings_grow_together_when_no_cut_can_lie_between_them() {
    let state = partition(1);
    let start = Instant::now();
    for i in 0..6 {
        state
            .publish(0, range(100 + i * 10, 110 + i * 10), vec![(0, batch(i))])
            .unwrap();
        state.gather(Offset(110 + i * 10));
        state.seal(
            Offset(110 + i * 10),
            start + Duration::from_secs(u64::try_from(i).unwrap()),
        );
    }
    let served = || BTreeSet::from([Offset(100)]);
    state.keep_cuts(served(), start + Duration::from_secs(59));
    assert!(state.merge_jobs(0).is_empty());
    state.keep_cuts(served(), start + Duration::from_secs(70));
    assert_eq!(state.merge_jobs(0)[0].runs.len(), 6);
    state.keep_cuts(
        BTreeSet::from([Offset(100), Offset(120)]),
        start + Duration::from_secs(70),
    );
    let runs = &state.merge_jobs(0)[0].runs;
    assert_eq!(
        (runs[0].range.start, runs.len()),
        (Offset(120), 4),
        "a batch run will publish 120"
    );
}

#[test]
fn a_publication_drops_what_it_covers_once_nobody_reads_older_ones() {
    let state = partition(1);
    state.publish(0, range(100, 110), vec![(0, batch(1))]).unwrap();
    assert_eq!(state.adopt(0, Offset(100), false), Adoption::Keep);
    assert_eq!(state.adopt(0, Offset(100), true), Adoption::Drop);
    assert_eq!(
        state.adopt(0, Offset(105), true),
        Adoption::Rebuild,
        "the cut straddles a run"
    );
    assert_eq!(state.adopt(0, Offset(120), true), Adoption::Keep, "not consumed yet");
    state.drop_below(0, Offset(100));
    assert_eq!(state.adopt(0, Offset(100), true), Adoption::Keep, "dropped already");
    assert_eq!(state.adopt(0, Offset(40), true), Adoption::Rebuild, "a rollback");
}

#[test]
fn an_ended_state_takes_and_gives_nothing() {
    let state = partition(1);
    state.end();
    state.publish(0, range(500, 510), vec![(0, batch(1))]).unwrap();
    assert!(!state.is_live());
    assert!(state.freeze(&[newest(None)]).is_empty());
    assert_eq!(
        state.install(0, (Offset(0), Offset(100)), &mut Some(Base::default())),
        Install::Outdated
    );
}

#[test]
fn a_view_that_is_added_begins_where_the_change_is_met_and_waits_for_what_lies_before() {
    let state = partition(2);
    state.publish(0, range(100, 110), vec![(0, batch(100))]).unwrap();
    let both = Members {
        generation: 2,
        ..views([0, 1])
    };
    // Instance 0 meets the change first; instance 1 lags behind it by a batch.
    state.turn_to(&both, Offset(110));
    let runs = || vec![(0, batch(110)), (1, batch(110))];
    state.publish(0, range(110, 120), runs()).unwrap();
    assert_eq!(piece(&state, 0), ready(0, 100), "the old view goes on");
    state.publish(1, range(100, 110), vec![(0, None)]).unwrap();
    state.turn_to(&both, Offset(110));
    state.publish(1, range(110, 120), runs()).unwrap();
    assert_eq!(piece(&state, 0), ready(0, 120));

    let added = Wanted {
        view: 1,
        ..newest(None)
    };
    let frozen = |state: &PartitionState| state.freeze(&[newest(None), added]).remove(1).unwrap();
    assert!(
        matches!(frozen(&state).piece, Piece::Rebuilding { .. }),
        "nothing before 110 is in it"
    );
    assert!(state.rebuilding().is_empty() && state.is_new(1), "nobody folds it yet");
    assert_eq!(state.adopt(1, Offset(0), false), Adoption::Rebuild);
    assert!(state.begin_rebuild(1) && !state.begin_rebuild(1));
    assert_eq!(
        state.rebuilding(),
        [(1, Offset(110))],
        "rows must be landed up to there"
    );
    let base = |end| Some(vec![Run::new(range(0, end), batch(-1))].into());
    assert_eq!(
        state.install(1, (Offset(0), Offset(100)), &mut base(100)),
        Install::Outdated,
        "events between 100 and 110 would be in neither"
    );
    assert_eq!(
        state.install(1, (Offset(0), Offset(110)), &mut base(110)),
        Install::Done
    );
    assert_eq!(frozen(&state).piece, ready(0, 120));
    assert_eq!(values(&frozen(&state)), [-1, 110, 110]);
}

#[test]
fn a_view_that_is_dropped_does_not_hold_back_the_others() {
    let state = PartitionState::new((PartitionId(0), 3), (Offset(0), Offset(0)), &views([0, 1]), 2);
    for view in [0, 1] {
        assert_eq!(state.install(view, (Offset(0), Offset(0)), &mut None), Install::Done);
    }
    let one = Members {
        generation: 2,
        ..views([1])
    };
    state.turn_to(&one, Offset(10));
    // Instance 1 still folds for both.
    state
        .publish(1, range(0, 10), vec![(0, batch(1)), (1, batch(1))])
        .unwrap();
    state.publish(0, range(0, 10), vec![(1, batch(1))]).unwrap();
    // A change that is older than what was met already changes nothing.
    state.turn_to(&views([0, 1]), Offset(10));
    let wanted = [0, 1].map(|view| Wanted { view, ..newest(None) });
    let mut frozen = state.freeze(&wanted);
    assert!(frozen[0].is_none());
    assert_eq!(frozen.remove(1).unwrap().piece, ready(0, 10));
}
