use std::collections::{BTreeMap, BTreeSet};

use anabranch_model::OffsetRange;
use anabranch_model::realtime::ViewPieces;
use proptest::prelude::*;

use super::*;

const P0: PartitionId = PartitionId(0);

fn ready(epoch: i64, start: i64, end: i64) -> Piece {
    // Built by hand: a worker that lies may send a range that `OffsetRange::new` would not make.
    Piece::Ready {
        epoch,
        range: OffsetRange {
            start: Offset(start),
            end: Offset(end),
        },
    }
}

fn reply(worker: &str, id: u64, view: &str, pieces: impl IntoIterator<Item = (i32, Piece)>) -> SnapshotReply {
    let partitions = pieces
        .into_iter()
        .map(|(partition, piece)| (PartitionId(partition), piece))
        .collect();
    SnapshotReply {
        id,
        worker: worker.into(),
        views: [(
            view.into(),
            ViewPieces {
                partitions,
                ..ViewPieces::default()
            },
        )]
        .into(),
    }
}

fn vector(offsets: &[(i32, i64)]) -> OffsetVector {
    offsets
        .iter()
        .map(|&(partition, offset)| (PartitionId(partition), Offset(offset)))
        .collect()
}

fn owner(worker: &str, epoch: i64) -> Owner {
    Owner {
        worker: worker.into(),
        epoch,
    }
}

/// A view `v` over topic `t`, published as 3 with these cuts, owned by `a` under epoch 1.
fn facts(cut: &[(i32, i64)], total: i32) -> ViewFacts {
    ViewFacts {
        view: "v".into(),
        source: "s".into(),
        topic: "t".into(),
        publication: Some(3),
        cut: Cut {
            version: Some(9),
            next: vector(cut),
        },
        partitions_total: Some(total),
        owners: (0..total)
            .map(|partition| (PartitionId(partition), owner("a", 1)))
            .collect(),
        ..ViewFacts::default()
    }
}

fn plan(facts: &ViewFacts, replies: &[SnapshotReply]) -> ViewPlan {
    match decide(std::slice::from_ref(facts), replies, Patience::Settle).unwrap() {
        Decision::Read(mut plan) => plan.views.remove(0),
        Decision::Retry(reason) => panic!("settling never retries: {reason}"),
    }
}

fn retry(facts: &ViewFacts, replies: &[SnapshotReply]) -> RetryReason {
    match decide(std::slice::from_ref(facts), replies, Patience::Retry).unwrap() {
        Decision::Retry(reason) => reason,
        Decision::Read(plan) => panic!("{plan:?}"),
    }
}

#[test]
fn pieces_that_meet_the_cut_are_read_and_empty_ones_only_counted() {
    let replies = [reply("a", 5, "v", [(0, ready(1, 10, 25)), (1, ready(1, 7, 7))])];
    let plan = plan(&facts(&[(0, 10), (1, 7)], 2), &replies);
    assert_eq!(
        plan.reads,
        [Read {
            worker: "a".into(),
            snapshot: 5,
            partitions: vec![P0]
        }]
    );
    assert_eq!(
        plan.coverage,
        Coverage {
            publication: Some(3),
            batch_version: Some(9),
            batch_cut: [("t/0".into(), 10), ("t/1".into(), 7)].into(),
            served_through: [("t/0".into(), 25), ("t/1".into(), 7)].into(),
            missing: vec![],
            exact: true,
            ..Coverage::default()
        }
    );
}

#[test]
fn a_view_without_publication_is_exact_from_the_start_of_each_partition() {
    let mut facts = facts(&[], 1);
    facts.publication = None;
    facts.cut = Cut::default();
    facts.starts = vector(&[(0, 100)]);
    let plan = plan(&facts, &[reply("a", 1, "v", [(0, ready(1, 100, 130))])]);
    assert!(plan.coverage.exact);
    assert_eq!(plan.coverage.publication, None);
    assert_eq!(plan.coverage.served_through, [("t/0".to_owned(), 130)].into());

    let late = decide(
        &[facts],
        &[reply("a", 1, "v", [(0, ready(1, 101, 130))])],
        Patience::Retry,
    );
    assert!(
        matches!(
            late,
            Err(Error::Gap {
                cut: Offset(100),
                start: Offset(101),
                ..
            })
        ),
        "{late:?}"
    );
}

