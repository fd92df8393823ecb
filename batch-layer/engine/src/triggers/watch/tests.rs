use anabranch_dataset::{Exclusion, Manifest};
use anabranch_model::{Cut, PartitionId};

use super::*;

fn notes(excluded: &[(i32, i64, i64)]) -> Notes {
    let exclusion = |(id, (partition, start, end)): (usize, &(i32, i64, i64))| Exclusion {
        id: id as u64,
        partition: PartitionId(*partition),
        range: OffsetRange::new(Offset(*start), Offset(*end)),
        reason: String::new(),
        by: String::new(),
        at: String::new(),
    };
    Notes {
        exclusions: excluded.iter().enumerate().map(exclusion).collect(),
        ..Notes::default()
    }
}

/// A publication of partition 0 up to 100 and partition 1 up to 50, that applied `applied`.
fn publication(applied: Option<Notes>) -> Publication {
    let next = [(PartitionId(0), Offset(100)), (PartitionId(1), Offset(50))];
    let cut = Cut {
        version: Some(7),
        next: next.into_iter().collect(),
    };
    Publication {
        number: 1,
        based_on: 0,
        published_at: String::new(),
        manifest: Manifest {
            run_id: "r".to_owned(),
            started_at: String::new(),
            finished_at: String::new(),
            cuts: [("clicks".to_owned(), cut)].into(),
            views: BTreeMap::new(),
            notes: applied.map(|notes| ("clicks".to_owned(), notes)).into_iter().collect(),
            mode: Default::default(),
            base: None,
            chain: 0,
        },
    }
}

#[test]
fn only_what_lies_before_the_cut_asks_for_a_run() {
    let changed = |applied: &[(i32, i64, i64)], now: &[(i32, i64, i64)]| {
        changed_exclusions(&publication(Some(notes(applied))), "clicks", &notes(now))
    };
    assert!(changed(&[], &[]).is_empty());
    assert!(
        changed(&[], &[(0, 100, 200), (1, 50, 60), (7, 0, 10)]).is_empty(),
        "behind the cut"
    );
    assert_eq!(changed(&[], &[(1, 49, 60)]), ["clicks/1: excluded [49, 50); included "]);
    assert_eq!(
        changed(&[(0, 3, 9)], &[(0, 5, 12)]),
        ["clicks/0: excluded [9, 12); included [3, 5)"]
    );
    assert!(
        changed(&[(0, 3, 9)], &[(0, 3, 5), (0, 5, 9)]).is_empty(),
        "the same, in other words"
    );
    let unnoted = changed_exclusions(&publication(None), "clicks", &notes(&[(0, 1, 2)]));
    assert_eq!(unnoted.len(), 1);
    let other = changed_exclusions(&publication(None), "views", &notes(&[(0, 1, 2)]));
    assert!(other.is_empty(), "the publication holds nothing of that source");
}
