use anabranch_model::ErrorKind;

use super::*;
use crate::testing::{local, memory};

fn record(run_id: &str) -> RunRecord {
    RunRecord {
        run_id: run_id.into(),
        state: RunState::Running,
        trigger: "http".into(),
        created_at: "2026-01-01T00:00:00Z".into(),
        progress: RunProgress {
            rows_done: 1,
            rows_total: 2,
            bytes_done: 3,
            bytes_total: 4,
        },
        timings_ms: BTreeMap::from([("fold".into(), 12)]),
        ..RunRecord::default()
    }
}

#[tokio::test]
async fn a_record_is_replaced_as_the_run_goes_on() {
    let runs = Runs::new(&memory());
    assert_eq!(runs.get("1").await.unwrap(), None);
    runs.put(&record("1")).await.unwrap();
    let done = RunRecord {
        state: RunState::Published,
        publication: Some(3),
        ..record("1")
    };
    runs.put(&done).await.unwrap();
    assert_eq!(runs.get("1").await.unwrap(), Some(done));
    assert!(RunState::Published.is_final() && RunState::Failed.is_final() && !RunState::Queued.is_final());
}

#[tokio::test]
async fn the_latest_are_listed_first() {
    let (store, _folder) = local();
    let runs = Runs::new(&store);
    assert!(runs.list(5).await.unwrap().is_empty());
    for id in ["1", "3", "2"] {
        runs.put(&record(id)).await.unwrap();
    }
    // Files of a run whose record was never written, and files beside a record.
    store
        .put(&Runs::folder("9").join("view").join("part-00000.parquet"), "x".into())
        .await
        .unwrap();
    store
        .put(&Runs::folder("3").join("view").join("part-00000.parquet"), "x".into())
        .await
        .unwrap();
    let ids = |runs: Vec<RunRecord>| runs.into_iter().map(|run| run.run_id).collect::<Vec<_>>();
    assert_eq!(ids(runs.list(2).await.unwrap()), ["3", "2"]);
    assert_eq!(ids(runs.list(9).await.unwrap()), ["3", "2", "1"]);
}

#[tokio::test]
async fn fields_may_come_and_go_between_releases() {
    let store = memory();
    let json = r#"{"run_id": "1", "state": "failed", "error": "x", "colour": "blue"}"#;
    store.put(&record_path("1"), json.into()).await.unwrap();
    let run = Runs::new(&store).get("1").await.unwrap().unwrap();
    assert_eq!((run.state, run.error.as_deref()), (RunState::Failed, Some("x")));
    store.put(&record_path("2"), "{".into()).await.unwrap();
    assert_eq!(Runs::new(&store).get("2").await.unwrap_err().kind(), ErrorKind::Data);
}
