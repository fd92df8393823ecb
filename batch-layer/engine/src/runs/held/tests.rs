use anabranch_dataset::{Leases, StateFiles, Store};
use anabranch_runtime::{OnDiff, Settings};
use arrow::array::RecordBatch;
use serde_json::{Value, json};

use super::*;
use crate::run::part_path;
use crate::testing::{Gate, SQL, Service, eventually, land};

fn holding() -> Settings {
    let mut settings = Settings::default();
    settings.batch.on_diff = OnDiff::Hold;
    settings
}

/// A service whose latest publication, the second, is wrong: its last page is missing.
async fn with_a_wrong_publication(store: &Store) -> Service {
    let service = Service::start(store, SQL, holding()).await;
    land(store, &service.catalog, 0, 0..90).await;
    let (record, first) = service.published().await;
    assert_eq!(
        record["diff"]["publication"],
        Value::Null,
        "there was nothing to compare with"
    );
    publish_without_the_last_page(&service, first).await;
    land(store, &service.catalog, 0, 90..120).await;
    service
}

/// Publishes the state of `right` with one group less.
async fn publish_without_the_last_page(service: &Service, right: Publication) {
    let store = &service.store;
    let view = service.views.iter().find(|view| view.name() == "per_page").unwrap();
    let mut manifest = right.manifest;
    let written = manifest.views.get_mut("per_page").unwrap();
    let schema = anabranch_compute::batch_view_schema(view);
    let batches = StateFiles::read(store, written, &schema).await.unwrap();
    let kept: Vec<RecordBatch> = batches.iter().map(|batch| batch.slice(0, 2)).collect();
    let path = part_path("tampered", "per_page", 0);
    written.files = vec![StateFiles::write(store, &path, kept).await.unwrap()];
    manifest.run_id = "tampered".to_owned();
    shared_publications(store)
        .publish(right.number, manifest)
        .await
        .unwrap();
}

fn shared_publications(store: &Store) -> anabranch_dataset::Publications {
    anabranch_dataset::Publications::new(store)
}

async fn latest(store: &Store) -> u64 {
    shared_publications(store).latest().await.unwrap().unwrap().number
}

async fn state_files(store: &Store, run_id: &str) -> usize {
    use futures::TryStreamExt;
    let folder = anabranch_dataset::Runs::folder(run_id);
    let objects: Vec<_> = store.objects().list(Some(&folder)).try_collect().await.unwrap();
    let parquet = |object: &&object_store::ObjectMeta| object.location.extension() == Some("parquet");
    objects.iter().filter(parquet).count()
}

