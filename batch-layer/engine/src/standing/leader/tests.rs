use std::time::Duration;

use anabranch_dataset::RunState;
use anabranch_runtime::Settings;
use serde_json::json;

use super::*;
use crate::standing::lease::KIND;
use crate::testing::{SQL, Service, eventually, land};

fn term(holder: &str, incarnation: &str) -> Term {
    Term {
        holder: holder.to_owned(),
        incarnation: incarnation.to_owned(),
    }
}

#[test]
fn whoever_holds_the_newest_term_leads_while_it_lives() {
    let me = term("a", "1");
    let alive = BTreeMap::from([("b".to_owned(), "http://b".to_owned())]);
    let nobody = BTreeMap::new();
    assert_eq!(decide(None, &nobody, &me), Step::Claim(1));
    assert_eq!(decide(Some(&(4, term("a", "1"))), &nobody, &me), Step::Lead);
    assert_eq!(
        decide(Some(&(4, term("b", "9"))), &alive, &me),
        Step::Follow("http://b".to_owned())
    );
    assert_eq!(
        decide(Some(&(4, term("b", "9"))), &nobody, &me),
        Step::Claim(5),
        "its lease has expired"
    );
    let both = BTreeMap::from([("a".to_owned(), "http://a".to_owned())]);
    assert_eq!(
        decide(Some(&(4, term("a", "0"))), &both, &me),
        Step::Claim(5),
        "our own former process"
    );
}

fn quick() -> Settings {
    let mut settings = Settings::default();
    settings.batch.poll = Duration::from_millis(20).into();
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_services_runs_the_runs_and_the_other_takes_over() {
    let store = Store::open("memory://", &Default::default()).unwrap();
    let first = Service::start_as("first", &store, SQL, quick()).await.unwrap();
    let second = Service::start_as("second", &store, SQL, quick()).await.unwrap();
    land(&store, &first.catalog, 0, 0..30).await;
    let leads = async |service: &Service| {
        let answer = service.get("/v1/batch/status").await.1;
        answer["service"].clone()
    };
    assert_eq!(leads(&first).await, "first");
    assert_eq!(leads(&second).await, "first", "asking any of them will do");

    // The second passes the request on; the run is the leader's.
    let run_id = second.run().await;
    first.wait_for(&run_id, "published").await;
    second.wait_for(&run_id, "published").await;
    let (status, answer) = second
        .post_json("/v1/batch/verify", &json!({"views": ["nothing"]}))
        .await;
    assert_eq!(status, 404, "refusals come back too: {answer}");

    first.stop().await;
    eventually(async || {
        let is = leads(&second).await;
        (is == "second").then_some(()).ok_or_else(|| is.to_string())
    })
    .await;
    let run_id = second.run().await;
    assert_eq!(second.wait_for(&run_id, "published").await["publication"], 2);
    second.stop().await;
}

/// A process that was asleep finds that another has taken over: its run ends, and publishes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_displaced_gives_its_run_up() {
    let (gate, store) = crate::testing::Gate::store();
    let service = Service::start_as("sleeper", &store, SQL, quick()).await.unwrap();
    land(&store, &service.catalog, 0, 0..30).await;
    gate.close();
    let run_id = service.run().await;
    service.wait_for(&run_id, "running").await;
    let usurper = serde_json::to_vec(&term("other", "x")).unwrap();
    let lease = anabranch_dataset::Lease {
        kind: KIND.to_owned(),
        id: "other".to_owned(),
        address: "http://127.0.0.1:1".to_owned(),
        facts: json!({}),
        ttl: Duration::from_secs(600),
    };
    anabranch_dataset::Leases::new(&store).renew(&lease).await.unwrap();
    assert!(store.create(&path(2), usurper.into()).await.unwrap());
    let record = eventually(async || {
        let record = anabranch_dataset::Runs::new(&store)
            .get(&run_id)
            .await
            .unwrap()
            .unwrap();
        (record.state == RunState::Failed)
            .then_some(record.clone())
            .ok_or(format!("{record:?}"))
    })
    .await;
    assert!(record.error.unwrap().contains("another batch service"));
    gate.open();
    let (status, answer) = service.post_run().await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (503, &json!("unavailable")),
        "{answer}"
    );
    let published = anabranch_dataset::Publications::new(&store).latest().await.unwrap();
    assert!(published.is_none());
    service.stop().await;
}