#[test]
fn a_gap_an_overlap_and_a_backwards_piece_are_errors() {
    let view = [facts(&[(0, 10)], 1)];
    let offer = |start, end| {
        decide(
            &view,
            &[reply("a", 1, "v", [(0, ready(1, start, end))])],
            Patience::Settle,
        )
    };
    assert!(matches!(offer(11, 25), Err(Error::Gap { .. })));
    assert!(matches!(offer(9, 25), Err(Error::Overlap { .. })));
    assert!(matches!(offer(10, 9), Err(Error::Backwards { .. })));
    assert!(offer(10, 10).is_ok());
}

#[test]
fn only_the_highest_epoch_counts_even_when_a_lower_one_has_more() {
    let mut facts = facts(&[(0, 10)], 1);
    facts.owners = [(P0, owner("b", 2))].into();
    // The former owner's piece would be a gap: it is not even looked at.
    let replies = [
        reply("a", 1, "v", [(0, ready(1, 50, 90))]),
        reply("b", 2, "v", [(0, ready(2, 10, 20))]),
    ];
    let read = plan(&facts, &replies);
    assert_eq!(read.coverage.served_through["t/0"], 20);
    assert_eq!(read.reads[0].worker, "b");

    // The highest owner is silent: nobody may stand in for it.
    facts.silent = BTreeSet::from(["b".to_owned()]);
    let read = plan(&facts, &replies[..1]);
    assert_eq!(read.coverage.missing, ["t/0"]);
    assert_eq!(read.coverage.served_through["t/0"], 10, "the batch part is served");
    assert!(!read.coverage.exact);
    assert_eq!(read.missing["t/0"], Missing::Silent { worker: "b".into() });
}

#[test]
fn an_epoch_that_no_lease_knows_of_yet_wins_too() {
    let replies = [
        reply("a", 1, "v", [(0, ready(1, 10, 20))]),
        reply("b", 2, "v", [(0, ready(2, 10, 15))]),
    ];
    assert_eq!(plan(&facts(&[(0, 10)], 1), &replies).coverage.served_through["t/0"], 15);
}

#[test]
fn what_asking_again_may_cure_is_a_retry_and_in_the_end_missing() {
    let view = facts(&[(0, 10)], 1);
    let old = [reply(
        "a",
        1,
        "v",
        [(
            0,
            Piece::CutTooOld {
                epoch: 1,
                held_from: Offset(20),
            },
        )],
    )];
    let ahead = [reply(
        "a",
        1,
        "v",
        [(
            0,
            Piece::CutAhead {
                epoch: 1,
                through: Offset(5),
            },
        )],
    )];
    let racing = [
        reply("a", 1, "v", [(0, ready(1, 10, 20))]),
        reply("b", 1, "v", [(0, ready(1, 10, 21))]),
    ];
    let gone = [reply("a", 1, "v", [])];
    assert!(matches!(retry(&view, &old), RetryReason::CutTooOld { .. }));
    assert!(matches!(retry(&view, &ahead), RetryReason::CutAhead { .. }));
    assert!(matches!(retry(&view, &racing), RetryReason::TwoOwners { .. }));
    assert!(matches!(retry(&view, &gone), RetryReason::Rebalancing { .. }));
    for replies in [&old[..], &ahead, &racing, &gone] {
        let plan = plan(&view, replies);
        assert!(!plan.coverage.exact);
        assert_eq!(plan.coverage.missing, ["t/0"]);
        assert!(plan.reads.is_empty());
        assert!(matches!(plan.missing["t/0"], Missing::Unsettled(_)));
    }
}

#[test]
fn reloading_the_publication_comes_before_other_retries() {
    let pieces = [
        (
            0,
            Piece::CutAhead {
                epoch: 1,
                through: Offset(5),
            },
        ),
        (
            1,
            Piece::CutTooOld {
                epoch: 1,
                held_from: Offset(20),
            },
        ),
        (
            2,
            Piece::CutAhead {
                epoch: 1,
                through: Offset(5),
            },
        ),
    ];
    let view = facts(&[(0, 10), (1, 10), (2, 10)], 3);
    assert!(matches!(
        retry(&view, &[reply("a", 1, "v", pieces)]),
        RetryReason::CutTooOld { .. }
    ));
}

