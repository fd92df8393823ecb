use anabranch_dataset::{Lease, Leases, Publications};
use anabranch_runtime::Settings;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::json;

use super::*;
use crate::testing::{Gate, SQL, Service, eventually, land, offsets};

#[test]
fn a_target_is_a_publication_or_a_run() {
    assert_eq!(Target::parse("12"), Target::Publication(12));
    assert_eq!(
        Target::parse("20260601T120000Z-abc"),
        Target::Run("20260601T120000Z-abc".to_owned())
    );
}

#[test]
fn what_expired_behind_the_cut_cannot_be_answered_any_more() {
    let cut = Cut {
        version: Some(4),
        next: offsets(&[(0, 100), (1, 50)]),
    };
    assert_eq!(expired_behind(Some(&cut), &offsets(&[])), None);
    assert_eq!(
        expired_behind(Some(&cut), &offsets(&[(0, 100), (1, 20)])),
        None,
        "all of it is before the cut"
    );
    assert_eq!(expired_behind(Some(&cut), &offsets(&[(1, 51)])), Some(PartitionId(1)));
    assert_eq!(
        expired_behind(Some(&cut), &offsets(&[(2, 1)])),
        Some(PartitionId(2)),
        "the cut has nothing of it"
    );
    assert_eq!(expired_behind(None, &offsets(&[(0, 1)])), Some(PartitionId(0)));
}

fn speed_worker(holds: &[u64]) -> Lease {
    Lease {
        kind: "speed".to_owned(),
        id: "worker".to_owned(),
        address: "http://127.0.0.1:1".to_owned(),
        facts: json!({"sources": {}, "state_bytes": 0, "holds": holds}),
        ttl: Duration::from_secs(600),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earlier_run_is_served_again_once_the_speed_layer_reaches_back_to_its_cut() {
    let (_, store) = Gate::store();
    let service = Service::start(&store, SQL, Settings::default()).await;
    let (leases, publications) = (Leases::new(&store), Publications::new(&store));
    let (status, answer) = service.post_json("/v1/batch/rollback", &json!({})).await;
    assert_eq!(status, 202, "{answer}");
    let failed = service.wait_for(answer["run_id"].as_str().unwrap(), "failed").await;
    assert!(failed["error"].as_str().unwrap().contains("nothing is published"));

    land(&store, &service.catalog, 0, 0..30).await;
    let (_, first) = service.published().await;
    land(&store, &service.catalog, 0, 30..90).await;
    service.published().await;

    leases.renew(&speed_worker(&[])).await.unwrap();
    let run_id = service.task("/v1/batch/rollback", &json!({})).await;
    // The lease tells the speed layer what is coming, and pins what is to be served again.
    let facts = eventually(async || {
        let facts = leases.list("batch").await.unwrap().remove(0).facts;
        (facts["rollback"] == 1)
            .then_some(facts.clone())
            .ok_or_else(|| facts.to_string())
    })
    .await;
    assert_eq!(facts["running"][0]["base"], first.manifest.run_id.as_str());
    assert_eq!(facts["running"][0]["cuts"]["clicks"]["next"]["0"], 30);
    assert_eq!(publications.latest().await.unwrap().unwrap().number, 2, "not yet");

    leases.renew(&speed_worker(&[1])).await.unwrap();
    let record = service.wait_for(&run_id, "published").await;
    assert_eq!(
        (&record["kind"], &record["publication"]),
        (&json!("rollback"), &json!(3))
    );
    assert_eq!(record["reason"], "from publication 2 back to 1");
    let latest = publications.latest().await.unwrap().unwrap();
    assert_eq!((latest.based_on, &latest.manifest), (2, &first.manifest));
    assert_eq!(service.answer(&latest, "overall").await, ["30"]);
    eventually(async || {
        let facts = leases.list("batch").await.unwrap().remove(0).facts;
        facts["rollback"]
            .is_null()
            .then_some(())
            .ok_or_else(|| facts.to_string())
    })
    .await;

    // Going back once more leads nowhere: there is nothing before the first run.
    let run_id = service.task("/v1/batch/rollback", &json!({})).await;
    let failed = service.wait_for(&run_id, "failed").await;
    assert!(failed["error"].as_str().unwrap().contains("no earlier run"), "{failed}");
    // Forward, by the number of the publication.
    leases.renew(&speed_worker(&[2])).await.unwrap();
    let run_id = service.task("/v1/batch/rollback", &json!({"to": "2"})).await;
    assert_eq!(service.wait_for(&run_id, "published").await["publication"], 4);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_answer_is_not_served_again() {
    let (_, store) = Gate::store();
    let service = Service::start(&store, SQL, Settings::default()).await;
    land(&store, &service.catalog, 0, 0..30).await;
    let (_, first) = service.published().await;
    land(&store, &service.catalog, 0, 30..90).await;
    service.published().await;
    let refusal = async |service: &Service, to: &str| {
        let run_id = service.task("/v1/batch/rollback", &json!({"to": to})).await;
        let record = service.wait_for(&run_id, "failed").await;
        record["error"].as_str().unwrap().to_owned()
    };
    assert!(refusal(&service, "9").await.contains("no publication 9"));
    assert!(refusal(&service, "nobody").await.contains("never published"));
    assert!(refusal(&service, "2").await.contains("the same run"));
    let file = Path::from(first.manifest.views["per_page"].files[0].path.as_str());
    store.objects().delete(&file).await.unwrap();
    assert!(refusal(&service, "1").await.contains("not there any more"));
    service.stop().await;

    let changed = SQL.replace("sum(n) AS total", "max(n) AS total");
    let service = Service::start(&store, &changed, Settings::default()).await;
    assert!(
        refusal(&service, "1")
            .await
            .contains("view `per_page` as it is defined now")
    );
    service.stop().await;
}
