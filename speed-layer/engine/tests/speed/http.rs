use std::io::Write;

use anabranch_model::OffsetVector;
use serde_json::{Value, json};

use crate::harness::*;

async fn post(worker: &Worker, path: &str, body: Vec<u8>) -> (u16, Value) {
    let answer = reqwest::Client::new()
        .post(worker.url(path))
        .body(body)
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn ndjson(events: &[Event]) -> Vec<u8> {
    events
        .iter()
        .flat_map(|event| [event.json(), b"\n".to_vec()].concat())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingested_lines_are_answered_and_counted() {
    let world = World::new();
    let worker = world.start("a").await;
    let all = events(0..1_000);
    let (status, answer) = post(&worker, "/v1/ingest/clicks?key=url", ndjson(&all)).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(1000)));
    let ends = world.log.ends().await.unwrap();
    for (partition, end) in ends.iter().filter(|(_, end)| end.0 > 0) {
        assert_eq!(answer["through"][format!("clicks/{partition}")], end.0);
    }
    let mut reader = worker.reader().await;
    assert_eq!(reader.answers(&OffsetVector::new(), &ends).await, truth(&all));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_line_refuses_the_body_unless_told_otherwise() {
    let world = World::new();
    let worker = world.start("a").await;
    let good = events(0..3);
    let body = [ndjson(&good[..2]), b"\n{\"ts\": 7\n".to_vec(), ndjson(&good[2..])].concat();
    let (status, answer) = post(&worker, "/v1/ingest/clicks", body.clone()).await;
    assert_eq!(status, 400);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("line 4: "), "{message}");
    assert!(
        world.log.ends().await.unwrap().iter().all(|(_, end)| end.0 == 0),
        "nothing was produced"
    );

    let (status, answer) = post(&worker, "/v1/ingest/clicks?on_invalid=dead_letter", body).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(4)));
    world.landed().await;
    let status = worker.status().await;
    assert_eq!(status["sources"]["clicks"]["dead_letters"], 1);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_ingested_says_why() {
    let mut world = World::new();
    world.settings.serving.max_ingest_body = anabranch_runtime::ByteSize(1_000);
    let worker = world.start("a").await;
    let (status, answer) = post(&worker, "/v1/ingest/nothing", Vec::new()).await;
    assert_eq!((status, &answer["error"]["hint"]), (404, &json!("tables: clicks")));
    let (status, answer) = post(&worker, "/v1/ingest/clicks?key=nothing", Vec::new()).await;
    assert_eq!(status, 400);
    assert!(answer["error"]["hint"].as_str().unwrap().contains("user_id"));
    let (status, answer) = post(&worker, "/v1/ingest/clicks?on_invalid=ignore", Vec::new()).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid")));
    let (status, _) = post(&worker, "/v1/ingest/clicks", ndjson(&events(0..100))).await;
    assert_eq!(status, 413);
    let (status, answer) = post(&worker, "/v1/ingest/clicks", Vec::new()).await;
    assert_eq!((status, answer), (200, json!({"accepted": 0, "through": {}})));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_bodies_are_taken() {
    let world = World::new();
    let worker = world.start("a").await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&ndjson(&events(0..50))).unwrap();
    let zstd = zstd::encode_all(&ndjson(&events(50..80))[..], 1).unwrap();
    for (encoding, body, count) in [("gzip", gzip.finish().unwrap(), 50), ("zstd", zstd, 30)] {
        let request = reqwest::Client::new()
            .post(worker.url("/v1/ingest/clicks"))
            .header("content-encoding", encoding);
        let answer: Value = request.body(body).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["accepted"], count, "{answer}");
    }
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics_are_there_and_the_lease_goes_with_the_worker() {
    let world = World::new();
    let worker = world.start("worker-1").await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            reqwest::get(worker.url(path)).await.unwrap().status().as_u16(),
            200,
            "{path}"
        );
    }
    world.append(&events(0..100)).await;
    world.landed().await;
    let leases = anabranch_dataset::Leases::new(&world.store);
    let lease = eventually("the lease says what it owns", async || {
        let lease = leases.list("speed").await.unwrap().pop()?;
        (lease.facts["sources"]["clicks"]["owned"]["0"]["next_landed"].as_i64()? > 0).then_some(lease)
    })
    .await;
    assert_eq!((lease.id.as_str(), lease.address), ("worker-1", worker.url("")));
    assert_eq!(lease.facts["sources"]["clicks"]["partitions_total"], PARTITIONS);
    assert_eq!(lease.facts["sources"]["clicks"]["owned"]["0"]["epoch"], 1);
    let metrics = reqwest::get(worker.url("/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains("anabranch_landed_events_total{table=\"clicks\"}"),
        "{metrics}"
    );
    assert!(metrics.contains("anabranch_topology_queue_fill"), "{metrics}");
    worker.stop().await.unwrap();
    assert!(leases.list("speed").await.unwrap().is_empty());
}
