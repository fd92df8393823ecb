use anabranch_runtime::{HumanDuration, Settings};
use serde_json::json;
use std::time::Duration;

use crate::support::{Event, World, click};

async fn shop() -> (World, crate::support::Worker) {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    worker.own("orders", 0, 1);
    worker.own("orders", 1, 1);
    world.announce(&worker).await;
    let hour = 3_600_000_000;
    let at = |page, n, hours: i64| Event {
        at: hours * hour,
        ..click(page, n)
    };
    let history = [at("home", 1, 0), at("home", 2, 1), at("cart", 3, 1)];
    worker.consume("clicks", 0, &history);
    worker.consume("clicks", 1, &[at("home", 4, 2), at("o'brien", 5, 2)]);
    worker.consume("orders", 0, &[click("cart", 10), click("home", 1)]);
    world.publish_and_adopt(3, &[(0, &history)]).await;
    (world, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_subqueries_ctes_and_windows_work_over_merged_views() {
    let (world, _worker) = shop().await;
    let joined = world
        .query("SELECT p.page, p.hits, s.sold FROM pages p JOIN sales s ON p.page = s.page ORDER BY p.page")
        .await;
    assert_eq!(joined, json!([["cart", 1, 10], ["home", 3, 1]]));
    let cte = world
        .query("WITH busy AS (SELECT page FROM pages WHERE hits > (SELECT avg(hits) FROM pages)) SELECT * FROM busy")
        .await;
    assert_eq!(cte, json!([["home"]]));
    let ranked = world
        .query("SELECT page, row_number() OVER (ORDER BY hits DESC, page) AS place FROM pages ORDER BY place LIMIT 2")
        .await;
    assert_eq!(ranked, json!([["home", 1], ["cart", 2]]));
    let union = world
        .query("SELECT page FROM pages UNION SELECT page FROM sales ORDER BY page")
        .await;
    assert_eq!(union, json!([["cart"], ["home"], ["o'brien"]]));
    assert_eq!(world.query("SELECT 1 + 1 AS two").await, json!([[2]]));
    assert_eq!(world.query("SELECT count(*) FROM public.pages").await, json!([[3]]));
    assert_eq!(
        world.query("SELECT count(*) FROM generate_series(1, 3), pages").await,
        json!([[9]])
    );
    let (_, answer) = world.sql("EXPLAIN SELECT * FROM pages").await;
    assert!(answer["row_count"].as_u64().unwrap() > 0, "{answer}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_on_keys_reach_the_workers_and_all_filters_hold() {
    let (world, worker) = shop().await;
    let cases = [
        (
            "SELECT page, hits FROM pages WHERE page = 'home'",
            json!([["home", 3]]),
            true,
        ),
        (
            "SELECT page, hits FROM pages WHERE 'home' = page AND hits > 2",
            json!([["home", 3]]),
            true,
        ),
        (
            "SELECT page, hits FROM pages WHERE page = 'o''brien'",
            json!([["o'brien", 1]]),
            true,
        ),
        ("SELECT page FROM pages WHERE page LIKE 'h%'", json!([["home"]]), true),
        (
            "SELECT page FROM pages WHERE page IN ('cart', 'nope')",
            json!([["cart"]]),
            true,
        ),
        (
            "SELECT page FROM pages WHERE upper(page) = 'CART'",
            json!([["cart"]]),
            true,
        ),
        ("SELECT page FROM pages WHERE hits = 3", json!([["home"]]), false),
        (
            "SELECT page FROM pages WHERE page = 'cart' OR hits = 3 ORDER BY page",
            json!([["cart"], ["home"]]),
            false,
        ),
        (
            "SELECT hour, page FROM hours WHERE hour = '1970-01-01T01:00:00Z' ORDER BY page",
            json!([["1970-01-01T01:00:00Z", "cart"], ["1970-01-01T01:00:00Z", "home"]]),
            true,
        ),
        (
            "SELECT page FROM hours WHERE hour >= TIMESTAMP '1970-01-01 01:00:00' AND hour < '1970-01-01T02:00:00Z' AND page < 'd'",
            json!([["cart"]]),
            true,
        ),
        (
            "SELECT page FROM hours WHERE hour > '1970-01-01T01:00:00Z' ORDER BY page",
            json!([["home"], ["o'brien"]]),
            true,
        ),
        ("SELECT page FROM pages WHERE page > 'home'", json!([["o'brien"]]), true),
        ("SELECT count(*) FROM pages WHERE page IS NULL", json!([[0]]), true),
        ("SELECT page FROM pages WHERE page ~ '^h'", json!([["home"]]), true),
        // What may fail for a group is asked of each.
        (
            "SELECT page FROM pages WHERE TRY_CAST(page AS BIGINT) IS NOT NULL OR page = 'cart'",
            json!([["cart"]]),
            true,
        ),
        (
            "SELECT count(*) FROM hours WHERE date_trunc('day', hour) = '1970-01-01T00:00:00Z'",
            json!([[5]]),
            false,
        ),
    ];
    for (sql, expected, pushed) in cases {
        worker.tickets();
        assert_eq!(world.query(sql).await, expected, "{sql}");
        let tickets = worker.tickets();
        assert_eq!(tickets.len(), 1, "{sql}");
        assert_eq!(tickets[0].filter.is_some(), pushed, "{sql}: {:?}", tickets[0].filter);
    }
    for sql in [
        "SELECT count(*) FROM pages WHERE CAST(page AS BIGINT) > 5",
        "SELECT count(*) FROM pages WHERE 1 / (character_length(page) - 4) > 0",
        "SELECT count(*) FROM pages WHERE page ~ '('",
        "SELECT count(*) FROM hours WHERE hour >= to_timestamp('soon')",
    ] {
        let (status, answer) = world.sql(sql).await;
        assert_eq!(
            status, 400,
            "what fails for a group leaves it out nowhere: {sql}: {answer}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_a_query_is_refused() {
    let (world, _worker) = shop().await;
    for sql in [
        "DROP TABLE pages",
        "CREATE TABLE x AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE VIEW x AS SELECT 1",
        "INSERT INTO pages VALUES (1)",
        "DELETE FROM pages",
        "UPDATE pages SET hits = 1",
        "COPY pages TO '/tmp/x.csv'",
        "COPY (SELECT 1) TO '/tmp/x.csv' STORED AS CSV",
        "SET datafusion.execution.batch_size = 1",
        "SHOW TABLES",
        "RESET ALL",
        "EXPLAIN DROP TABLE pages",
        "EXPLAIN ANALYZE INSERT INTO pages VALUES (1)",
        "SELECT 1; SELECT 2",
        "SELECT * INTO x FROM pages",
        "BEGIN",
        "PREPARE x AS SELECT 1",
        "",
        "SELEC page FROM pages",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM pages ORDER BY nothing_like_it",
        "TABLE clicks",
    ] {
        let (status, answer) = world.sql(sql).await;
        assert_eq!(
            (status, answer["error"]["code"].as_str()),
            (400, Some("invalid")),
            "{sql}: {answer}"
        );
    }
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM clicks",
    ] {
        let (status, answer) = world.sql(sql).await;
        assert_eq!(
            (status, answer["error"]["code"].as_str()),
            (404, Some("not_found")),
            "{sql}: {answer}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_come_with_the_nearest_known_one() {
    let (world, _worker) = shop().await;
    let (status, answer) = world.sql("SELECT * FROM page").await;
    assert_eq!(
        (status, answer["error"]["hint"].clone()),
        (404, json!("did you mean `pages`?")),
        "{answer}"
    );
    let (status, answer) = world.sql("SELECT hit FROM pages").await;
    assert_eq!(
        (status, answer["error"]["hint"].clone()),
        (400, json!("did you mean `hits`?")),
        "{answer}"
    );
    let (status, answer) = world.sql("SELECT p.pge FROM pages p WHERE p.hits > 1").await;
    assert_eq!(
        (status, answer["error"]["hint"].clone()),
        (400, json!("did you mean `page`?")),
        "{answer}"
    );
    let (status, answer) = world.get("/v1/views/hour").await;
    assert_eq!(
        (status, answer["error"]["hint"].clone()),
        (404, json!("did you mean `hours`?")),
        "{answer}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_make_no_request_are_refused_in_the_error_format() {
    let world = World::start().await;
    let send = async |body: Vec<u8>| {
        let response = world
            .http
            .post(format!("{}/v1/sql", world.base))
            .body(body)
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        (status, response.json::<serde_json::Value>().await.unwrap())
    };
    for body in ["", "{", "[]", "{\"sql\": 1}", "{\"sql\": \"SELECT 1\", \"limit\": 3}"] {
        let (status, answer) = send(body.into()).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer["error"]["hint"].is_string(), "{body}: {answer}");
    }
    let (status, answer) = send(vec![b' '; (2 << 20) + 1]).await;
    assert_eq!(
        (status, answer["error"]["code"].as_str()),
        (413, Some("invalid")),
        "{answer}"
    );
    for (path, expected) in [
        ("/v1/sql", 405),
        ("/v1/nothing", 404),
        ("/nowhere", 404),
        ("/v1/views/%ff", 400),
        ("/v1/views/%ff/rows", 400),
    ] {
        let (status, answer) = world.get(path).await;
        assert_eq!(status, expected);
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_takes_too_long_is_stopped() {
    let mut settings = Settings::default();
    settings.serving.query_timeout = HumanDuration(Duration::from_millis(300));
    let world = World::with_settings(settings).await;
    // By itself it takes minutes, on any machine.
    let sql = "SELECT count(*) FROM generate_series(1, 100000000000) a(x) WHERE x % 7 = 3";
    let (status, answer) = world.post("/v1/sql", &json!({"sql": sql, "timeout": 0})).await;
    assert_eq!(status, 504, "{answer}");
    world.stop().await;
}
