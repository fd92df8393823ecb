use std::time::Duration;

use anabranch_dataset::{Error as DatasetError, Lease, Leases, Publication, Publications, Runs, Store};
use anabranch_model::{Offset, PartitionId};
use anabranch_runtime::Settings;
use futures::TryStreamExt;
use object_store::path::Path;

use super::*;
use crate::testing::{SQL, Service, eventually, land, land_at};

const DAY_US: i64 = 86_400_000_000;

fn memory() -> Store {
    Store::open("memory://", &BTreeMap::new()).unwrap()
}

/// Nothing happens by itself; what nobody pins may go at once.
fn by_hand() -> Settings {
    let mut settings = Settings::default();
    settings.batch.poll = Duration::from_millis(20).into();
    let maintenance = &mut settings.maintenance;
    maintenance.enabled = false;
    maintenance.vacuum_after = Duration::ZERO.into();
    settings
}

fn keeping_30_days() -> String {
    SQL.replace("topic = 'clicks', ", "topic = 'clicks', retention = '30 days', ")
}

async fn objects(store: &Store, folder: &str) -> Vec<String> {
    let listed: Vec<_> = store
        .objects()
        .list(Some(&Path::from(folder)))
        .try_collect()
        .await
        .unwrap();
    let mut paths: Vec<String> = listed.into_iter().map(|object| object.location.to_string()).collect();
    paths.retain(|path| path.ends_with(".parquet"));
    paths
}

async fn data_files(store: &Store) -> usize {
    objects(store, "sources/clicks/_dead=false").await.len()
}

async fn publication(store: &Store, number: u64) -> Publication {
    let publications = Publications::new(store);
    eventually(async || {
        let latest = publications.latest().await.unwrap();
        latest
            .filter(|latest| latest.number == number)
            .ok_or_else(|| format!("publication {number} is not there"))
    })
    .await
}

async fn run(service: &Service) -> Publication {
    let run_id = service.run().await;
    let record = service.wait_for(&run_id, "published").await;
    publication(&service.store, record["publication"].as_u64().unwrap()).await
}

async fn done(service: &Service, path: &str) -> Value {
    let (status, report) = service.post(&format!("/v1/batch/maintenance/{path}")).await;
    assert_eq!(status, 200, "{report}");
    report
}

