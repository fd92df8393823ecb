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

#[tokio::test]
async fn what_is_older_than_it_is_kept_goes_by_whole_days() {
    let store = Store::open("memory://", &BTreeMap::new()).unwrap();
    let audit = Audit::new(Some(&store), None);
    let days = ["2026-01-01", "2026-01-02", "2026-01-03"];
    for day in days {
        audit.record(&record("POST /v1/batch/runs", day)).await;
        audit.record(&record("POST /v1/batch/verify", day)).await;
    }
    let since: NaiveDate = days[0].parse().unwrap();
    let left = async || {
        let records = audit_records(&store, since, 100).await.unwrap();
        records
            .iter()
            .map(|record| record.at.date_naive().to_string())
            .collect::<Vec<_>>()
    };
    let now: DateTime<Utc> = "2026-01-05T00:00:00Z".parse().unwrap();
    let keep = Duration::from_secs(2 * 86_400);
    assert_eq!(forget_audit(&store, now, keep, true).await.unwrap(), 4);
    assert_eq!(left().await.len(), 6, "that was only asked");
    // The second ended 47 hours and 59 minutes before: not longer ago than it is kept.
    let earlier = now - TimeDelta::minutes(1);
    assert_eq!(forget_audit(&store, earlier, keep, false).await.unwrap(), 2);
    assert_eq!(left().await, ["2026-01-02", "2026-01-02", "2026-01-03", "2026-01-03"]);
    assert_eq!(forget_audit(&store, now, keep, false).await.unwrap(), 2);
    assert_eq!(left().await, ["2026-01-03", "2026-01-03"]);
    assert_eq!(forget_audit(&store, now, Duration::MAX, false).await.unwrap(), 0);
}
