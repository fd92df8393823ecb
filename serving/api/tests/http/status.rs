use serde_json::json;

use crate::support::{World, click};

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_partitions_publication_and_services() {
    let world = World::start().await;
    let (status, empty) = world.get("/v1/status").await;
    assert_eq!((status, empty["publication"].clone()), (200, json!(null)));
    assert_eq!(empty["sources"]["clicks"]["partitions"], json!({}));

    let worker = world.worker("w1", 4, &[0, 1]).await;
    worker.consume("clicks", 0, &[click("a", 1), click("b", 1)]);
    world.publish_and_adopt(5, &[(0, &[click("a", 1)])]).await;
    let (_, answer) = world.get("/v1/status").await;
    let clicks = &answer["sources"]["clicks"];
    assert_eq!(
        clicks["partitions"]["web-clicks/0"],
        json!({"owner": "w1", "epoch": 4, "next_consumed": 2, "next_landed": 1, "end": 5, "lag": 3, "not_landed": 1,
               "open_segments": 1, "sealed_segments": 4})
    );
    assert_eq!(
        (clicks["lag"].clone(), clicks["sealed_segments"].clone()),
        (json!(6), json!(8))
    );
    assert_eq!(clicks["dead_letters"], 2);
    assert_eq!(clicks["columns_never_seen"], json!(["blob"]));
    assert_eq!(clicks["landed"]["events"], 0);
    assert_eq!(answer["publication"]["number"], 1);
    assert_eq!(answer["publication"]["cuts"]["clicks"]["next"], json!({"0": 1}));
    assert!(answer["publication"]["age_seconds"].as_f64().unwrap() >= 0.0);
    assert_eq!(answer["services"]["speed"][0]["answers"], true);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_tell_their_columns_plan_and_coverage() {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    worker.consume("clicks", 0, &[click("a", 1)]);
    let (_, answer) = world.get("/v1/views").await;
    let names: Vec<&str> = answer["views"]
        .as_array()
        .unwrap()
        .iter()
        .map(|view| view["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["blobs", "hours", "pages", "sales", "totals"]);

    let (status, view) = world.get("/v1/views/hours").await;
    assert_eq!(status, 200);
    assert_eq!(
        view["columns"],
        json!([
            {"name": "hour", "type": "TIMESTAMP", "key": true},
            {"name": "page", "type": "TEXT", "key": true},
            {"name": "hits", "type": "BIGINT", "key": false},
            {"name": "dearest", "type": "DECIMAL(10,2)", "key": false},
            {"name": "score", "type": "DOUBLE", "key": false},
        ])
    );
    assert!(view["definition"].as_str().unwrap().contains("tumble(at"));
    assert_eq!(view["hash"], world.view("hours").hash().as_str());
    assert!(view["plan"].is_object());
    assert_eq!(
        view["coverage"]["served_through"],
        json!({"web-clicks/0": 1, "web-clicks/1": 0})
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics() {
    let world = World::start().await;
    assert_eq!(
        world.get("/healthz").await,
        (200, json!({"service": "serve", "status": "ok"}))
    );
    assert_eq!(world.get("/readyz").await.0, 200);
    world.sql("SELECT 1").await;
    let (status, answer) = world.get("/metrics").await;
    assert_eq!(status, 200);
    let text = answer["text"].as_str().unwrap_or_default();
    for name in ["anabranch_serving_requests_total", "anabranch_serving_request_seconds"] {
        assert!(text.contains(name), "{name} in {text}");
    }
    world.stop().await;
}
