use serde_json::json;

use super::*;
use crate::testing::publication;

#[test]
fn leases_name_running_and_queued_runs() {
    let facts = json!({"running": [{"run_id": "a", "cuts": {}}], "queued": ["b", 3]});
    assert_eq!(run_ids(&facts), ["a", "b"]);
    assert_eq!(run_ids(&json!({"something": "else"})), [""; 0]);
}

#[test]
fn an_interrupted_run_is_what_the_publication_log_says() {
    let record = RunRecord {
        run_id: "r".into(),
        state: RunState::Running,
        ..RunRecord::default()
    };
    let failed = settle(record.clone(), None, "2026-01-01T00:00:00Z");
    assert_eq!(
        (failed.state, failed.finished_at.as_deref()),
        (RunState::Failed, Some("2026-01-01T00:00:00Z"))
    );
    assert_eq!(failed.error.as_deref(), Some(INTERRUPTED));
    let published = settle(record, Some(&publication("r", "")), "2026-01-01T00:00:00Z");
    assert_eq!(
        (published.state, published.publication, published.error),
        (RunState::Published, Some(7), None)
    );
}
