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
    world.stop().await;
}
