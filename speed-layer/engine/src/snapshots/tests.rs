use super::*;

fn started() -> Snapshots {
    Snapshots::new(Arc::default(), "worker".to_owned(), &Environment::default())
}

#[test]
fn a_worker_started_again_does_not_answer_for_its_predecessor() {
    let now = Instant::now();
    let (before, after) = (started(), started());
    let request = SnapshotRequest { views: Vec::new() };
    let frozen = before.freeze(&request, now);
    // As many as a reader could make in the time that a snapshot is kept.
    for _ in 0..MAX_SNAPSHOTS {
        after.freeze(&request, now);
    }
    let ticket = StateTicket {
        snapshot: frozen.id,
        view: "v".to_owned(),
        partitions: Vec::new(),
        filter: None,
    };
    assert!(matches!(after.open(&ticket), Err(Error::UnknownSnapshot(id)) if id == frozen.id));
    assert!(matches!(before.open(&ticket), Err(Error::UnknownView(_))));
}

#[test]
fn snapshots_that_have_expired_are_let_go_of_by_the_next_one_that_is_kept() {
    let (snapshots, began) = (started(), Instant::now());
    let request = SnapshotRequest { views: Vec::new() };
    let ttl = Duration::from_secs(SNAPSHOT_TTL_SECONDS);
    for second in 0..10 {
        snapshots.freeze(&request, began + Duration::from_secs(second));
    }
    let newest = snapshots.freeze(&request, began + ttl + Duration::from_secs(4));
    let kept: Vec<u64> = snapshots.kept.lock().keys().copied().collect();
    assert_eq!(
        kept,
        (newest.id - 5..=newest.id).collect::<Vec<_>>(),
        "those of the first five seconds are gone"
    );
    snapshots.expire(began + ttl + ttl + Duration::from_secs(4));
    assert!(snapshots.kept.lock().is_empty());
}
