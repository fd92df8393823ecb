use super::*;

fn lane(begin: i64, ends: &[i64]) -> Lane {
    let mut lane = Lane::new(Offset(begin));
    for end in ends {
        let range = OffsetRange::new(lane.end(), Offset(*end));
        lane.push(Run::new(range, None)).unwrap();
    }
    lane
}

fn ends(lane: &Lane) -> Vec<i64> {
    lane.runs().iter().map(|run| run.range.end.0).collect()
}

#[test]
fn a_lane_has_no_gaps() {
    let mut lane = lane(10, &[20]);
    let gap = Run::new(OffsetRange::new(Offset(25), Offset(30)), None);
    assert_eq!(lane.push(gap), Err(Offset(20)));
    assert_eq!(ends(&lane), [20]);
}

#[test]
fn a_cut_is_located_at_boundaries_only() {
    let lane = lane(10, &[20, 30]);
    assert_eq!(lane.locate(Offset(9)), Held::TooOld);
    assert_eq!(lane.locate(Offset(10)), Held::From { first: 0 });
    assert_eq!(lane.locate(Offset(15)), Held::Straddles);
    assert_eq!(lane.locate(Offset(20)), Held::From { first: 1 });
    assert_eq!(lane.locate(Offset(30)), Held::From { first: 2 });
    assert_eq!(lane.locate(Offset(31)), Held::Ahead);
}

#[test]
fn an_empty_lane_holds_exactly_its_begin() {
    let lane = lane(7, &[]);
    assert_eq!(lane.locate(Offset(7)), Held::From { first: 0 });
    assert_eq!(lane.locate(Offset(8)), Held::Ahead);
    assert!(lane.between(Offset(7), Offset(7)).unwrap().is_empty());
}

#[test]
fn the_common_end_is_a_boundary_of_every_lane() {
    let (a, b, c) = (lane(0, &[10, 20, 30]), lane(0, &[10, 30]), lane(0, &[10, 20]));
    assert_eq!(common_end([&a, &b].into_iter()), Some(Offset(30)));
    assert_eq!(common_end([&a, &c].into_iter()), Some(Offset(20)));
    assert_eq!(
        common_end([&a, &b, &c].into_iter()),
        Some(Offset(10)),
        "20 lies inside a run of b"
    );
    assert_eq!(common_end([].into_iter()), None);
}

#[test]
fn merging_replaces_only_what_is_still_there() {
    let mut lane = lane(0, &[10, 20, 30]);
    let old = lane.runs()[..2].to_vec();
    let merged = || Run::new(OffsetRange::new(Offset(0), Offset(20)), None);
    assert!(lane.replace(&old, merged()));
    assert_eq!(ends(&lane), [20, 30]);
    assert!(!lane.replace(&old, merged()), "these runs have been merged already");
    assert_eq!(ends(&lane), [20, 30]);
}

#[test]
fn dropping_keeps_a_run_that_straddles_the_cut() {
    let mut lane = lane(0, &[10, 30]);
    assert_eq!(lane.drop_below(Offset(20)), 1);
    assert_eq!((lane.begin(), ends(&lane)), (Offset(10), vec![30]));
    assert_eq!(lane.drop_below(Offset(30)), 1);
    assert_eq!((lane.begin(), lane.end()), (Offset(30), Offset(30)));
}

#[test]
fn a_rebuilt_base_takes_the_place_of_what_lies_before_it() {
    let mut lane = lane(5, &[10, 20, 30]);
    let base = vec![Arc::new(Run::new(OffsetRange::new(Offset(0), Offset(20)), None))];
    lane.rebase(Offset(0), Offset(20), base);
    assert_eq!((lane.begin(), ends(&lane)), (Offset(0), vec![20, 30]));
}
