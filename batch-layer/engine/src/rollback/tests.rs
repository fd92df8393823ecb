use anabranch_model::Offset;

use super::*;

fn offsets(next: &[(i32, i64)]) -> OffsetVector {
    next.iter()
        .map(|(partition, next)| (PartitionId(*partition), Offset(*next)))
        .collect()
}

#[test]
fn a_target_is_a_publication_or_a_run() {
    assert_eq!(Target::parse("12"), Target::Publication(12));
    assert_eq!(
        Target::parse("20260601T120000Z-abc"),
        Target::Run("20260601T120000Z-abc".to_owned())
    );
}

#[test]
fn what_expired_behind_the_cut_cannot_be_answered_any_more() {
    let cut = Cut {
        version: Some(4),
        next: offsets(&[(0, 100), (1, 50)]),
    };
    assert_eq!(expired_behind(Some(&cut), &offsets(&[])), None);
    assert_eq!(
        expired_behind(Some(&cut), &offsets(&[(0, 100), (1, 20)])),
        None,
        "all of it is before the cut"
    );
    assert_eq!(expired_behind(Some(&cut), &offsets(&[(1, 51)])), Some(PartitionId(1)));
    assert_eq!(
        expired_behind(Some(&cut), &offsets(&[(2, 1)])),
        Some(PartitionId(2)),
        "the cut has nothing of it"
    );
    assert_eq!(expired_behind(None, &offsets(&[(0, 1)])), Some(PartitionId(0)));
}
