//! Values in the place of `$1`, `$2`, ….

use serde_json::{Value, json};

use crate::support::{World, click};

#[tokio::test(flavor = "multi_thread")]
async fn parameters_take_the_type_that_the_query_gives_them() {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    worker.consume("clicks", 0, &[click("home", 1), click("home", 2), click("cart", 3)]);
    world.announce(&worker).await;
    let send = async |sql: &str, parameters: Value| {
        world
            .post("/v1/sql", &json!({"sql": sql, "parameters": parameters}))
            .await
    };
    for (sql, parameters, expected) in [
        ("SELECT hits FROM pages WHERE page = $1", json!(["home"]), json!([[2]])),
        (
            "SELECT page FROM pages WHERE hits >= $1 AND page <> $2",
            json!([1, "home"]),
            json!([["cart"]]),
        ),
        (
            "SELECT page FROM pages WHERE hits = $1",
            json!(["2"]),
            json!([["home"]]),
        ),
        ("SELECT page FROM pages WHERE page = $1", json!([null]), json!([])),
        (
            "SELECT page FROM pages ORDER BY page LIMIT $1",
            json!([1]),
            json!([["cart"]]),
        ),
        (
            "SELECT count(*) FROM hours WHERE hour >= $1",
            json!(["1970-01-01T00:00:00Z"]),
            json!([[2]]),
        ),
        ("SELECT $1", json!(["text"]), json!([["text"]])),
        // Lists are arrays of what the query compares them with, or casts them to.
        (
            "SELECT page FROM pages WHERE page = ANY($1) ORDER BY page",
            json!([["home", "cart", null, "nothing"]]),
            json!([["cart"], ["home"]]),
        ),
        (
            "SELECT page FROM pages WHERE hits = ANY($1)",
            json!([["2", null, 7]]),
            json!([["home"]]),
        ),
        (
            "SELECT page FROM pages WHERE page <> ALL($1) AND hits = ANY($2)",
            json!([["home"], [1.0, 2]]),
            json!([["cart"]]),
        ),
        (
            "SELECT count(*) FROM pages WHERE page = ANY($1)",
            json!([[]]),
            json!([[0]]),
        ),
        (
            "SELECT count(*) FROM pages WHERE page = ANY($1)",
            json!([[null]]),
            json!([[0]]),
        ),
        (
            "SELECT count(*) FROM pages WHERE page = ANY($1)",
            json!([null]),
            json!([[0]]),
        ),
        (
            "SELECT count(*) FROM hours WHERE hour = ANY($1)",
            json!([["1970-01-01T00:00:00Z", null]]),
            json!([[2]]),
        ),
        (
            "SELECT $1::bigint[], $2::decimal(20, 0)[], $3::text[], $4::bigint[][], $5::boolean[]",
            json!([
                [1, "2", null],
                [u64::MAX, -1],
                [1, "a", true],
                [[1], null, [], [null, 2]],
                [true, null]
            ]),
            json!([[
                [1, 2, null],
                [u64::MAX.to_string(), "-1"],
                ["1", "a", "true"],
                [[1], null, [], [null, 2]],
                [true, null]
            ]]),
        ),
        ("SELECT $1", json!([[[1, 2], [3.5]]]), json!([[[[1.0, 2.0], [3.5]]]])),
        ("SELECT cardinality($1::text[])", json!([["a", null]]), json!([[2]])),
    ] {
        let (status, answer) = send(sql, parameters).await;
        assert_eq!((status, &answer["rows"]), (200, &expected), "{sql}: {answer}");
    }
    for (sql, parameters) in [
        ("SELECT hits FROM pages WHERE page = $1", json!([])),
        ("SELECT hits FROM pages WHERE page = $1", json!(["a", "b"])),
        ("SELECT page FROM pages WHERE hits = $1", json!(["many"])),
        ("SELECT page FROM pages WHERE hits = $1", json!([1.5])),
        ("SELECT hits FROM pages WHERE page = $1", json!([["home"]])),
        ("SELECT hits FROM pages WHERE page = ANY($1)", json!(["home"])),
        ("SELECT hits FROM pages WHERE page = ANY($1)", json!([{"page": "home"}])),
        (
            "SELECT hits FROM pages WHERE page = ANY($1)",
            json!([["home", ["cart"]]]),
        ),
        ("SELECT hits FROM pages WHERE page = $page", json!(["home"])),
        ("SELECT hits FROM pages WHERE page = $0", json!(["home"])),
    ] {
        let (status, answer) = send(sql, parameters).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!("invalid")),
            "{sql}: {answer}"
        );
    }
    // What does not fit is named, and its place in the list.
    for (sql, parameters, named) in [
        (
            "SELECT hits FROM pages WHERE page = $1 AND hits = ANY($2)",
            json!(["home", [1, 2.5, 3]]),
            "element 2 of $2 is 2.5, which is no BIGINT",
        ),
        (
            "SELECT hits FROM pages WHERE hits = ANY($1)",
            json!([["1", "many"]]),
            "element 2 of $1 is many, which is no BIGINT",
        ),
        (
            "SELECT hits FROM hours WHERE hour = ANY($1)",
            json!([["yesterday"]]),
            "element 1 of $1 is yesterday, which is no TIMESTAMP",
        ),
        (
            "SELECT hits FROM pages WHERE page = $1",
            json!([["home"]]),
            "$1 is [home], which is no TEXT",
        ),
        (
            "SELECT hits FROM pages WHERE page = ANY($1)",
            json!(["home"]),
            "$1 is home, which is no TEXT[]",
        ),
        (
            "SELECT hits FROM pages WHERE page = $1",
            json!([{"a": 1}]),
            "$1 is {\"a\":1}, with an object",
        ),
    ] {
        let (status, answer) = send(sql, parameters).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 400 && message.contains(named), "{sql}: {status} {answer}");
    }
    world.stop().await;
}