#[test]
fn rebuilding_unowned_and_unknown_partitions_are_missing_at_once() {
    let mut view = facts(&[(0, 10), (1, 10)], 2);
    view.owners.remove(&PartitionId(1));
    let replies = [reply(
        "a",
        1,
        "v",
        [(
            0,
            Piece::Rebuilding {
                epoch: 1,
                through: Offset(12),
            },
        )],
    )];
    let Decision::Read(read) = decide(&[view], &replies, Patience::Retry).unwrap() else {
        panic!("no retry")
    };
    assert_eq!(
        read.views[0].missing["t/0"],
        Missing::Rebuilding {
            worker: "a".into(),
            through: Offset(12)
        }
    );
    assert_eq!(read.views[0].missing["t/1"], Missing::NoOwner);

    let mut nobody = facts(&[], 0);
    nobody.partitions_total = None;
    let read = plan(&nobody, &[]);
    assert_eq!(
        read.coverage.missing,
        ["t/*"],
        "with no worker alive, who knows what partitions there are"
    );
    assert!(!read.coverage.exact);
}

#[test]
fn a_worker_with_another_definition_makes_the_view_missing() {
    let read = plan(&facts(&[(0, 10)], 1), &[reply("a", 1, "other", [])]);
    assert_eq!(read.missing["t/0"], Missing::OtherDefinition { worker: "a".into() });
}

#[test]
fn views_of_one_source_share_one_prefix() {
    let mut second = facts(&[(0, 4)], 1);
    second.view = "w".into();
    let views = [facts(&[(0, 10)], 1), second];
    let both = |end| {
        let mut reply = reply("a", 1, "v", [(0, ready(1, 10, 20))]);
        reply.views.insert(
            "w".into(),
            ViewPieces {
                partitions: [(P0, ready(1, 4, end))].into(),
                ..ViewPieces::default()
            },
        );
        decide(&views, &[reply], Patience::Retry)
    };
    assert!(matches!(both(20), Ok(Decision::Read(_))));
    assert!(matches!(both(19), Err(Error::TwoPrefixes { .. })));
}

#[test]
fn a_former_owner_does_not_stand_in_for_one_view_where_another_is_offered_by_the_new_one() {
    let mut second = facts(&[(0, 10)], 1);
    second.view = "w".into();
    // No lease names the new owner yet.
    let views = [facts(&[(0, 10)], 1), second];
    let mut former = reply("a", 1, "v", [(0, ready(1, 10, 12))]);
    let held = former.views["v"].clone();
    former.views.insert("w".into(), held);
    let new = reply("b", 2, "w", [(0, ready(2, 10, 18))]);
    let replies = [former, new];

    let asked_again = decide(&views, &replies, Patience::Retry).unwrap();
    let moving = RetryReason::Rebalancing {
        partition: "t/0".into(),
        worker: "b".into(),
    };
    // `b` knows another definition of `v` only, and says nothing of it.
    let Decision::Read(plan) = asked_again else {
        panic!("another definition is nothing that asking again cures");
    };
    assert_eq!(
        plan.views[0].missing["t/0"],
        Missing::OtherDefinition { worker: "b".into() }
    );
    assert_eq!(plan.views[1].coverage.served_through["t/0"], 18);

    // `b` knows `v`, and does not read the partition under it yet.
    let mut replies = replies;
    replies[1].views.insert("v".into(), ViewPieces::default());
    let asked_again = decide(&views, &replies, Patience::Retry).unwrap();
    assert_eq!(asked_again, Decision::Retry(moving.clone()));
    let Ok(Decision::Read(plan)) = decide(&views, &replies, Patience::Settle) else {
        panic!("the last attempt settles");
    };
    assert_eq!(plan.views[0].missing["t/0"], Missing::Unsettled(moving));
    assert_eq!(plan.views[0].coverage.served_through["t/0"], 10);
    assert_eq!(plan.views[1].coverage.served_through["t/0"], 18);
}

fn ranges(of: &[(i64, i64)]) -> RangeSet {
    of.iter()
        .map(|(start, end)| OffsetRange::new(Offset(*start), Offset(*end)))
        .collect()
}

