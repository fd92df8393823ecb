use serde_json::json;

use super::*;

fn lease(facts: serde_json::Value) -> Lease {
    Lease {
        kind: "x".into(),
        id: "1".into(),
        address: "http://x".into(),
        facts,
        ttl: Duration::from_secs(10),
    }
}

#[test]
fn state_is_dropped_when_every_reader_has_moved_on_and_some_time_after() {
    let (mut agreement, start) = (Agreement::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(!agreement.may_drop(Some(7), &[7, 6], at(0)), "one reader still uses 6");
    assert!(!agreement.may_drop(Some(7), &[7, 7], at(10)), "it has only just let go");
    assert!(!agreement.may_drop(Some(7), &[7, 7], at(14)));
    assert!(agreement.may_drop(Some(7), &[7, 7], at(15)));
    assert!(
        !agreement.may_drop(Some(8), &[8], at(16)),
        "each publication has its own grace"
    );
    assert!(agreement.may_drop(Some(8), &[], at(21)), "nobody reads");
    assert!(
        !agreement.may_drop(Some(8), &[7], at(22)),
        "a reader that started with an old list"
    );
    assert!(!agreement.may_drop(None, &[], at(99)));
}

#[test]
fn a_reader_without_a_publication_pins_everything() {
    assert_eq!(
        pins(&[lease(json!({"publication": 4})), lease(json!({"publication": null}))]),
        [4, 0]
    );
}

#[test]
fn cuts_of_running_batch_runs_are_read_from_leases() {
    let facts = json!({"running": [{"run_id": "r", "cuts": {"clicks": {"version": 3, "next": {"0": 70, "1": 80}}}}]});
    let cuts = running_cuts(&[
        lease(facts),
        lease(json!({})),
        lease(json!({"running": [{"run_id": "broken"}]})),
    ]);
    assert_eq!(cuts.len(), 1);
    let refs: Vec<&CutMap> = cuts.iter().collect();
    assert_eq!(cuts_of(&refs, "clicks", PartitionId(1)), [Offset(80)].into());
    assert_eq!(cuts_of(&refs, "clicks", PartitionId(2)), BTreeSet::new());
}
