use std::time::Duration;

use anabranch_dataset::{Lease, Leases, MasterDataset, Publications, RunRecord, RunState, Runs, Store};
use anabranch_model::{Cut, Offset, OffsetRange, PartitionId};
use anabranch_runtime::{ByteSize, Settings};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::{Value, json};

use crate::testing::{Gate, SQL, Service, eventually, land};

fn memory() -> Store {
    Store::open("memory://", &Default::default()).unwrap()
}

async fn landed(store: &Store) -> Service {
    let service = Service::start(store, SQL, Settings::default()).await;
    land(store, &service.catalog, 0, 0..300).await;
    land(store, &service.catalog, 1, 0..60).await;
    service
}

async fn state_files(store: &Store, run_id: &str) -> Vec<String> {
    let objects: Vec<_> = store
        .objects()
        .list(Some(&Runs::folder(run_id)))
        .try_collect()
        .await
        .unwrap();
    let paths = objects.into_iter().map(|object| object.location.to_string());
    paths.filter(|path| path.ends_with(".parquet")).collect()
}

/// Of the only batch lease.
async fn lease_facts(store: &Store) -> Value {
    Leases::new(store).list("batch").await.unwrap().remove(0).facts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_publishes_exact_views_of_everything_landed() {
    publishes_exact_views(memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_publishes_exact_views_in_a_local_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("file://{}", folder.path().display()), &Default::default()).unwrap();
    publishes_exact_views(store).await;
}

async fn publishes_exact_views(store: Store) {
    let service = landed(&store).await;
    let run_id = service.run().await;
    let record = service.wait_for(&run_id, "published").await;
    assert_eq!(record["publication"], 1);
    assert_eq!((&record["rows"], &record["groups"]), (&json!(360), &json!(4)));
    assert_eq!(record["progress"]["rows_done"], 360);
    assert_eq!(record["progress"]["bytes_done"], record["progress"]["bytes_total"]);
    assert_eq!(record["trigger"], "http");
    for stage in ["snapshot", "fold", "write", "publish", "total"] {
        assert!(record["timings_ms"][stage].is_u64(), "{stage}: {record}");
    }

    let publication = Publications::new(&store).latest().await.unwrap().unwrap();
    assert_eq!((publication.number, publication.based_on), (1, 0));
    let cut = &publication.manifest.cuts["clicks"];
    assert_eq!(cut.next.get(PartitionId(0)), Some(Offset(300)));
    assert_eq!(cut.next.get(PartitionId(1)), Some(Offset(60)));
    assert!(cut.version.is_some());
    assert_eq!(
        publication.manifest.cuts["orders"],
        Cut::default(),
        "never landed: the empty cut"
    );
    assert_eq!(record["cuts"]["clicks"], serde_json::to_value(cut).unwrap());

    let sum = |page: i64| -> i64 { (0..300).chain(0..60).filter(|n| n % 3 == page).sum() };
    let expected: Vec<String> = (0..3).map(|page| format!("/{page} 120 {}", sum(page))).collect();
    assert_eq!(
        service.answer(&publication, "per_page").await,
        expected,
        "dead letters are not counted"
    );
    assert_eq!(service.answer(&publication, "overall").await, ["360"]);
    assert_eq!(service.answer(&publication, "revenue").await, ["0 NULL"]);
    assert_eq!(publication.manifest.views["per_page"].rows, 360);

    // What is landed later is in the next run.
    land(&store, &service.catalog, 1, 60..100).await;
    let second = service.run().await;
    assert!(second > run_id);
    assert_eq!(service.wait_for(&second, "published").await["publication"], 2);
    let publication = Publications::new(&store).latest().await.unwrap().unwrap();
    assert_eq!(service.answer(&publication, "overall").await, ["400"]);
    let (_, list) = service.get("/v1/batch/runs?limit=1").await;
    assert_eq!(list["runs"][0]["run_id"], second.as_str());
    assert_eq!(list["runs"].as_array().unwrap().len(), 1);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_snapshot_gives_the_same_bytes() {
    let store = memory();
    let service = landed(&store).await;
    let mut contents = Vec::new();
    for _ in 0..2 {
        let run_id = service.run().await;
        service.wait_for(&run_id, "published").await;
        let mut files = Vec::new();
        for path in state_files(&store, &run_id).await {
            let bytes = store
                .objects()
                .get(&Path::from(path.as_str()))
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap();
            files.push((path.replace(&run_id, ""), bytes));
        }
        assert!(files.len() >= 2);
        contents.push(files);
    }
    assert_eq!(contents[0], contents[1]);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_run_runs_and_one_waits() {
    let (gate, store) = Gate::store();
    let service = landed(&store).await;
    gate.close();
    let first = service.run().await;
    let running = service.wait_for(&first, "running").await;
    assert_eq!(running["finished_at"], Value::Null);
    // The cuts are in the lease before anything is read.
    let facts = eventually(async || {
        let facts = lease_facts(&store).await;
        let has_cut = facts["running"][0]["cuts"]["clicks"]["next"]["0"] == 300;
        has_cut.then_some(facts.clone()).ok_or_else(|| facts.to_string())
    })
    .await;
    assert_eq!(facts["running"][0]["run_id"], first.as_str());

    let second = service.run().await;
    assert_ne!(second, first);
    let (status, third) = service.post_run().await;
    assert_eq!(
        (status, &third["run_id"], &third["state"]),
        (202, &json!(second), &json!("queued"))
    );
    let (_, status) = service.get("/v1/batch/status").await;
    assert_eq!(status["running"]["run_id"], first.as_str());
    assert_eq!(status["running"]["progress"]["rows_total"], 360);
    assert_eq!(status["queued"]["run_id"], second.as_str());

    gate.open();
    assert_eq!(service.wait_for(&first, "published").await["publication"], 1);
    assert_eq!(service.wait_for(&second, "published").await["publication"], 2);
    eventually(async || {
        let facts = lease_facts(&store).await;
        (facts["running"] == json!([]) && facts["queued"] == json!([]))
            .then_some(())
            .ok_or_else(|| facts.to_string())
    })
    .await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_another_overtook_fails_and_leaves_no_files() {
    let (gate, store) = Gate::store();
    let service = landed(&store).await;
    let first = service.run().await;
    service.wait_for(&first, "published").await;

    gate.close();
    let slow = service.run().await;
    service.wait_for(&slow, "running").await;
    eventually(async || {
        let facts = lease_facts(&store).await;
        facts["running"][0]["cuts"]["clicks"]
            .is_object()
            .then_some(())
            .ok_or_else(|| facts.to_string())
    })
    .await;
    // Somebody else publishes meanwhile.
    let publications = Publications::new(&store);
    let manifest = publications.latest().await.unwrap().unwrap().manifest;
    publications.publish(1, manifest).await.unwrap();
    gate.open();

    let record = service.wait_for(&slow, "failed").await;
    let error = record["error"].as_str().unwrap();
    assert!(error.contains("publication 2"), "{error}");
    assert_eq!(state_files(&store, &slow).await, [""; 0]);
    assert!(!state_files(&store, &first).await.is_empty());
    // The service goes on.
    let next = service.run().await;
    assert_eq!(service.wait_for(&next, "published").await["publication"], 3);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_read_fails_the_run_only() {
    let store = memory();
    let service = landed(&store).await;
    let files = land(&store, &service.catalog, 0, 300..310).await;
    store.objects().put(&files[0].path, "not parquet".into()).await.unwrap();
    let run_id = service.run().await;
    let record = service.wait_for(&run_id, "failed").await;
    assert!(
        record["error"].as_str().unwrap().contains(files[0].path.as_ref()),
        "{record}"
    );
    store.objects().delete(&files[0].path).await.unwrap();
    let run_id = service.run().await;
    let record = service.wait_for(&run_id, "failed").await;
    assert!(
        record["error"].as_str().unwrap().contains(files[0].path.as_ref()),
        "{record}"
    );
    let (_, health) = service.get("/readyz").await;
    assert_eq!(health["status"], "ready");
    assert!(Publications::new(&store).latest().await.unwrap().is_none());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_ends_a_run_and_the_queue() {
    let (gate, store) = Gate::store();
    let service = landed(&store).await;
    gate.close();
    let running = service.run().await;
    service.wait_for(&running, "running").await;
    let queued = service.run().await;
    service.stop().await;
    let runs = Runs::new(&store);
    for run_id in [&running, &queued] {
        let record = runs.get(run_id).await.unwrap().unwrap();
        assert_eq!(
            (record.state, record.error.as_deref()),
            (RunState::Failed, Some("shut down"))
        );
        assert!(record.finished_at.is_some());
    }
    assert_eq!(Leases::new(&store).list("batch").await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_process_left_is_settled_at_the_next_start() {
    let store = memory();
    let service = landed(&store).await;
    let published = service.run().await;
    service.wait_for(&published, "published").await;
    service.stop().await;

    let runs = Runs::new(&store);
    // It died after publishing and before saying so.
    let mut unsaid = runs.get(&published).await.unwrap().unwrap();
    (unsaid.state, unsaid.publication, unsaid.finished_at) = (RunState::Running, None, None);
    runs.put(&unsaid).await.unwrap();
    // It died in the middle; another died before it began; one belongs to a living process.
    let record = |run_id: &str, state| RunRecord {
        run_id: run_id.to_owned(),
        state,
        ..RunRecord::default()
    };
    let (dead, waiting, alive) = (
        "29990101T000000Z-aaaaaa",
        "29990101T000000Z-bbbbbb",
        "29990101T000000Z-cccccc",
    );
    for (run_id, state) in [
        (dead, RunState::Running),
        (waiting, RunState::Queued),
        (alive, RunState::Running),
    ] {
        runs.put(&record(run_id, state)).await.unwrap();
        let part = Runs::folder(run_id).join("per_page").join("part-00000.parquet");
        store.objects().put(&part, "half".into()).await.unwrap();
    }
    let other = Lease {
        kind: "batch".into(),
        id: "another".into(),
        address: "http://another".into(),
        facts: json!({"running": [{"run_id": alive, "cuts": {}}], "queued": []}),
        ttl: Duration::from_secs(600),
    };
    Leases::new(&store).renew(&other).await.unwrap();

    let service = Service::start(&store, SQL, Settings::default()).await;
    let settled = runs.get(&published).await.unwrap().unwrap();
    assert_eq!((settled.state, settled.publication), (RunState::Published, Some(1)));
    assert!(!state_files(&store, &published).await.is_empty());
    for run_id in [dead, waiting] {
        let record = runs.get(run_id).await.unwrap().unwrap();
        assert_eq!(record.state, RunState::Failed);
        assert!(record.error.unwrap().contains("process"));
        // A process that is only paused, or a request that is only late, may publish it yet.
        assert_eq!(state_files(&store, run_id).await.len(), 1);
    }
    assert_eq!(runs.get(alive).await.unwrap().unwrap().state, RunState::Running);
    assert_eq!(state_files(&store, alive).await.len(), 1);
    service.stop().await;
}

/// A quick restart finds the lease of the process before it still alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_held_is_settled_once_its_lease_has_gone() {
    let store = memory();
    let (runs, leases) = (Runs::new(&store), Leases::new(&store));
    let (dead, alive) = ("20010101T000000Z-aaaaaa", "20010101T000000Z-bbbbbb");
    for run_id in [dead, alive] {
        let record = RunRecord {
            run_id: run_id.to_owned(),
            state: RunState::Running,
            cuts: [("clicks".to_owned(), Cut::default())].into(),
            ..RunRecord::default()
        };
        runs.put(&record).await.unwrap();
        let part = Runs::folder(run_id).join("per_page").join("part-00000.parquet");
        store.objects().put(&part, "half".into()).await.unwrap();
        let holder = Lease {
            kind: "batch".into(),
            id: format!("holder of {run_id}"),
            address: "http://another".into(),
            facts: json!({"running": [{"run_id": run_id, "cuts": {}}], "queued": []}),
            ttl: Duration::from_secs(600),
        };
        leases.renew(&holder).await.unwrap();
    }
    let service = landed(&store).await;
    for run_id in [dead, alive] {
        assert_eq!(runs.get(run_id).await.unwrap().unwrap().state, RunState::Running);
    }

    leases.release("batch", &format!("holder of {dead}")).await.unwrap();
    let record = service.wait_for(dead, "failed").await;
    assert!(record["error"].as_str().unwrap().contains("process"), "{record}");
    assert_eq!(
        state_files(&store, dead).await.len(),
        1,
        "its holder may come back and publish"
    );
    let published = service.run().await;
    service.wait_for(&published, "published").await;
    eventually(async || match state_files(&store, dead).await.len() {
        0 => Ok(()),
        files => Err(format!("{files} files of a run that can no longer be published")),
    })
    .await;
    assert_eq!(runs.get(alive).await.unwrap().unwrap().state, RunState::Running);
    assert_eq!(state_files(&store, alive).await.len(), 1);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_views_sql_starts_a_run() {
    let store = memory();
    let service = landed(&store).await;
    let first = service.run().await;
    service.wait_for(&first, "published").await;
    service.stop().await;

    // The same definitions: nothing to do.
    let service = Service::start(&store, SQL, Settings::default()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        service.get("/v1/batch/runs").await.1["runs"].as_array().unwrap().len(),
        1
    );
    service.stop().await;

    let changed = SQL.replace("sum(n) AS total", "max(n) AS total");
    let service = Service::start(&store, &changed, Settings::default()).await;
    let record = eventually(async || {
        let (_, list) = service.get("/v1/batch/runs").await;
        let newest = list["runs"][0].clone();
        (newest["state"] == "published" && newest["run_id"] != first.as_str())
            .then_some(newest)
            .ok_or_else(|| list.to_string())
    })
    .await;
    assert_eq!(
        (&record["trigger"], &record["publication"]),
        (&json!("views"), &json!(2))
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_excluded_and_included_again_is_recomputed() {
    let store = memory();
    let mut settings = Settings::default();
    settings.batch.poll = Duration::from_millis(20).into();
    let service = Service::start(&store, SQL, settings).await;
    land(&store, &service.catalog, 0, 0..300).await;
    land(&store, &service.catalog, 1, 0..60).await;
    let dataset = MasterDataset::open_existing(&store, &service.catalog.sources["clicks"])
        .await
        .unwrap()
        .unwrap();
    let range = |start, end| OffsetRange::new(Offset(start), Offset(end));
    // Before the first run: it leaves them out. What is not landed yet may be excluded too.
    let first = dataset
        .exclude(PartitionId(0), range(0, 30), "a test", "ada")
        .await
        .unwrap();
    dataset
        .exclude(PartitionId(1), range(50, 1000), "a test", "ada")
        .await
        .unwrap();
    let run = service.run().await;
    let record = service.wait_for(&run, "published").await;
    assert_eq!(record["progress"]["rows_done"], 320);
    let published = |number: u64| {
        let publications = Publications::new(&store);
        eventually(async move || {
            let latest = publications.latest().await.unwrap().unwrap();
            let is = latest.number;
            (is == number).then_some(latest).ok_or_else(|| is.to_string())
        })
    };
    let publication = published(1).await;
    assert_eq!(service.answer(&publication, "overall").await, ["320"]);
    assert_eq!(
        service.answer(&publication, "per_page").await[0],
        format!("/0 107 {}", (30..300).chain(0..50).filter(|n| n % 3 == 0).sum::<i64>())
    );
    assert_eq!(publication.manifest.notes["clicks"], *dataset.known_notes());

    // A change before the cut starts a run by itself; one behind it does not.
    dataset
        .exclude(PartitionId(0), range(300, 400), "ahead", "ada")
        .await
        .unwrap();
    dataset.include(first.id, "ada").await.unwrap();
    let publication = published(2).await;
    assert_eq!(service.answer(&publication, "overall").await, ["350"]);
    dataset
        .exclude(PartitionId(0), range(299, 305), "one more", "ada")
        .await
        .unwrap();
    let publication = published(3).await;
    assert_eq!(service.answer(&publication, "overall").await, ["349"]);
    let (_, list) = service.get("/v1/batch/runs").await;
    let triggers: Vec<_> = list["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| &run["trigger"])
        .collect();
    assert_eq!(triggers, ["exclusions", "exclusions", "http"]);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schedule_fires_and_skips_what_overlaps() {
    let (gate, store) = Gate::store();
    let mut settings = Settings::default();
    settings.batch.schedule = Some("* * * * * *".to_owned());
    settings.batch.time_zone = "Asia/Kathmandu".to_owned();
    let service = Service::start(&store, SQL, settings).await;
    land(&store, &service.catalog, 0, 0..30).await;
    gate.close();
    let skipped = eventually(async || {
        let (_, status) = service.get("/v1/batch/status").await;
        (status["skipped"]["count"].as_u64() >= Some(1))
            .then_some(status.clone())
            .ok_or_else(|| status.to_string())
    })
    .await;
    assert_eq!(skipped["skipped"]["last"]["trigger"], "schedule");
    assert_eq!(skipped["skipped"]["last"]["because"], skipped["running"]["run_id"]);
    assert_eq!(skipped["running"]["trigger"], "schedule");
    assert_eq!(skipped["schedule"]["time_zone"], "Asia/Kathmandu");
    assert!(skipped["schedule"]["next_at"].as_str().unwrap().ends_with('Z'));
    gate.open();
    let run_id = skipped["running"]["run_id"].as_str().unwrap();
    service.wait_for(run_id, "published").await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_realtime_state_starts_a_run() {
    let store = memory();
    let mut settings = Settings::default();
    settings.speed.state_budget = ByteSize(1000);
    let service = Service::start(&store, SQL, settings).await;
    land(&store, &service.catalog, 0, 0..30).await;
    let lease = |state_bytes: u64| Lease {
        kind: "speed".into(),
        id: "worker".into(),
        address: "http://worker".into(),
        facts: json!({"sources": {}, "state_bytes": state_bytes}),
        ttl: Duration::from_secs(600),
    };
    Leases::new(&store).renew(&lease(1000)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(
        service.get("/v1/batch/runs").await.1["runs"],
        json!([]),
        "the budget itself is allowed"
    );
    Leases::new(&store).renew(&lease(1001)).await.unwrap();
    let record = eventually(async || {
        let (_, list) = service.get("/v1/batch/runs").await;
        (list["runs"][0]["state"] == "published")
            .then_some(list["runs"][0].clone())
            .ok_or_else(|| list.to_string())
    })
    .await;
    assert_eq!(record["trigger"], "state_budget");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_answered_in_the_error_format() {
    let store = memory();
    let service = Service::start(&store, SQL, Settings::default()).await;
    for run_id in ["20200101T000000Z-abcdef", "..%2F..%2Fpublications", "x"] {
        let (status, answer) = service.get(&format!("/v1/batch/runs/{run_id}")).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (404, &json!("not_found")),
            "{run_id}"
        );
        assert!(answer["error"]["hint"].is_string());
    }
    for query in ["limit=many", "limit=-1", "count=3"] {
        let (status, answer) = service.get(&format!("/v1/batch/runs?{query}")).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid")), "{query}");
    }
    assert_eq!(service.get("/v1/batch/nothing").await.0, 404);
    assert_eq!(service.get("/healthz").await.1["status"], "ok");
    service.stop().await;
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_start() {
    let mut settings = Settings::default();
    settings.batch.schedule = Some("at noon".to_owned());
    let error = Service::try_start(&memory(), SQL, settings).await.err().unwrap();
    assert!(error.to_string().contains("batch.schedule"), "{error}");
}