#[test]
fn coverage_lists_what_each_part_really_leaves_out() {
    let mut facts = facts(&[(0, 10), (1, 7)], 2);
    // The run knew of 2..12 only; 2..4 was included again since, 8..9 and 30..50 were excluded since.
    facts.batch_notes.excluded = [(P0, ranges(&[(2, 12)]))].into();
    facts.notes.excluded = [
        (P0, ranges(&[(4, 12), (18, 22), (30, 50)])),
        (PartitionId(1), ranges(&[(5, 6)])),
    ]
    .into();
    facts.notes.gaps = [(P0, ranges(&[(12, 14), (90, 99)]))].into();
    facts.batch_notes.since = vector(&[(1, 3)]);
    facts.notes.since = vector(&[(0, 1), (1, 4)]);
    let mut reply = reply("a", 1, "v", [(0, ready(1, 10, 40)), (1, ready(1, 7, 7))]);
    // The worker has 18..22 still in, but leaves out 30..40 of what came later.
    let pieces = reply.views.get_mut("v").unwrap();
    pieces.excluded = [(P0, ranges(&[(10, 12), (30, 40)]))].into();
    let coverage = plan(&facts, &[reply]).coverage;
    assert!(coverage.exact, "what an operator leaves out is not missing");
    assert_eq!(
        coverage.excluded,
        [("t/0".to_owned(), ranges(&[(2, 12), (30, 40)]))].into()
    );
    assert_eq!(
        coverage.still_included,
        [
            ("t/0".to_owned(), ranges(&[(18, 22)])),
            ("t/1".to_owned(), ranges(&[(5, 6)]))
        ]
        .into()
    );
    assert_eq!(coverage.gaps, [("t/0".to_owned(), ranges(&[(12, 14)]))].into());
    assert_eq!(
        coverage.since,
        [("t/1".to_owned(), 3)].into(),
        "what has expired since is still in the batch view"
    );
}

#[test]
fn of_a_missing_partition_only_the_batch_part_is_described() {
    let mut facts = facts(&[(0, 10)], 1);
    facts.batch_notes.excluded = [(P0, ranges(&[(2, 4)]))].into();
    facts.notes.excluded = [(P0, ranges(&[(2, 4), (6, 20)]))].into();
    let rebuilding = Piece::Rebuilding {
        epoch: 1,
        through: Offset(15),
    };
    let coverage = plan(&facts, &[reply("a", 1, "v", [(0, rebuilding)])]).coverage;
    assert!(!coverage.exact);
    assert_eq!(coverage.excluded, [("t/0".to_owned(), ranges(&[(2, 4)]))].into());
    assert_eq!(coverage.still_included, [("t/0".to_owned(), ranges(&[(6, 10)]))].into());

    // Without a batch view there is no answer for the partition at all.
    facts.publication = None;
    facts.cut = Cut::default();
    let coverage = plan(&facts, &[]).coverage;
    assert!(coverage.excluded.is_empty() && coverage.still_included.is_empty());
}

#[test]
fn a_view_without_a_batch_view_has_what_its_worker_says() {
    let mut facts = facts(&[], 1);
    facts.publication = None;
    facts.cut = Cut::default();
    facts.batch_notes.excluded = [(P0, ranges(&[(2, 4)]))].into();
    let mut reply = reply("a", 1, "v", [(0, ready(1, 0, 30))]);
    reply.views.get_mut("v").unwrap().since = vector(&[(0, 3)]);
    let coverage = plan(&facts, &[reply]).coverage;
    assert!(coverage.excluded.is_empty());
    assert_eq!(coverage.since, [("t/0".to_owned(), 3)].into());
}

#[test]
fn lacking_compares_only_the_topic_of_the_view() {
    let coverage = Coverage {
        served_through: [("t/0".into(), 5)].into(),
        ..Coverage::default()
    };
    let wanted: TopicOffsets = [
        ("t/0".into(), 6),
        ("t/1".into(), 1),
        ("t/2".into(), 0),
        ("other/0".into(), 99),
    ]
    .into();
    assert_eq!(
        lacking(&coverage, "t", &wanted),
        [("t/0".to_owned(), (6, Some(5))), ("t/1".to_owned(), (1, None))].into()
    );
    assert!(lacking(&coverage, "t", &[("t/0".into(), 5)].into()).is_empty());
}

/// How a worker strays from the truth about one partition.
#[derive(Clone, Copy, Debug)]
enum Lie {
    None,
    Gap(i64),
    Overlap(i64),
    Backwards(i64),
    /// Says so itself; no lie, but no piece either.
    Rebuilding,
    Ahead,
    TooOld,
    Absent,
}

#[derive(Clone, Debug)]
struct PartitionCase {
    start: i64,
    /// `None`: the batch run had not seen the partition.
    cut: Option<i64>,
    through: i64,
    /// Whether the partition's start is recorded where serving looks.
    start_known: bool,
    /// Epoch and lie per worker; workers not in here do not hold it.
    holders: Vec<(usize, i64, Lie)>,
    lease: Option<(usize, i64)>,
}

