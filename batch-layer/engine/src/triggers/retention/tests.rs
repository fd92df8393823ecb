use std::collections::BTreeMap;

use anabranch_model::{Offset, PartitionId};
use serde_json::json;

use super::*;

#[test]
fn a_publication_counts_what_it_did_not_leave_out() {
    let notes = |since: &[(i32, i64)]| Notes {
        since: since
            .iter()
            .map(|(p, offset)| (PartitionId(*p), Offset(*offset)))
            .collect(),
        ..Notes::default()
    };
    let publication = |applied: Option<Notes>| {
        let cut = json!({"clicks": {"version": 3, "next": {"0": 10}}});
        Publication {
            number: 1,
            based_on: 0,
            published_at: String::new(),
            manifest: anabranch_dataset::Manifest {
                run_id: "r".into(),
                started_at: String::new(),
                finished_at: String::new(),
                cuts: serde_json::from_value(cut).unwrap(),
                views: BTreeMap::new(),
                notes: applied.into_iter().map(|notes| ("clicks".to_owned(), notes)).collect(),
                mode: Default::default(),
                base: None,
                chain: 0,
            },
        }
    };
    let counted =
        |applied: Option<Notes>, now: &[(i32, i64)]| still_counted(&publication(applied), "clicks", &notes(now));
    assert!(counted(None, &[(0, 4)]));
    assert!(counted(Some(notes(&[(0, 3)])), &[(0, 4)]));
    assert!(!counted(Some(notes(&[(0, 4)])), &[(0, 4)]));
    assert!(!counted(None, &[]));
    assert!(!counted(None, &[(1, 4)]), "the cut has nothing of it");
    assert!(!still_counted(&publication(None), "orders", &notes(&[(0, 4)])));
}
