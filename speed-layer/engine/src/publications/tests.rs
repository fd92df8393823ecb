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
    assert_eq!(agreement.settled(None, &[], at(0)), None);
    assert_eq!(
        agreement.settled(Some(7), &[7, 6], at(0)),
        None,
        "one reader still uses 6"
    );
    assert_eq!(
        agreement.settled(Some(7), &[7, 7], at(10)),
        Some(6),
        "it has only just let go of 6"
    );
    assert_eq!(agreement.settled(Some(7), &[7, 7], at(14)), Some(6));
    assert_eq!(agreement.settled(Some(7), &[7, 7], at(15)), Some(7));
    assert_eq!(
        agreement.settled(Some(8), &[8], at(16)),
        Some(7),
        "each publication has its own grace"
    );
    assert_eq!(agreement.settled(Some(8), &[], at(21)), Some(8), "nobody reads");
    assert_eq!(
        agreement.settled(Some(8), &[7], at(22)),
        None,
        "a reader that started with an old list"
    );
    assert_eq!(
        agreement.settled(Some(8), &[0], at(99)),
        None,
        "a reader that uses nothing yet"
    );
}

/// Publications may come faster than the grace, and readers be one behind all the time.
#[test]
fn state_is_dropped_though_publications_never_stop() {
    let (mut agreement, start) = (Agreement::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    for second in 1..100 {
        let settled = agreement.settled(Some(second), &[second, second - 1], at(second));
        assert_eq!(
            settled,
            (second > GRACE.as_secs() + 1).then(|| second - 1 - GRACE.as_secs())
        );
    }
    assert!(
        agreement.reached.len() as u64 <= GRACE.as_secs() + 1,
        "what is settled is forgotten"
    );
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