const WORKERS: [&str; 3] = ["a", "b", "c"];

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        6 => Just(Lie::None),
        1 => (1..5i64).prop_map(Lie::Gap),
        1 => (1..5i64).prop_map(Lie::Overlap),
        1 => (1..5i64).prop_map(Lie::Backwards),
        1 => Just(Lie::Rebuilding),
        1 => Just(Lie::Ahead),
        1 => Just(Lie::TooOld),
        1 => Just(Lie::Absent),
    ]
}

fn partition_case() -> impl Strategy<Value = PartitionCase> {
    let holders = prop::collection::btree_map(0..WORKERS.len(), (1..4i64, lie()), 0..=WORKERS.len());
    (
        0..50i64,
        prop::option::of(0..40i64),
        0..40i64,
        any::<bool>(),
        holders,
        prop::option::of((0..WORKERS.len(), 1..4i64)),
    )
        .prop_map(|(start, cut, realtime, start_known, holders, lease)| {
            let cut = cut.map(|cut| start + cut);
            PartitionCase {
                start,
                cut,
                through: cut.unwrap_or(start) + realtime,
                start_known,
                holders: holders
                    .into_iter()
                    .map(|(worker, (epoch, lie))| (worker, epoch, lie))
                    .collect(),
                lease,
            }
        })
}

fn piece_of(case: &PartitionCase, epoch: i64, lie: Lie) -> Option<Piece> {
    let from = case.cut.unwrap_or(case.start);
    Some(match lie {
        Lie::None => ready(epoch, from, case.through),
        Lie::Gap(by) => ready(epoch, from + by, case.through.max(from + by)),
        Lie::Overlap(by) => ready(epoch, from - by, case.through),
        Lie::Backwards(by) => ready(epoch, from, from - by),
        Lie::Rebuilding => Piece::Rebuilding {
            epoch,
            through: Offset(from),
        },
        Lie::Ahead => Piece::CutAhead {
            epoch,
            through: Offset(from),
        },
        Lie::TooOld => Piece::CutTooOld {
            epoch,
            held_from: Offset(from),
        },
        Lie::Absent => return None,
    })
}

/// What a naive reader of the rules expects of one partition.
#[derive(Debug, PartialEq)]
enum Expected {
    /// Realtime events of this range are read from this worker; the batch view holds what is before.
    Through {
        from: i64,
        through: i64,
        worker: usize,
    },
    Missing,
    Refused,
}

