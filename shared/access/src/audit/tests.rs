use std::collections::BTreeMap;

use super::*;

fn record(action: &str, day: &str) -> AuditRecord {
    AuditRecord {
        at: format!("{day}T12:00:00Z").parse().unwrap(),
        who: "ann".to_owned(),
        role: "admin".to_owned(),
        from: "192.0.2.1:4711".to_owned(),
        service: "serve-1".to_owned(),
        action: action.to_owned(),
        outcome: "ok 202".to_owned(),
    }
}

#[tokio::test]
async fn records_are_kept_in_the_store_and_in_a_file() {
    let store = Store::open("memory://", &BTreeMap::new()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.ndjson");
    let audit = Audit::new(Some(&store), Some(file.clone()));
    let written = [
        record("POST /v1/views/apply", "2026-01-01"),
        record("POST /v1/batch/runs", "2026-01-02"),
        record("POST /v1/batch/rollback", "2026-01-02"),
    ];
    for record in &written {
        audit.record(record).await;
    }
    let day = |text: &str| text.parse::<NaiveDate>().unwrap();
    assert_eq!(audit_records(&store, day("2026-01-01"), 10).await.unwrap(), written);
    assert_eq!(
        audit_records(&store, day("2026-01-02"), 10).await.unwrap(),
        written[1..]
    );
    assert_eq!(audit_records(&store, day("2026-01-01"), 1).await.unwrap(), written[2..]);
    let lines = std::fs::read_to_string(file).unwrap();
    let read: Vec<AuditRecord> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, written);
}
