use anabranch_model::{Cut, ErrorKind, OffsetVector, PartitionId};

use super::*;
use crate::testing::{Fault, Faulty, local, memory};

fn manifest(run_id: &str, next: &[(i32, i64)]) -> Manifest {
    let next: OffsetVector = next.iter().map(|(p, o)| (PartitionId(*p), Offset(*o))).collect();
    let view = BatchView {
        hash: "h".into(),
        source: "clicks".into(),
        files: vec![],
        groups: 0,
        rows: 0,
    };
    Manifest {
        run_id: run_id.into(),
        started_at: "2026-01-01T00:00:00Z".into(),
        finished_at: "2026-01-01T00:00:01Z".into(),
        cuts: CutMap::from([("clicks".into(), Cut { version: Some(7), next })]),
        views: BTreeMap::from([("v".into(), view)]),
        notes: Default::default(),
        mode: Default::default(),
        base: None,
        chain: 0,
    }
}

#[tokio::test]
async fn numbers_follow_each_other() {
    let (store, _folder) = local();
    let log = Publications::new(&store);
    assert_eq!(log.latest().await.unwrap(), None);
    for number in 0..12 {
        let published = log.publish(number, manifest("r", &[(0, number as i64)])).await.unwrap();
        assert_eq!((published.number, published.based_on), (number + 1, number));
        assert_eq!(log.latest().await.unwrap(), Some(published));
    }
    let elsewhere = Publications::new(&store);
    assert_eq!(elsewhere.latest().await.unwrap(), log.get(12).await.unwrap());
    assert_eq!(elsewhere.list().await.unwrap(), (1..=12).collect::<Vec<_>>());
    assert_eq!(elsewhere.get(13).await.unwrap(), None);
    // One that has looked before sees what was published since.
    log.publish(12, manifest("r", &[(0, 12)])).await.unwrap();
    log.publish(13, manifest("r", &[(0, 13)])).await.unwrap();
    assert_eq!(elsewhere.latest().await.unwrap().unwrap().number, 14);
}

#[tokio::test]
async fn a_slow_run_cannot_bury_a_newer_one() {
    let store = memory();
    let (fast, slow) = (Publications::new(&store), Publications::new(&store));
    fast.publish(0, manifest("a", &[(0, 5)])).await.unwrap();
    assert_eq!(slow.latest().await.unwrap().unwrap().number, 1);
    fast.publish(1, manifest("b", &[(0, 9)])).await.unwrap();
    for based_on in [0, 1, 3] {
        let error = slow.publish(based_on, manifest("c", &[(0, 20)])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    assert_eq!(slow.latest().await.unwrap().unwrap().manifest.run_id, "b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_runs_one_publishes() {
    let (store, _folder) = local();
    let runs = (0..8).map(|run| {
        let log = Publications::new(&store);
        tokio::spawn(async move { log.publish(0, manifest(&format!("{run}"), &[(0, 1)])).await })
    });
    let results: Vec<_> = futures::future::join_all(runs)
        .await
        .into_iter()
        .map(|run| run.unwrap())
        .collect();
    let winners: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1);
    assert!(
        results
            .iter()
            .filter_map(|r| r.as_ref().err())
            .all(|e| e.kind() == ErrorKind::Conflict)
    );
    assert_eq!(
        Publications::new(&store).latest().await.unwrap().as_ref(),
        Some(winners[0])
    );
}

#[tokio::test]
async fn only_a_rollback_lowers_a_cut() {
    let log = Publications::new(&memory());
    log.publish(0, manifest("a", &[(0, 5), (1, 5)])).await.unwrap();
    log.publish(1, manifest("b", &[(0, 9), (1, 5)])).await.unwrap();
    for lower in [&[(0, 8), (1, 9)][..], &[(0, 9)][..]] {
        let error = log.publish(2, manifest("c", lower)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let mut without_cut = manifest("c", &[]);
    without_cut.cuts.clear();
    assert_eq!(
        log.publish(2, without_cut.clone()).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert_eq!(log.roll_back(2, 7).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(log.roll_back(1, 1).await.unwrap_err().kind(), ErrorKind::Conflict);
    let back = log.roll_back(2, 1).await.unwrap();
    assert_eq!((back.number, back.manifest), (3, manifest("a", &[(0, 5), (1, 5)])));
    // A table that was taken out of views.sql leaves with its views.
    without_cut.views.clear();
    log.publish(3, without_cut).await.unwrap();
}

#[tokio::test]
async fn an_unclear_publication_is_published_once() {
    for fault in [Fault::Lost, Fault::DoneButUnclear, Fault::Repeated, Fault::Late] {
        let (faulty, store) = Faulty::store();
        let log = Publications::new(&store);
        faulty.next_put("publications/", fault);
        let published = log.publish(0, manifest("a", &[(0, 5)])).await.unwrap();
        assert_eq!(log.list().await.unwrap(), [1], "{fault:?}");
        assert_eq!(log.latest().await.unwrap(), Some(published), "{fault:?}");
        assert_eq!(faulty.outstanding(), 0);
    }
}

#[tokio::test]
async fn a_damaged_publication_is_reported() {
    let store = memory();
    store.put(&path(1), "{}".into()).await.unwrap();
    let error = Publications::new(&store).latest().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(
        error.to_string().contains("publications/00000000000000000001.json"),
        "{error}"
    );
}
