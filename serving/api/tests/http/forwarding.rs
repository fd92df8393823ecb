use std::time::Duration;

use anabranch_dataset::{Lease, Leases};
use anabranch_runtime::{ByteSize, Settings};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::support::{World, eventually, serve};

#[tokio::test(flavor = "multi_thread")]
async fn ingest_is_streamed_to_a_speed_worker_with_query_and_headers() {
    let world = World::start().await;
    let (status, answer) = world.post("/v1/ingest/clicks", &json!({})).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("unavailable")));
    assert!(
        answer["error"]["hint"].as_str().unwrap().contains("anabranch speed"),
        "{answer}"
    );

    world.worker("w1", 1, &[0, 1]).await;
    let url = format!("{}/v1/ingest/clicks?on_invalid=dead_letter&key=a%20b", world.base);
    let chunks = (0..64).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 64 << 10]));
    let request = world
        .http
        .post(&url)
        .header("content-type", "application/x-ndjson")
        .header("x-custom", "kept")
        .body(reqwest::Body::wrap_stream(futures::stream::iter(chunks)));
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        answer,
        json!({"method": "POST", "uri": "/v1/ingest/clicks?on_invalid=dead_letter&key=a%20b",
               "content_type": "application/x-ndjson", "custom": "kept", "bytes": 4 << 20, "start": "x".repeat(20)})
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused_whether_or_not_its_length_is_declared() {
    let mut settings = Settings::default();
    settings.serving.max_ingest_body = ByteSize(1 << 20);
    let world = World::with_settings(settings).await;
    world.worker("w1", 1, &[0, 1]).await;
    let url = format!("{}/v1/ingest/clicks", world.base);
    let declared = world
        .http
        .post(&url)
        .body(vec![b'x'; (1 << 20) + 1])
        .send()
        .await
        .unwrap();
    assert_eq!(declared.status().as_u16(), 413);
    let chunks = (0..64).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 64 << 10]));
    let chunked = world
        .http
        .post(&url)
        .body(reqwest::Body::wrap_stream(futures::stream::iter(chunks)))
        .send()
        .await;
    if let Ok(answer) = chunked {
        assert_eq!(answer.status().as_u16(), 413);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_requests_go_to_the_batch_service() {
    let world = World::start().await;
    assert_eq!(world.post("/v1/batch/runs", &json!({})).await.0, 503);
    let router = Router::new()
        .route(
            "/v1/batch/runs",
            post(async || (axum::http::StatusCode::ACCEPTED, Json(json!({"run_id": "r1"})))),
        )
        .route(
            "/v1/batch/runs/{id}",
            get(async || {
                (
                    axum::http::StatusCode::NOT_FOUND,
                    Json(json!({"error": {"code": "not_found"}})),
                )
            }),
        )
        .route(
            "/v1/batch/status",
            get(async || Json(json!({"running": null, "last": {"run_id": "r0"}}))),
        );
    let address = serve(router).await;
    let lease = Lease {
        kind: "batch".into(),
        id: "b1".into(),
        address: format!("http://{address}"),
        facts: json!({"running": []}),
        ttl: Duration::from_secs(600),
    };
    Leases::new(&world.store).renew(&lease).await.unwrap();
    eventually("the batch service is known", async || {
        world.post("/v1/batch/runs", &json!({})).await == (202, json!({"run_id": "r1"}))
    })
    .await;
    assert_eq!(
        world.get("/v1/batch/runs/none").await,
        (404, json!({"error": {"code": "not_found"}}))
    );
    assert_eq!(world.get("/v1/status").await.1["runs"]["last"]["run_id"], "r0");

    // Gone without a word.
    let lease = Lease {
        address: "http://127.0.0.1:9".into(),
        ..lease
    };
    Leases::new(&world.store).renew(&lease).await.unwrap();
    eventually("the dead address is known", async || {
        world.post("/v1/batch/runs", &json!({})).await.0 == 503
    })
    .await;
    world.stop().await;
}
