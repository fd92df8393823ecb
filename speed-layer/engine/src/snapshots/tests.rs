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
    assert!(matches!(after.read(&ticket), Err(Error::UnknownSnapshot(id)) if id == frozen.id));
    assert!(matches!(before.read(&ticket), Err(Error::UnknownView(_))));
}
