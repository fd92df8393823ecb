use serde_json::{Value, json};

use crate::support::{World, click, eventually};

/// An answer without what only says how long it took.
fn timeless(mut answer: Value) -> Value {
    answer.as_object_mut().unwrap().remove("elapsed_ms");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn several_serving_processes_answer_alike() {
    let first = World::start().await;
    let worker = first.worker("w1", 1, &[0, 1]).await;
    let second = first.beside("serve-2").await;
    eventually("the second one knows the worker", async || {
        second.sql("SELECT hits FROM totals").await.1["coverage"]["totals"]["exact"] == true
    })
    .await;
    let mut log = Vec::new();
    for round in 0..8u64 {
        let batch: Vec<_> = (0..5)
            .map(|n| click(["a", "b", "c"][(round as usize + n) % 3], n as i64))
            .collect();
        worker.consume("clicks", 0, &batch);
        log.extend(batch);
        let through = log.len();
        if round % 3 == 1 {
            let published = first.publish(round, &[(0, &log[..through - 2]), (1, &[])]).await;
            for serving in [&first, &second] {
                eventually("the publication is adopted", async || {
                    serving.get("/v1/status").await.1["publication"]["number"] == published.number
                })
                .await;
            }
        }
        let query = |sql: &str| json!({"sql": sql, "require": "exact", "at_least": {"web-clicks/0": through}});
        for sql in [
            "SELECT page, hits, total FROM pages ORDER BY page",
            "SELECT sum(hits) FROM totals",
            // Twice: what one of them keeps must not make a difference.
            "SELECT page, hits, total FROM pages ORDER BY page",
        ] {
            let (one, other) = (
                first.post("/v1/sql", &query(sql)).await,
                second.post("/v1/sql", &query(sql)).await,
            );
            assert_eq!(one.0, 200, "{one:?}");
            assert_eq!(timeless(one.1), timeless(other.1), "{sql}");
        }
        let rows = format!("/v1/views/pages/rows?page=a&at_least=%7B%22web-clicks/0%22:{through}%7D&require=exact");
        let (one, other) = (first.get(&rows).await, second.get(&rows).await);
        assert_eq!(one.0, 200, "{one:?}");
        assert_eq!(timeless(one.1), timeless(other.1));
        let sum = second.query("SELECT CAST(sum(hits) AS BIGINT) FROM pages").await;
        assert_eq!(sum, json!([[through]]));
    }
    assert_eq!(
        first.get("/v1/views/pages").await.1["coverage"],
        second.get("/v1/views/pages").await.1["coverage"]
    );
    second.stop().await;
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn require_exact_waits_and_then_names_the_partition_that_nobody_owns() {
    let world = World::start().await;
    // The topic has two partitions; partition 1 is in nobody's lease.
    let worker = world.worker("w1", 1, &[0]).await;
    worker.consume("clicks", 0, &[click("a", 1)]);
    let (status, answer) = world.sql("SELECT hits FROM totals").await;
    assert_eq!((status, &answer["coverage"]["totals"]["exact"]), (200, &json!(false)));
    assert_eq!(answer["coverage"]["totals"]["missing"], json!(["web-clicks/1"]));

    let wait = std::time::Duration::from_millis(300);
    let asked = std::time::Instant::now();
    let demand = json!({"sql": "SELECT hits FROM totals", "require": "exact", "timeout": "300ms"});
    let (status, refused) = world.post("/v1/sql", &demand).await;
    assert_eq!(status, 503, "{refused}");
    assert!(
        refused["error"]["message"].as_str().unwrap().contains("web-clicks/1"),
        "{refused}"
    );
    assert!(asked.elapsed() >= wait, "it did not wait");
    for path in [
        "/v1/views/totals/rows?require=exact&timeout=300ms",
        "/v1/views/totals?require=exact&timeout=300ms",
    ] {
        let asked = std::time::Instant::now();
        let (status, refused) = world.get(path).await;
        assert_eq!(status, 503, "{path}: {refused}");
        assert!(refused.to_string().contains("web-clicks/1"), "{path}: {refused}");
        assert!(asked.elapsed() >= wait, "{path}: it did not wait");
    }
    // As soon as somebody owns it, the answer is exact.
    worker.own("clicks", 1, 1);
    world.announce(&worker).await;
    let (status, answer) = world.get("/v1/views/totals/rows?require=exact").await;
    assert_eq!((status, &answer["rows"]), (200, &json!([[1]])), "{answer}");
    world.stop().await;
}
