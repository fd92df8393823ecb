use anabranch_dataset::Store;
use anabranch_model::{Offset, OffsetRange, PartitionId};
use anabranch_runtime::Settings;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Gate, SQL, Service, eventually, land};

fn incremental(full_every: u64) -> Settings {
    let mut settings = Settings::default();
    settings.batch.mode = BatchMode::Incremental;
    settings.batch.full_every = full_every;
    settings
}

/// The answers of all views of clicks.
async fn answers(service: &Service, publication: &Publication) -> Vec<String> {
    let mut answers = service.answer(publication, "per_page").await;
    answers.extend(service.answer(publication, "overall").await);
    answers
}

/// What a full run over the same snapshot answers.
async fn in_full(service: &Service) -> Vec<String> {
    let (status, answer) = service.post_json("/v1/batch/runs", &json!({"full": true})).await;
    assert_eq!(status, 202, "{answer}");
    let record = service.wait_for(answer["run_id"].as_str().unwrap(), "published").await;
    assert_eq!(
        (&record["mode"], &record["reason"]),
        (&json!("full"), &json!("asked for"))
    );
    assert_eq!(record["diff"]["views"]["per_page"]["differing"], 0, "{record}");
    let latest = shared_latest(&service.store).await;
    answers(service, &latest).await
}

async fn shared_latest(store: &Store) -> Publication {
    let latest = anabranch_dataset::Publications::new(store).latest().await.unwrap();
    latest.unwrap()
}

fn mode(record: &Value) -> (&str, u64) {
    (record["mode"].as_str().unwrap(), record["rows"].as_u64().unwrap())
}

/// The cost of an incremental run is that of the new rows: no file of before is read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incremental_run_reads_what_is_new_and_answers_as_a_full_one() {
    let (gate, store) = Gate::store();
    let service = Service::start(&store, SQL, incremental(0)).await;
    for start in 0..20 {
        land(&store, &service.catalog, 0, start * 50..start * 50 + 50).await;
    }
    let (record, first) = service.published().await;
    assert_eq!(mode(&record), ("full", 1000));
    assert_eq!(record["reason"], "nothing is published yet");
    assert_eq!(gate.take_reads().len(), 20);
    assert_eq!((first.manifest.chain, &first.manifest.base), (0, &None));

    let mut before = first;
    for (chain, (partition, range)) in (1..).zip([(0, 1000..1030), (1, 0..60), (0, 1030..1031)]) {
        let new: Vec<String> = land(&store, &service.catalog, partition, range.clone())
            .await
            .into_iter()
            .filter(|file| !file.dead)
            .map(|file| file.path.to_string())
            .collect();
        let (record, publication) = service.published().await;
        let rows = u64::try_from(range.end - range.start).unwrap();
        assert_eq!(mode(&record), ("incremental", rows), "{record}");
        assert_eq!(record["base"], before.manifest.run_id.as_str());
        // Twice: the comparison folds them once more, since there is no speed layer to ask.
        assert_eq!(gate.take_reads(), new.into_iter().collect(), "only what is new");
        assert_eq!(publication.manifest.chain, chain);
        assert_eq!(
            publication.manifest.views["overall"].rows,
            before.manifest.views["overall"].rows + rows
        );
        before = publication;
    }
    let chained = answers(&service, &before).await;
    assert_eq!(chained, in_full(&service).await);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_over_the_same_cut_says_the_same() {
    let (gate, store) = Gate::store();
    let service = Service::start(&store, SQL, incremental(0)).await;
    land(&store, &service.catalog, 0, 0..90).await;
    let (_, first) = service.published().await;
    gate.take_reads();
    let (record, second) = service.published().await;
    assert_eq!(mode(&record), ("incremental", 0));
    assert!(gate.take_reads().is_empty());
    assert_eq!(first.manifest.cuts, second.manifest.cuts);
    assert_eq!(answers(&service, &first).await, answers(&service, &second).await);
    assert_eq!(record["diff"]["views"]["per_page"]["compared"], 3);
    assert_eq!(record["diff"]["views"]["per_page"]["differing"], 0);
    service.stop().await;
}

/// What makes a run full although the settings say incremental, as it happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_full_when_it_cannot_build_on_the_one_before() {
    let (_, store) = Gate::store();
    let service = Service::start(&store, SQL, incremental(3)).await;
    land(&store, &service.catalog, 0, 0..60).await;
    let run = async |service: &Service| {
        let (record, publication) = service.published().await;
        let reason = record["reason"].as_str().unwrap_or_default().to_owned();
        ((record["mode"] == "full", reason), publication)
    };
    assert_eq!(run(&service).await.0, (true, "nothing is published yet".to_owned()));
    assert_eq!(run(&service).await.0, (false, String::new()));
    assert_eq!(run(&service).await.0, (false, String::new()));
    assert_eq!(run(&service).await.0, (true, "full_every".to_owned()));

    // An exclusion of what is folded already.
    let dataset = anabranch_dataset::MasterDataset::open_existing(&store, &service.catalog.sources["clicks"])
        .await
        .unwrap()
        .unwrap();
    let range = OffsetRange::new(Offset(0), Offset(30));
    dataset.exclude(PartitionId(0), range, "tests", "tests").await.unwrap();
    let (full, publication) = run(&service).await;
    assert_eq!(full, (true, "exclusions of clicks".to_owned()));
    assert_eq!(service.answer(&publication, "overall").await, ["30"]);
    assert_eq!(run(&service).await.0, (false, String::new()), "once");

    // The base's files are gone.
    let latest = shared_latest(&store).await;
    let file = &latest.manifest.views["per_page"].files[0].path;
    store.objects().delete(&Path::from(file.as_str())).await.unwrap();
    let ((full, reason), publication) = run(&service).await;
    assert!(full && reason.starts_with("state files of run "), "{reason}");
    assert_eq!(service.answer(&publication, "overall").await, ["30"]);
    service.stop().await;

    // One view is defined anew; the others build on their state.
    let changed = SQL.replace("sum(n) AS total", "max(n) AS total");
    let service = Service::start(&store, &changed, incremental(0)).await;
    // It starts by itself.
    let record = eventually(async || {
        let (_, list) = service.get("/v1/batch/runs?limit=1").await;
        let record = &list["runs"][0];
        (record["trigger"] == "views" && record["state"] == "published")
            .then_some(record.clone())
            .ok_or_else(|| record.to_string())
    })
    .await;
    assert_eq!(record["mode"], "incremental");
    assert_eq!(record["reason"], "in full: per_page");
    let publication = shared_latest(&store).await;
    assert_eq!(
        service.answer(&publication, "per_page").await,
        ["/0 10 57", "/1 10 58", "/2 10 59"]
    );
    assert_eq!(service.answer(&publication, "overall").await, ["30"]);
    service.stop().await;
}
