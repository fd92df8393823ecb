//! Latency of merged queries over loopback: HTTP in, one speed worker asked over Flight, batch view in memory.
//!
//! `cargo bench -p anabranch-serving`. Prints p50 and p99 per kind of query; `BENCH_GROUPS` and `BENCH_ROUNDS` change the size.

#[allow(dead_code, unused_imports)]
#[path = "../tests/http/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use support::{World, click};

fn number(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn main() {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(run());
}

async fn run() {
    let (groups, rounds) = (number("BENCH_GROUPS", 100_000), number("BENCH_ROUNDS", 500));
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    let page = |n: usize| -> &'static str { Box::leak(format!("/page/{n:07}").into_boxed_str()) };
    let history: Vec<_> = (0..groups).map(|n| click(page(n), n as i64)).collect();
    let live: Vec<_> = (0..groups / 100)
        .map(|n| click(page(n * 97 % (groups + groups / 50)), 1))
        .collect();
    worker.consume("clicks", 0, &history);
    worker.consume("clicks", 1, &live);
    world.publish_and_adopt(1, &[(0, &history)]).await;
    println!(
        "{groups} groups in the batch view, {} realtime events, {rounds} rounds",
        live.len()
    );

    let sql = |text: &str| serde_json::json!({"sql": text});
    let base = &world.base;
    let get = |path: &str| world.http.get(format!("{base}{path}"));
    let post = |text: &str| world.http.post(format!("{base}/v1/sql")).json(&sql(text));
    measure("healthz", rounds, || get("/healthz")).await;
    measure("rows, one group", rounds, || {
        get("/v1/views/pages/rows?page=/page/0000970")
    })
    .await;
    measure("SQL, one group", rounds, || {
        post("SELECT page, hits, total FROM pages WHERE page = '/page/0000970'")
    })
    .await;
    measure("SQL, no view", rounds, || post("SELECT 1")).await;
    measure("SQL, global view", rounds, || post("SELECT hits FROM totals")).await;
    let few = rounds.div_ceil(20);
    measure("SQL, top ten of all groups", few, || {
        post("SELECT page, hits FROM pages ORDER BY hits DESC, page LIMIT 10")
    })
    .await;
    measure("rows, top ten of all groups", few, || {
        get("/v1/views/pages/rows?order=-hits,page&limit=10")
    })
    .await;
    measure("SQL, aggregate of all groups", few, || {
        post("SELECT count(*), sum(total) FROM pages")
    })
    .await;
    measure("SQL, LIKE on the key", few, || {
        post("SELECT count(*) FROM pages WHERE page LIKE '%99'")
    })
    .await;
    world.stop().await;
}

async fn measure(what: &str, rounds: usize, request: impl Fn() -> reqwest::RequestBuilder) {
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds + 5 {
        let started = Instant::now();
        let answer = request().send().await.expect("an answer");
        assert!(
            answer.status().is_success(),
            "{what}: {}",
            answer.text().await.unwrap_or_default()
        );
        answer.bytes().await.expect("a body");
        if round >= 5 {
            times.push(started.elapsed());
        }
    }
    times.sort();
    let at = |share: f64| -> Duration { times[((times.len() - 1) as f64 * share) as usize] };
    println!("{what:32} p50 {:>10.3?}   p99 {:>10.3?}", at(0.5), at(0.99));
}