async fn held_run(service: &Service) -> (String, Value) {
    let run_id = service.run().await;
    let record = service.wait_for(&run_id, "held").await;
    (run_id, record)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_differs_is_held_and_published_by_hand() {
    let (_, store) = Gate::store();
    let service = with_a_wrong_publication(&store).await;
    let (run_id, record) = held_run(&service).await;
    let diff = &record["diff"]["views"]["per_page"];
    // Landed rows behind the cut stand in for the speed layer, so the page is there, but with them alone.
    assert_eq!(
        (&diff["compared"], &diff["differing"]),
        (&json!(3), &json!(1)),
        "{diff}"
    );
    assert_eq!(diff["samples"][0]["key"]["page"], "/2");
    assert_eq!(diff["samples"][0]["computed"]["clicks"], "40");
    assert_eq!(diff["samples"][0]["served"]["clicks"], "10");
    assert_eq!(record["diff"]["views"]["overall"]["differing"], 0);
    assert!(diff["not_compared"]["clicks/0"].is_string(), "{diff}");
    assert_eq!(record["publication"], Value::Null);
    assert_eq!(latest(&store).await, 2, "nothing is published");

    // It pins its cuts until somebody decides, and over a restart.
    let pinned = async || {
        let facts = Leases::new(&store).list("batch").await.unwrap().remove(0).facts;
        facts["running"][0]["run_id"].as_str().map(str::to_owned)
    };
    let is_pinned = async || {
        eventually(async || {
            let run = pinned().await;
            (run.as_deref() == Some(run_id.as_str()))
                .then_some(())
                .ok_or(format!("{run:?}"))
        })
        .await;
    };
    is_pinned().await;
    service.stop().await;
    let service = Service::start(&store, SQL, holding()).await;
    assert_eq!(service.get("/v1/batch/status").await.1["held"], run_id.as_str());
    is_pinned().await;

    let (status, answer) = service.post(&format!("/v1/batch/runs/{run_id}/publish")).await;
    assert_eq!((status, &answer["publication"]), (200, &json!(3)), "{answer}");
    assert_eq!(service.wait_for(&run_id, "published").await["publication"], 3);
    let publication = shared_publications(&store).latest().await.unwrap().unwrap();
    assert_eq!(service.answer(&publication, "overall").await, ["120"]);
    assert_eq!(service.get("/v1/batch/status").await.1["held"], Value::Null);
    let (status, answer) = service.post(&format!("/v1/batch/runs/{run_id}/discard")).await;
    assert_eq!(status, 409, "{answer}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_run_is_discarded_by_hand_or_by_a_newer_publication() {
    let (_, store) = Gate::store();
    let service = with_a_wrong_publication(&store).await;
    let (run_id, _) = held_run(&service).await;
    assert!(state_files(&store, &run_id).await > 0);
    let (status, answer) = service.post(&format!("/v1/batch/runs/{run_id}/discard")).await;
    assert_eq!((status, &answer["state"]), (200, &json!("discarded")), "{answer}");
    assert_eq!(state_files(&store, &run_id).await, 0);
    let (status, answer) = service.post(&format!("/v1/batch/runs/{run_id}/publish")).await;
    assert_eq!(status, 409, "{answer}");
    assert_eq!(latest(&store).await, 2);

    // Another run is held in its turn, and overtaken by one that somebody else published.
    let (overtaken, _) = held_run(&service).await;
    let newest = shared_publications(&store).latest().await.unwrap().unwrap();
    let mut manifest = newest.manifest;
    manifest.run_id = "elsewhere".to_owned();
    shared_publications(&store).publish(2, manifest).await.unwrap();
    let (status, answer) = service.post(&format!("/v1/batch/runs/{overtaken}/publish")).await;
    assert_eq!(status, 409, "it is based on an older publication: {answer}");
    let (again, _) = held_run(&service).await;
    service.stop().await;
    let service = Service::start(&store, SQL, holding()).await;
    assert_eq!(
        service.wait_for(&overtaken, "discarded").await["error"],
        "another run was published meanwhile"
    );
    assert_eq!(service.get("/v1/batch/status").await.1["held"], again.as_str());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_finds_a_wrong_publication_and_changes_nothing() {
    let (_, store) = Gate::store();
    let service = with_a_wrong_publication(&store).await;
    let run_id = service.task("/v1/batch/verify", &json!({"views": ["per_page"]})).await;
    let record = service.wait_for(&run_id, "compared").await;
    assert_eq!(record["kind"], "verify");
    let views = record["diff"]["views"].as_object().unwrap();
    assert_eq!(
        views.keys().collect::<Vec<_>>(),
        ["per_page"],
        "only what was asked for"
    );
    assert_eq!(views["per_page"]["differing"], 1);
    assert_eq!(record["diff"]["publication"], 2);
    assert_eq!((latest(&store).await, state_files(&store, &run_id).await), (2, 0));

    // A right one takes its place, and nothing differs any more.
    let (held, _) = held_run(&service).await;
    service.post(&format!("/v1/batch/runs/{held}/publish")).await;
    let run_id = service.task("/v1/batch/verify", &json!({})).await;
    let record = service.wait_for(&run_id, "compared").await;
    for (name, view) in record["diff"]["views"].as_object().unwrap() {
        assert_eq!(
            (&view["differing"], &view["only_served"]),
            (&json!(0), &json!(0)),
            "{name}: {view}"
        );
    }
    service.stop().await;
}

/// Differences that a change of exclusions explains hold nothing back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exclusion_holds_no_run_back() {
    use anabranch_model::{Offset, OffsetRange, PartitionId};
    let (_, store) = Gate::store();
    let service = Service::start(&store, SQL, holding()).await;
    land(&store, &service.catalog, 0, 0..90).await;
    service.published().await;
    let source = &service.catalog.sources["clicks"];
    let dataset = anabranch_dataset::MasterDataset::open_existing(&store, source)
        .await
        .unwrap()
        .unwrap();
    let range = OffsetRange::new(Offset(0), Offset(30));
    dataset.exclude(PartitionId(0), range, "tests", "tests").await.unwrap();
    // A run follows by itself.
    let publication = eventually(async || {
        let latest = shared_publications(&store).latest().await.unwrap();
        latest
            .filter(|latest| latest.number == 2)
            .ok_or_else(|| "there is no second publication".to_owned())
    })
    .await;
    let record = service.wait_for(&publication.manifest.run_id, "published").await;
    assert_eq!(record["trigger"], "exclusions");
    assert_eq!(record["diff"]["views"]["per_page"]["differing"], 3);
    assert_eq!(record["diff"]["expected"], "exclusions or retention of clicks changed");
    assert_eq!(service.answer(&publication, "overall").await, ["60"]);
    service.stop().await;
}
