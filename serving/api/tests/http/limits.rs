//! What queries may use, and what happens beyond it.

use std::time::Duration;

use anabranch_runtime::{ByteSize, HumanDuration, Settings};
use serde_json::{Value, json};

use crate::support::{World, click, eventually};

/// Computes for longer than any test waits.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000000000) a(x) WHERE x % 7 = 3";

fn settings(change: impl FnOnce(&mut anabranch_runtime::Serving)) -> Settings {
    let mut settings = Settings::default();
    settings.serving.query_timeout = HumanDuration(Duration::from_secs(300));
    change(&mut settings.serving);
    settings
}

/// Queries that compute, and queries that wait.
async fn queries(world: &World) -> (u64, u64) {
    let queries = world.get("/v1/status").await.1["queries"].clone();
    (
        queries["running"].as_u64().unwrap(),
        queries["waiting"].as_u64().unwrap(),
    )
}

fn begin(
    world: &World,
    sql: &str,
    accept: &'static str,
) -> tokio::task::JoinHandle<reqwest::Result<reqwest::Response>> {
    let request = world.http.post(format!("{}/v1/sql", world.base));
    let request = request.header("accept", accept).json(&json!({"sql": sql}));
    tokio::spawn(async move { request.send().await })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_stops_its_query() {
    let world = World::with_settings(settings(|_| {})).await;
    for accept in ["application/json", "text/csv"] {
        let query = begin(&world, ENDLESS, accept);
        eventually("the query runs", async || queries(&world).await == (1, 0)).await;
        query.abort();
        eventually("the query is gone", async || queries(&world).await == (0, 0)).await;
    }
    world.stop().await;
}

/// A join gives thousands of batches for one that it takes; more such queries than there are threads.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_stops_a_join_that_nothing_bounds() {
    const JOIN: &str = "SELECT count(*) FROM generate_series(1, 20000) a(x), generate_series(1, 20000) b(y), \
         generate_series(1, 20000) c(z) WHERE x + y > z";
    let world = World::with_settings(settings(|_| {})).await;
    let joins: Vec<_> = (0..4).map(|_| begin(&world, JOIN, "application/json")).collect();
    eventually("the joins run", async || queries(&world).await.0 >= 2).await;
    for join in joins {
        join.abort();
    }
    eventually("the joins are gone", async || queries(&world).await == (0, 0)).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_in_the_middle_of_an_answer_stops_its_query() {
    let world = World::with_settings(settings(|_| {})).await;
    for accept in [
        "text/csv",
        "application/x-ndjson",
        "application/vnd.apache.arrow.stream",
    ] {
        let query = begin(&world, "SELECT * FROM generate_series(1, 1000000000000) a(x)", accept);
        let mut response = query.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        for _ in 0..3 {
            assert!(!response.chunk().await.unwrap().unwrap().is_empty());
        }
        assert_eq!(queries(&world).await.0, 1, "{accept}");
        drop(response);
        eventually("the query is gone", async || queries(&world).await == (0, 0)).await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_queries_than_may_wait_are_turned_away_with_a_reason() {
    let world = World::with_settings(settings(|serving| {
        serving.max_queries = 1;
        serving.max_waiting_queries = 1;
    }))
    .await;
    let first = begin(&world, ENDLESS, "application/json");
    eventually("the first runs", async || queries(&world).await == (1, 0)).await;
    let second = begin(&world, "SELECT 1", "application/json");
    eventually("the second waits", async || queries(&world).await == (1, 1)).await;

    let third = begin(&world, "SELECT 1", "application/json").await.unwrap().unwrap();
    assert_eq!(third.status(), 503);
    assert_eq!(third.headers()["retry-after"], "1");
    let error: Value = third.json().await.unwrap();
    assert_eq!(error["error"]["code"], "overloaded", "{error}");
    assert!(
        error["error"]["hint"].as_str().unwrap().contains("max_queries"),
        "{error}"
    );
    let (status, rows) = world.get("/v1/views/pages/rows").await;
    assert_eq!((status, &rows["error"]["code"]), (503, &json!("overloaded")), "{rows}");

    first.abort();
    let second = second.await.unwrap().unwrap();
    assert_eq!(second.status(), 200, "the one that waited has its turn");
    world.stop().await;
}

/// Looks of live queries compute under the permits of queries.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_query_waits_for_its_turn_to_look() {
    let world = World::with_settings(settings(|serving| serving.max_queries = 1)).await;
    let _worker = world.worker("w1", 1, &[0, 1]).await;
    let query = begin(&world, ENDLESS, "application/json");
    eventually("the query runs", async || queries(&world).await == (1, 0)).await;
    let live = world.http.get(format!("{}/v1/views/pages/live", world.base));
    let live = tokio::spawn(async move { live.send().await.unwrap() });
    eventually("the look waits", async || {
        world.get("/v1/status").await.1["live_looks"] == json!({"running": 0, "waiting": 1})
    })
    .await;
    query.abort();
    let mut live = live.await.unwrap();
    assert_eq!(live.status(), 200, "it has its turn");
    let mut text = String::new();
    while !text.contains("event: snapshot") {
        text += std::str::from_utf8(&live.chunk().await.unwrap().unwrap()).unwrap();
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_waits_for_its_demand_lets_others_compute() {
    let world = World::with_settings(settings(|serving| {
        serving.max_queries = 1;
        // One who was handed the permit counts as waiting until it wakes up.
        serving.max_waiting_queries = 8;
    }))
    .await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    let url = format!("{}/v1/sql", world.base);
    let waits = world.http.post(&url).json(&json!({
        "sql": "SELECT count(*) FROM pages", "at_least": {"web-clicks/0": 1}, "timeout": 60
    }));
    let waits = tokio::spawn(async move { waits.send().await.unwrap().json::<Value>().await.unwrap() });
    // It asks again and again; in between, others have the only permit.
    for _ in 0..20 {
        assert_eq!(world.query("SELECT 1").await, json!([[1]]));
    }
    worker.consume("clicks", 0, &[click("home", 1)]);
    world.announce(&worker).await;
    let answer = waits.await.unwrap();
    assert_eq!(answer["rows"], json!([[1]]), "{answer}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_has_so_much_memory_and_all_of_them_have_so_much() {
    let greedy = "SELECT count(*) FROM (SELECT DISTINCT x * 7919 % 3000017 FROM generate_series(1, 3000000) a(x))";
    let world = World::with_settings(settings(|serving| serving.query_memory = ByteSize::mib(4))).await;
    let (status, answer) = world.sql(greedy).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid")), "{answer}");
    assert!(
        answer["error"]["hint"].as_str().unwrap().contains("query_memory"),
        "{answer}"
    );
    assert_eq!(world.query("SELECT 1").await, json!([[1]]), "others are not concerned");
    world.stop().await;

    let world = World::with_settings(settings(|serving| serving.total_query_memory = ByteSize::mib(4))).await;
    let (status, answer) = world.sql(greedy).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (503, &json!("overloaded")),
        "{answer}"
    );
    assert!(
        answer["error"]["hint"].as_str().unwrap().contains("total_query_memory"),
        "{answer}"
    );
    assert_eq!(world.query("SELECT 1").await, json!([[1]]), "and it is given back");
    world.stop().await;
}