fn expected(case: &PartitionCase, answering: &[bool]) -> Expected {
    let offers: Vec<(usize, i64, Lie)> = case
        .holders
        .iter()
        .copied()
        .filter(|&(worker, _, lie)| answering[worker] && !matches!(lie, Lie::Absent))
        .collect();
    let lease = case.lease.map(|(_, epoch)| epoch);
    let Some(highest) = offers.iter().map(|offer| offer.1).max() else {
        return Expected::Missing;
    };
    if lease.is_some_and(|lease| lease > highest) {
        return Expected::Missing;
    }
    let top: Vec<_> = offers.iter().filter(|offer| offer.1 == highest).collect();
    if top.len() > 1 {
        return Expected::Missing;
    }
    let anchored = case.cut.is_some() || case.start_known;
    let (start, through) = (case.cut.unwrap_or(case.start), case.through);
    match *top[0] {
        (worker, _, Lie::None) => Expected::Through {
            from: start,
            through,
            worker,
        },
        // Nothing contradicts a start that nobody has recorded.
        (worker, _, Lie::Gap(by)) if !anchored => Expected::Through {
            from: start + by,
            through: through.max(start + by),
            worker,
        },
        (worker, _, Lie::Overlap(by)) if !anchored => Expected::Through {
            from: start - by,
            through,
            worker,
        },
        (_, _, Lie::Gap(_) | Lie::Overlap(_) | Lie::Backwards(_)) => Expected::Refused,
        _ => Expected::Missing,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// For random logs, cuts, splits between workers and lies: each partition is read through exactly what its one true
    /// owner holds, or is missing, or the whole answer is refused.
    #[test]
    fn the_decision_is_right_or_refused(
        cases in prop::collection::vec(partition_case(), 1..5),
        answering in prop::collection::vec(prop::bool::weighted(0.85), WORKERS.len()),
    ) {
        let mut view = facts(&[], cases.len() as i32);
        view.owners.clear();
        let mut pieces: Vec<BTreeMap<PartitionId, Piece>> = vec![BTreeMap::new(); WORKERS.len()];
        for (partition, case) in cases.iter().enumerate() {
            let partition = PartitionId(partition as i32);
            if let Some(cut) = case.cut {
                view.cut.next.set(partition, Offset(cut));
            }
            if case.start_known {
                view.starts.set(partition, Offset(case.start));
            }
            if let Some((worker, epoch)) = case.lease {
                view.owners.insert(partition, owner(WORKERS[worker], epoch));
            }
            for &(worker, epoch, lie) in &case.holders {
                if let Some(piece) = piece_of(case, epoch, lie) {
                    pieces[worker].insert(partition, piece);
                }
            }
        }
        let mut replies = Vec::new();
        for (worker, pieces) in pieces.into_iter().enumerate() {
            if answering[worker] {
                let pieces = pieces.into_iter().map(|(partition, piece)| (partition.0, piece));
                replies.push(reply(WORKERS[worker], worker as u64, "v", pieces));
            } else {
                view.silent.insert(WORKERS[worker].into());
            }
        }
        let expected: Vec<Expected> = cases.iter().map(|case| expected(case, &answering)).collect();
        let decided = decide(std::slice::from_ref(&view), &replies, Patience::Settle);
        if expected.contains(&Expected::Refused) {
            prop_assert!(decided.is_err(), "{decided:?}");
            return Ok(());
        }
        let Decision::Read(plan) = decided.unwrap() else { panic!("settling never retries") };
        let plan = &plan.views[0];
        let read_from = |partition: PartitionId| -> Vec<&str> {
            plan.reads.iter().filter(|read| read.partitions.contains(&partition)).map(|read| read.worker.as_str()).collect()
        };
        for (index, (case, expected)) in cases.iter().zip(&expected).enumerate() {
            let name = format!("t/{index}");
            let from = read_from(PartitionId(index as i32));
            let served = plan.coverage.served_through.get(&name).copied();
            match expected {
                Expected::Through { from: start, through, worker } => {
                    prop_assert_eq!(served, Some(*through));
                    prop_assert!(!plan.coverage.missing.contains(&name));
                    // Read once, unless there is nothing to read.
                    let wanted: &[&str] = if start < through { &[WORKERS[*worker]] } else { &[] };
                    prop_assert_eq!(from, wanted);
                }
                Expected::Missing => {
                    prop_assert_eq!(served, case.cut, "only the batch part is served");
                    prop_assert!(plan.coverage.missing.contains(&name));
                    prop_assert!(from.is_empty());
                }
                Expected::Refused => unreachable!(),
            }
        }
        prop_assert_eq!(plan.coverage.exact, plan.coverage.missing.is_empty());

        // With patience, the same facts never give a different plan: either it, or another try.
        if let Decision::Read(patient) = decide(std::slice::from_ref(&view), &replies, Patience::Retry).unwrap() {
            prop_assert_eq!(&patient.views[0], plan);
        }
    }

    /// One snapshot, several views with different cuts: all are served through the same offsets.
    #[test]
    fn views_of_a_source_are_served_through_the_same_offsets(
        partitions in prop::collection::vec((0..50i64, 0..50i64), 1..4),
        shares in prop::collection::vec(prop::collection::vec(0.0..1.0f64, 4), 1..4),
    ) {
        let name = |view: usize| format!("v{view}");
        let mut views = Vec::new();
        let mut reply = SnapshotReply { id: 1, worker: "a".into(), views: BTreeMap::new() };
        for (index, shares) in shares.iter().enumerate() {
            let mut view = facts(&[], partitions.len() as i32);
            view.view = name(index);
            let mut pieces = ViewPieces::default();
            for (partition, (start, len)) in partitions.iter().enumerate() {
                let cut = start + (*len as f64 * shares[partition]) as i64;
                view.cut.next.set(PartitionId(partition as i32), Offset(cut));
                pieces.partitions.insert(PartitionId(partition as i32), ready(1, cut, start + len));
            }
            reply.views.insert(name(index), pieces);
            views.push(view);
        }
        let Decision::Read(plan) = decide(&views, &[reply], Patience::Retry).unwrap() else { panic!("nothing to retry") };
        let through: TopicOffsets =
            partitions.iter().enumerate().map(|(partition, (start, len))| (format!("t/{partition}"), start + len)).collect();
        for (view, plan) in views.iter().zip(&plan.views) {
            prop_assert_eq!(&plan.view, &view.view);
            prop_assert!(plan.coverage.exact);
            prop_assert_eq!(&plan.coverage.served_through, &through);
        }
    }
}