/// A batch service, elsewhere, that reads `version` of the clicks.
fn reader(version: u64) -> Lease {
    Lease {
        kind: lease::KIND.into(),
        id: "another".into(),
        address: "http://another".into(),
        facts: json!({"running": [{"run_id": "r", "cuts": {"clicks": {"version": version, "next": {}}}}], "queued": []}),
        ttl: Duration::from_secs(600),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_answer_alike_before_and_after_files_are_merged() {
    let store = memory();
    let service = Service::start(&store, SQL, by_hand()).await;
    for start in 0..20 {
        land(
            &store,
            &service.catalog,
            (start % 2) as i32,
            start / 2 * 20..start / 2 * 20 + 20,
        )
        .await;
    }
    let before = run(&service).await;

    let foreseen = done(&service, "compact?dry_run=true").await;
    let clicks = &foreseen["tables"]["clicks"];
    assert_eq!(
        (&clicks["files_before"], &clicks["files_after"]),
        (&json!(40), &json!(2))
    );
    let (_, status) = service.get("/v1/batch/maintenance").await;
    assert_eq!(status["tables"]["clicks"]["files"], 40, "only foreseen: {status}");
    assert_eq!(status["last"]["compactions"], json!({}));

    let merged = done(&service, "compact?table=clicks").await;
    assert_eq!(merged["tables"], foreseen["tables"], "as foreseen");
    let (_, status) = service.get("/v1/batch/maintenance").await;
    let table = &status["tables"]["clicks"];
    assert_eq!(
        (&table["files"], &table["rows"], &table["dead_letters"]),
        (&json!(2), &json!(400), &json!(40))
    );
    assert_eq!(status["last"]["compactions"]["clicks"]["report"]["merges"], 2);

    let after = run(&service).await;
    for view in ["per_page", "overall"] {
        assert_eq!(service.answer(&after, view).await, service.answer(&before, view).await);
    }
    assert_eq!(done(&service, "compact").await["tables"]["clicks"]["merges"], 0);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_reads_stays_until_it_has_ended() {
    let store = memory();
    let service = Service::start(&store, SQL, by_hand()).await;
    for start in 0..10 {
        land(&store, &service.catalog, 0, start * 5..start * 5 + 5).await;
    }
    let version = service.get("/v1/batch/maintenance").await.1["tables"]["clicks"]["version"]
        .as_u64()
        .unwrap();
    let leases = Leases::new(&store);
    leases.renew(&reader(version)).await.unwrap();
    done(&service, "compact").await;

    let report = done(&service, "vacuum").await;
    let table = &report["tables"]["clicks"];
    assert_eq!((&table["files"], &table["pinned"]), (&json!(0), &json!(10)), "{report}");
    assert_eq!(data_files(&store).await, 11);

    // A run that begins now reads the merged file, and does not keep the others.
    leases.renew(&reader(version + 1)).await.unwrap();
    let foreseen = done(&service, "vacuum?dry_run=true").await;
    assert_eq!(data_files(&store).await, 11);
    let report = done(&service, "vacuum").await;
    assert_eq!(report["tables"], foreseen["tables"]);
    assert_eq!(report["tables"]["clicks"]["files"], 10);
    assert_eq!(data_files(&store).await, 1);
    assert_eq!(service.answer(&run(&service).await, "overall").await, ["50"]);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_batch_view_holds_yet_does_not_expire() {
    let store = memory();
    let service = Service::start(&store, &keeping_30_days(), by_hand()).await;
    let old_us = Utc::now().timestamp_micros() - 60 * DAY_US;
    land_at(&store, &service.catalog, 0, 0..50, Some(old_us)).await;
    let nothing = done(&service, "retention?dry_run=true").await;
    assert_eq!(nothing["tables"]["clicks"]["partitions"], json!({}), "{nothing}");

    run(&service).await;
    land_at(&store, &service.catalog, 0, 50..80, Some(old_us)).await;
    land_at(&store, &service.catalog, 1, 0..7, Some(old_us)).await;
    let report = done(&service, "retention").await;
    let partitions = report["tables"]["clicks"]["partitions"].as_object().unwrap();
    assert_eq!(partitions.len(), 1, "{report}");
    assert_eq!(partitions["clicks/0"]["since"], 50);
    let published = publication(&store, 2).await;
    assert_eq!(service.answer(&published, "overall").await, ["37"]);

    // The first run ends where there is a hole now. It is named: another one may follow by itself at any moment.
    let report = done(&service, "retention").await;
    assert_eq!(report["tables"]["clicks"]["partitions"]["clicks/0"]["since"], 80);
    let run_id = service.task("/v1/batch/rollback", &json!({"to": "1"})).await;
    let record = service.wait_for(&run_id, "failed").await;
    assert!(record["error"].as_str().unwrap().contains("have expired"), "{record}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_lose_what_expires() {
    let store = memory();
    let service = Service::start(&store, &keeping_30_days(), by_hand()).await;
    let now_us = Utc::now().timestamp_micros();
    land_at(&store, &service.catalog, 0, 0..50, Some(now_us - 60 * DAY_US)).await;
    land_at(&store, &service.catalog, 0, 50..90, Some(now_us - 31 * DAY_US)).await;
    land_at(&store, &service.catalog, 0, 90..100, Some(now_us - 29 * DAY_US)).await;
    land_at(&store, &service.catalog, 1, 0..7, Some(now_us)).await;
    assert_eq!(service.answer(&run(&service).await, "overall").await, ["107"]);

    let foreseen = done(&service, "retention?dry_run=true").await;
    let table = &foreseen["tables"]["clicks"];
    assert_eq!(
        foreseen["tables"].as_object().unwrap().len(),
        1,
        "orders are kept: {foreseen}"
    );
    // Dead letters go as well: five and four.
    assert_eq!((&table["rows"], &table["files"]), (&json!(99), &json!(4)), "{foreseen}");
    let partition = &table["partitions"]["clicks/0"];
    assert_eq!((&partition["from"], &partition["since"]), (&json!(0), &json!(90)));
    assert!(table["bytes"].as_u64().unwrap() > 0);
    assert_eq!(table["partitions"].as_object().unwrap().len(), 1);
    let (_, status) = service.get("/v1/batch/maintenance").await;
    assert_eq!(status["tables"]["clicks"]["rows"], 107, "nothing has changed");
    assert_eq!(status["tables"]["clicks"]["retention"], "30days");

    let report = done(&service, "retention").await;
    assert_eq!(report["tables"]["clicks"]["partitions"], table["partitions"]);
    // A run follows by itself.
    let publication = publication(&store, 2).await;
    assert_eq!(service.answer(&publication, "overall").await, ["17"]);
    let since = &publication.manifest.notes["clicks"].since;
    assert_eq!(since.get(PartitionId(0)), Some(Offset(90)));
    let (_, runs) = service.get("/v1/batch/runs").await;
    assert_eq!(runs["runs"][0]["trigger"], "retention");
    // And no more than one.
    let again = done(&service, "retention").await;
    assert_eq!(again["tables"]["clicks"]["partitions"], json!({}));
    assert_eq!(service.answer(&run(&service).await, "overall").await, ["17"]);
    let (_, runs) = service.get("/v1/batch/runs").await;
    assert_eq!(runs["runs"].as_array().unwrap().len(), 3, "{runs}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_files_go_when_nobody_can_serve_them() {
    let store = memory();
    let mut settings = by_hand();
    settings.maintenance.keep_publications = 1;
    settings.maintenance.keep_runs = 1;
    let service = Service::start(&store, SQL, settings).await;
    land(&store, &service.catalog, 0, 0..30).await;
    let mut published = Vec::new();
    for _ in 0..4 {
        published.push(run(&service).await);
    }
    let files = async |publication: &Publication| {
        let folder = Runs::folder(&publication.manifest.run_id);
        objects(&store, folder.as_ref()).await.len()
    };
    let each = files(&published[0]).await;
    assert!(each >= 2, "per_page and overall");
    // Serving still answers from the first; a run builds on the second.
    let leases = Leases::new(&store);
    let serving = Lease {
        kind: "serve".into(),
        id: "s".into(),
        facts: json!({"publication": 1}),
        ..reader(0)
    };
    leases.renew(&serving).await.unwrap();
    let incremental = Lease {
        facts: json!({"running": [{"run_id": "r", "base": published[1].manifest.run_id, "cuts": {}}], "queued": []}),
        ..reader(0)
    };
    leases.renew(&incremental).await.unwrap();

    let foreseen = done(&service, "vacuum?dry_run=true").await;
    assert_eq!(files(&published[2]).await, each);
    let report = done(&service, "vacuum").await;
    assert_eq!(report["runs"], foreseen["runs"]);
    assert_eq!(
        (&report["runs"]["state_files"], &report["runs"]["records"]),
        (&json!(each), &json!(1))
    );
    let left = [
        files(&published[0]).await,
        files(&published[1]).await,
        files(&published[2]).await,
        files(&published[3]).await,
    ];
    assert_eq!(left, [each, each, 0, each]);
    assert_eq!(
        service
            .get(&format!("/v1/batch/runs/{}", published[2].manifest.run_id))
            .await
            .0,
        404
    );

    // Back to one that is gone: refused. Back to one that somebody held: done.
    let publications = Publications::new(&store);
    let refused = publications.roll_back(4, 3).await.unwrap_err();
    assert!(matches!(refused, DatasetError::CleanedAway { number: 3 }), "{refused}");
    let back = publications.roll_back(4, 2).await.unwrap();
    assert_eq!(service.answer(&back, "overall").await, ["30"]);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn young_state_files_stay() {
    let store = memory();
    let mut settings = by_hand();
    settings.maintenance.keep_publications = 1;
    settings.maintenance.vacuum_after = Duration::from_secs(3600).into();
    let service = Service::start(&store, SQL, settings).await;
    land(&store, &service.catalog, 0, 0..30).await;
    for _ in 0..3 {
        run(&service).await;
    }
    let report = done(&service, "vacuum").await;
    assert_eq!(report["runs"], json!({"state_files": 0, "bytes": 0, "records": 0}));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_happens_by_itself_while_events_land() {
    let store = memory();
    let mut settings = by_hand();
    settings.maintenance.enabled = true;
    for every in [&mut settings.maintenance.every, &mut settings.maintenance.vacuum_every] {
        *every = Duration::from_millis(20).into();
    }
    settings.maintenance.compact_min_files = 4;
    let service = Service::start(&store, SQL, settings).await;
    for start in 0..60 {
        land(&store, &service.catalog, 0, start * 5..start * 5 + 5).await;
    }
    eventually(async || {
        let left = data_files(&store).await;
        (left < 10).then_some(()).ok_or_else(|| format!("{left} files"))
    })
    .await;
    let (_, status) = service.get("/v1/batch/maintenance").await;
    assert_eq!(status["done_by"], "batch-under-test");
    assert_eq!(status["last"]["error"], Value::Null, "{status}");
    assert_eq!(service.answer(&run(&service).await, "overall").await, ["300"]);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_that_leads_does_it() {
    let store = memory();
    let mut settings = by_hand();
    settings.maintenance.enabled = true;
    settings.maintenance.every = Duration::from_millis(20).into();
    let leader = Service::start_as("b", &store, SQL, settings.clone()).await.unwrap();
    let other = Service::start_as("a", &store, SQL, settings).await.unwrap();
    for start in 0..16 {
        land(&store, &other.catalog, 0, start * 5..start * 5 + 5).await;
    }
    // Whichever is asked, the leader answers.
    for service in [&leader, &other] {
        eventually(async || {
            let (_, status) = service.get("/v1/batch/maintenance").await;
            let merged = status["last"]["compactions"]["clicks"].is_object();
            (merged && status["done_by"] == "b")
                .then_some(())
                .ok_or_else(|| status.to_string())
        })
        .await;
    }
    leader.stop().await;
    eventually(async || {
        let (_, status) = other.get("/v1/batch/maintenance").await;
        (status["done_by"] == "a")
            .then_some(())
            .ok_or_else(|| status.to_string())
    })
    .await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_make_no_sense_are_refused() {
    let store = memory();
    let service = Service::start(&store, SQL, by_hand()).await;
    let (status, answer) = service.post("/v1/batch/maintenance/compact?table=nothing").await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")));
    assert!(
        answer["error"]["message"].as_str().unwrap().contains("clicks, orders"),
        "{answer}"
    );
    for query in ["dry_run=perhaps", "tables=clicks"] {
        let (status, answer) = service.post(&format!("/v1/batch/maintenance/retention?{query}")).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid")), "{query}");
        assert!(answer["error"]["hint"].as_str().unwrap().contains("dry_run"));
    }
    // Tables that nothing was landed in, and that keep everything, are no trouble.
    let report = done(&service, "run").await;
    assert_eq!((&report["compaction"], &report["retention"]), (&json!({}), &json!({})));
    service.stop().await;
}

#[test]
fn leases_name_what_is_read() {
    let facts = [
        json!({"running": [{"run_id": "a", "base": "z", "cuts": {"clicks": {"version": 7, "next": {}}, "orders": {"version": null, "next": {}}}}], "queued": ["b"]}),
        json!({"running": [{"run_id": "c", "cuts": {"clicks": {"version": 4, "next": {}}}}]}),
        json!({"rollback": 9}),
        json!({"rollback": null}),
    ];
    let reading = Reading::of(facts.iter());
    assert_eq!(reading.versions["clicks"], BTreeSet::from([4, 7]));
    assert!(!reading.versions.contains_key("orders"), "the empty cut reads nothing");
    assert_eq!(reading.publications, [9].into());
    assert_eq!(reading.runs, ["a", "b", "c", "z"].map(str::to_owned).into());
}

#[tokio::test]
async fn old_records_of_the_audit_log_go_with_a_vacuum() {
    let store = memory();
    let audit = anabranch_access::Audit::new(Some(&store), None);
    let now = chrono::Utc::now();
    for age_days in [0, 10] {
        let record = anabranch_access::AuditRecord {
            at: now - chrono::TimeDelta::days(age_days),
            who: "ann".into(),
            role: "admin".into(),
            from: "cli".into(),
            service: "cli".into(),
            action: "token create".into(),
            outcome: "ok".into(),
        };
        audit.record(&record).await;
    }
    let mut settings = by_hand();
    settings.access.audit_retention = Some(Duration::from_secs(5 * 86_400).into());
    let service = Service::start(&store, SQL, settings).await;
    let removed = async |path: &str| service.post_json(path, &json!({})).await.1["audit_records"].clone();
    assert_eq!(removed("/v1/batch/maintenance/vacuum?dry_run=true").await, 1);
    assert_eq!(removed("/v1/batch/maintenance/vacuum").await, 1);
    assert_eq!(removed("/v1/batch/maintenance/vacuum").await, 0);
    let since = (now - chrono::TimeDelta::days(100)).date_naive();
    let left = anabranch_access::audit_records(&store, since, 10).await.unwrap();
    assert_eq!(left.len(), 1);
    service.stop().await;
}
