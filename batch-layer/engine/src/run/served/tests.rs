use anabranch_model::realtime::ViewPieces;

use super::*;
use crate::testing::{offsets, range};

fn ready(epoch: i64, start: i64, end: i64) -> Piece {
    Piece::Ready {
        epoch,
        range: range(start, end),
    }
}

fn reply(worker: &str, pieces: &[(i32, Piece)]) -> SnapshotReply {
    let pieces = ViewPieces {
        partitions: pieces
            .iter()
            .map(|(partition, piece)| (PartitionId(*partition), piece.clone()))
            .collect(),
        ..ViewPieces::default()
    };
    SnapshotReply {
        id: 7,
        worker: worker.to_owned(),
        views: [("v".to_owned(), pieces)].into(),
    }
}

fn owner(worker: &str, epoch: i64) -> Owner {
    Owner {
        worker: worker.to_owned(),
        epoch,
    }
}

#[test]
fn realtime_state_is_wanted_from_the_cut_to_the_version() {
    let wanted = wanted(
        &offsets(&[(0, 10), (1, 40)]),
        &offsets(&[(0, 0), (2, 5)]),
        &offsets(&[(0, 30), (1, 40), (2, 8), (3, 2)]),
    );
    let expected = [(PartitionId(0), range(10, 30)), (PartitionId(2), range(5, 8))];
    assert_eq!(wanted, expected.into(), "nothing came to 1, and 3 has no start");
}

#[test]
fn each_partition_is_read_from_its_owner() {
    let wanted = BTreeMap::from([
        (PartitionId(0), range(0, 9)),
        (PartitionId(1), range(4, 6)),
        (PartitionId(2), range(0, 3)),
    ]);
    let owners = BTreeMap::from([
        (PartitionId(0), owner("a", 1)),
        (PartitionId(1), owner("b", 2)),
        (PartitionId(2), owner("a", 1)),
    ]);
    let replies = [
        reply("a", &[(0, ready(1, 0, 9)), (1, ready(1, 4, 6)), (2, ready(1, 0, 3))]),
        reply("b", &[(1, ready(2, 4, 6))]),
    ];
    let read = |worker: &str, partitions: &[i32]| Read {
        worker: worker.to_owned(),
        snapshot: 7,
        partitions: partitions.iter().map(|partition| PartitionId(*partition)).collect(),
    };
    assert_eq!(
        choose(&wanted, &owners, &replies, "v", &Notes::default()),
        Chosen {
            reads: vec![read("a", &[0, 2]), read("b", &[1])],
            missing: BTreeMap::new(),
        },
        "a was displaced in partition 1"
    );
}

/// A run that begins right after an exclusion leaves out what workers still count: that is no difference between the layers.
#[test]
fn state_under_other_exclusions_is_not_compared() {
    let wanted = BTreeMap::from([(PartitionId(0), range(2, 9))]);
    let owners = BTreeMap::from([(PartitionId(0), owner("a", 1))]);
    let excluded = |ranges: &[(i64, i64)]| {
        let exclusion = |(start, end): &(i64, i64)| anabranch_dataset::Exclusion {
            id: 1,
            partition: PartitionId(0),
            range: range(*start, *end),
            reason: String::new(),
            by: String::new(),
            at: String::new(),
        };
        Notes {
            exclusions: ranges.iter().map(exclusion).collect(),
            ..Notes::default()
        }
    };
    let missing = |left_out: &[(i64, i64)], notes: &Notes| {
        let mut reply = reply("a", &[(0, ready(1, 2, 9))]);
        let left_out = left_out.iter().map(|(start, end)| range(*start, *end)).collect();
        let pieces = reply.views.get_mut("v").unwrap();
        pieces.excluded = [(PartitionId(0), left_out)].into();
        let chosen = choose(&wanted, &owners, &[reply], "v", notes);
        assert_eq!(chosen.reads.is_empty(), !chosen.missing.is_empty());
        !chosen.missing.is_empty()
    };
    // What lies outside of the range does not matter.
    assert!(!missing(&[(4, 6)], &excluded(&[(4, 6), (0, 2), (9, 12)])));
    assert!(!missing(&[(7, 9)], &excluded(&[(7, 20)])));
    assert!(missing(&[], &excluded(&[(4, 6)])), "it has yet to hear of it");
    assert!(missing(&[(4, 6)], &Notes::default()), "or that it was undone");
}

/// Events that expire while a run goes on are in what it read, and not in state that was rebuilt since; and the other way round.
#[test]
fn state_without_other_expired_events_is_not_compared() {
    let partition = PartitionId(0);
    let wanted = BTreeMap::from([(partition, range(2, 9))]);
    let owners = BTreeMap::from([(partition, owner("a", 1))]);
    let why = |of_worker: Option<i64>, of_run: Option<i64>| {
        let mut reply = reply("a", &[(0, ready(1, 2, 9))]);
        let mut notes = Notes::default();
        if let Some(since) = of_worker {
            let pieces = reply.views.get_mut("v").unwrap();
            pieces.since.set(partition, Offset(since));
        }
        if let Some(since) = of_run {
            notes.since.set(partition, Offset(since));
        }
        let chosen = choose(&wanted, &owners, &[reply], "v", &notes);
        assert_eq!(chosen.reads.is_empty(), !chosen.missing.is_empty());
        chosen.missing.get(&partition).cloned()
    };
    assert_eq!(why(None, None), None);
    assert_eq!(why(Some(5), Some(5)), None);
    assert_eq!(why(None, Some(2)), None, "what expired lies before the range");
    for (of_worker, of_run) in [(Some(5), None), (None, Some(5)), (Some(5), Some(4))] {
        let why = why(of_worker, of_run).expect("it is not compared");
        assert!(why.contains("expired"), "{why}");
    }
}

#[test]
fn what_is_not_held_exactly_is_missing_with_its_reason() {
    let wanted = BTreeMap::from([(PartitionId(0), range(2, 9))]);
    let why = |piece: Option<Piece>, owned_by: Option<Owner>| {
        let owners = owned_by.map(|owner| (PartitionId(0), owner)).into_iter().collect();
        let replies: Vec<_> = piece.map(|piece| reply("a", &[(0, piece)])).into_iter().collect();
        let chosen = choose(&wanted, &owners, &replies, "v", &Notes::default());
        assert_eq!(chosen.reads, []);
        chosen.missing[&PartitionId(0)].clone()
    };
    let a = || Some(owner("a", 3));
    assert_eq!(why(None, None), "no speed worker owns it");
    assert!(why(None, a()).starts_with("its owner a does not answer"));
    assert_eq!(
        why(Some(ready(2, 2, 9)), a()),
        "its owner a does not answer",
        "an older epoch says nothing"
    );
    assert!(why(Some(ready(3, 2, 8)), a()).contains("instead of"));
    let rebuilding = Piece::Rebuilding {
        epoch: 3,
        through: Offset(5),
    };
    assert_eq!(why(Some(rebuilding), a()), "it is being rebuilt, and is at 5");
    let too_old = Piece::CutTooOld {
        epoch: 3,
        held_from: Offset(4),
    };
    assert_eq!(why(Some(too_old), a()), "it is held from 4 on only");
    let ahead = Piece::CutAhead {
        epoch: 3,
        through: Offset(6),
    };
    assert_eq!(why(Some(ahead), a()), "its owner has consumed it up to 6 only");
    assert!(why(Some(Piece::NoBoundary { epoch: 3 }), a()).contains("merged across"));
}
