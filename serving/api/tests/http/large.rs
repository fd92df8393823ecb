//! Views beyond memory, and answers from their ends.

use anabranch_runtime::{ByteSize, Settings};
use serde_json::{Value, json};

use crate::support::{Event, World, click};

const GROUPS: usize = 60_000;

fn page(number: usize) -> &'static str {
    // A test's few thousand names, for as long as it runs.
    Box::leak(format!("/page/{number:07}").into_boxed_str())
}

async fn world(memory: ByteSize) -> (World, crate::support::Worker) {
    let mut settings = Settings::default();
    settings.serving.state_memory = memory;
    let world = World::with_settings(settings).await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    let history: Vec<Event> = (0..GROUPS).map(|n| click(page(n), n as i64)).collect();
    let live: Vec<Event> = (0..GROUPS + 600).step_by(601).map(|n| click(page(n), 1)).collect();
    worker.consume("clicks", 0, &history);
    worker.consume("clicks", 1, &live);
    world.publish_and_adopt(1, &[(0, &history)]).await;
    (world, worker)
}

/// What the log says of a page: one event each of history, and one more of every 601st.
fn truth(number: usize) -> Value {
    let touched = number.is_multiple_of(601);
    let known = number < GROUPS;
    json!([
        page(number),
        i64::from(touched) + i64::from(known),
        if known { number as i64 } else { 0 } + i64::from(touched)
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_larger_than_its_memory_gives_the_same_answers() {
    let queries = [
        "SELECT * FROM pages WHERE page = '/page/0012020'",
        "SELECT * FROM pages WHERE page = '/page/0060100'",
        "SELECT * FROM pages WHERE page IN ('/page/0000000', '/page/0000601', '/page/0059999', 'nobody') ORDER BY page",
        "SELECT * FROM pages WHERE page >= '/page/0029990' AND page < '/page/0030060' ORDER BY page",
        "SELECT * FROM pages ORDER BY page LIMIT 5",
        "SELECT * FROM pages ORDER BY page DESC LIMIT 5",
        "SELECT * FROM pages ORDER BY page DESC LIMIT 3 OFFSET 600",
        "SELECT page, hits FROM pages WHERE hits > 1 ORDER BY page LIMIT 7",
        "SELECT hits, page FROM pages ORDER BY hits DESC, page LIMIT 7",
        "SELECT count(*), sum(hits), sum(total), min(page), max(page) FROM pages",
        "SELECT p.page, q.hits FROM pages p JOIN pages q ON p.page = q.page WHERE p.page LIKE '%0601' ORDER BY 1",
        "SELECT hits, count(*) FROM pages GROUP BY hits ORDER BY hits",
    ];
    let (small, _small_worker) = world(ByteSize::mib(1)).await;
    let (large, _large_worker) = world(ByteSize::mib(1024)).await;
    for sql in queries {
        assert_eq!(small.query(sql).await, large.query(sql).await, "{sql}");
    }
    assert_eq!(small.query(queries[0]).await, json!([truth(12_020)]));
    assert_eq!(small.query(queries[1]).await, json!([truth(60_100)]));
    let firsts: Vec<Value> = (0..5).map(truth).collect();
    assert_eq!(small.query(queries[4]).await, json!(firsts));
    let paths = [
        "/v1/views/pages/rows?limit=5",
        "/v1/views/pages/rows?limit=5&offset=600",
        "/v1/views/pages/rows?limit=5&order=-page",
        "/v1/views/pages/rows?limit=5&order=-hits,page",
        "/v1/views/pages/rows?page=/page/0000601",
        "/v1/views/pages/rows?hits.gt=1&limit=3",
    ];
    for path in paths {
        let (status, answer) = small.get(path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        assert_eq!(answer["rows"], large.get(path).await.1["rows"], "{path}");
    }
    small.stop().await;
    large.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_in_key_order_needs_no_sort() {
    let (world, _worker) = world(ByteSize::mib(1024)).await;
    for (sql, sorts) in [
        ("SELECT page FROM pages ORDER BY page LIMIT 5", false),
        ("SELECT page FROM pages ORDER BY page DESC LIMIT 5", false),
        ("SELECT page FROM pages WHERE hits > 1 ORDER BY page LIMIT 5", false),
        ("SELECT page FROM pages ORDER BY hits LIMIT 5", true),
    ] {
        let plan = world.query(&format!("EXPLAIN {sql}")).await.to_string();
        assert!(plan.contains("MergedScan"), "{sql}: {plan}");
        assert_eq!(plan.contains("SortExec"), sorts, "{sql}: {plan}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_query_reads_is_bounded_by_its_memory() {
    let mut settings = Settings::default();
    settings.serving.query_memory = ByteSize::mib(1);
    let world = World::with_settings(settings).await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    let history: Vec<Event> = (0..GROUPS).map(|n| click(page(n), n as i64)).collect();
    worker.consume("clicks", 0, &history);
    let refused = |(status, answer): (u16, Value)| {
        let hint = answer["error"]["hint"].as_str().unwrap_or_default();
        assert!(status == 400 && hint.contains("query_memory"), "{status}: {answer}");
    };
    // All of it is realtime state, which comes over the network for each query.
    refused(world.sql("SELECT count(*) FROM pages").await);
    refused(world.get("/v1/views/pages/rows?limit=1").await);
    assert_eq!(
        world.query("SELECT hits FROM pages WHERE page = '/page/0000007'").await,
        json!([[1]])
    );

    world.publish_and_adopt(1, &[(0, &history)]).await;
    refused(world.get("/v1/views/pages/rows").await);
    // A page is cut from what passes by; all of it is never held.
    for (path, first) in [
        ("order=-total", GROUPS - 1),
        ("order=hits,-total", GROUPS - 1),
        ("order=page", 0),
    ] {
        let (status, answer) = world.get(&format!("/v1/views/pages/rows?limit=2&{path}")).await;
        assert_eq!(status, 200, "{path}: {answer}");
        assert_eq!(answer["rows"][0][0], page(first), "{path}: {answer}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_query_that_is_too_large_is_not_read_to_its_end() {
    let (world, _worker) = world(ByteSize::mib(1024)).await;
    let most = Settings::default().serving.live_max_rows;
    for query in ["", "order=-hits", "limit=50000", "offset=20000"] {
        let (status, answer) = world.get(&format!("/v1/views/pages/live?{query}")).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(status, 413, "{query}: {answer}");
        let rest = message.split_once("at least ").expect("it says how many were read").1;
        let read: usize = rest.split(' ').next().unwrap().parse().unwrap();
        assert!(read > most && read < GROUPS / 2, "{query}: {message}");
    }
    world.stop().await;
}
