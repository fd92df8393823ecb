use serde_json::{Value, json};

use crate::support::{Event, World, click};

async fn world() -> (World, crate::support::Worker) {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    let history: Vec<Event> = ["a", "b", "b", "c", "c", "c", "#en.wikipedia"]
        .map(|page| click(page, 10))
        .into();
    worker.consume("clicks", 0, &history);
    worker.consume(
        "clicks",
        1,
        &[
            click("d,e", 1),
            Event {
                n: Some(7),
                ..Event::default()
            },
        ],
    );
    world.publish_and_adopt(3, &[(0, &history)]).await;
    (world, worker)
}

async fn rows(world: &World, query: &str) -> Value {
    let (status, answer) = world.get(&format!("/v1/views/pages/rows?{query}")).await;
    assert_eq!(status, 200, "{query}: {answer}");
    assert_eq!(answer["coverage"]["pages"]["exact"], true);
    answer["rows"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_order_pages_and_columns() {
    let (world, worker) = world().await;
    let everything = json!([
        ["#en.wikipedia", 1, 10],
        ["a", 1, 10],
        ["b", 2, 20],
        ["c", 3, 30],
        ["d,e", 1, 1],
        [null, 1, 7]
    ]);
    assert_eq!(rows(&world, "").await, everything, "in the order of the key, null last");
    let cases = [
        ("page=%23en.wikipedia", json!([["#en.wikipedia", 1, 10]])),
        ("page.eq=b&hits=2", json!([["b", 2, 20]])),
        ("hits.gte=2&order=-hits", json!([["c", 3, 30], ["b", 2, 20]])),
        ("hits.gt=1&hits.lt=3&columns=page", json!([["b"]])),
        (
            "page.ne=a&page.lte=b&columns=hits,page",
            json!([[1, "#en.wikipedia"], [2, "b"]]),
        ),
        ("page.in=a,c&columns=page", json!([["a"], ["c"]])),
        ("page.null=true", json!([[null, 1, 7]])),
        (
            "page.null=false&order=hits,-page&limit=2&columns=page",
            json!([["d,e"], ["a"]]),
        ),
        ("order=-hits,page&limit=1&offset=1&columns=page", json!([["b"]])),
        ("offset=5", json!([[null, 1, 7]])),
        ("offset=50", json!([])),
        ("limit=0", json!([])),
        ("total=10&columns=page", json!([["#en.wikipedia"], ["a"]])),
        ("total.gt=19&columns=page", json!([["b"], ["c"]])),
        ("page=d%2Ce&columns=total", json!([[1]])),
        ("page=nobody", json!([])),
    ];
    for (query, expected) in cases {
        assert_eq!(rows(&world, query).await, expected, "{query}");
    }
    worker.tickets();
    rows(&world, "page=b&hits.gte=1").await;
    assert_eq!(
        worker.tickets()[0].filter.as_deref(),
        Some("((\"page\" = 'b'))"),
        "only what concerns the key"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_read_as_the_columns_type() {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    let event = Event {
        page: Some("x"),
        at: 1_442_019_600_000_001,
        price: Some(1_250),
        score: Some(0.5),
        blob: Some(b"\x00\xff"),
        ..Event::default()
    };
    worker.consume("clicks", 0, &[event]);
    let hit = json!([["2015-09-12T01:00:00Z", "x", 1, "12.50", 0.5]]);
    for (query, found) in [
        ("hour=2015-09-12T01:00:00Z", true),
        ("hour=2015-09-12T03:00:00%2B02:00", true),
        ("hour.gte=2015-09-12", true),
        ("hour.lt=2015-09-12T01:00:00Z", false),
        ("dearest=12.5", true),
        ("dearest.gt=12.50", false),
        ("score=0.5", true),
        ("score.lt=1e-3", false),
        ("hits.in=%201,2", true),
    ] {
        let (status, answer) = world.get(&format!("/v1/views/hours/rows?{query}")).await;
        assert_eq!(status, 200, "{query}: {answer}");
        assert_eq!(answer["rows"], if found { hit.clone() } else { json!([]) }, "{query}");
    }
    for (query, found) in [
        ("blob=AP8%3D", true),
        ("blob=AP8A", false),
        ("day=2015-09-12", true),
        ("day.gt=2015-09-12", false),
    ] {
        let (status, answer) = world.get(&format!("/v1/views/blobs/rows?{query}")).await;
        assert_eq!(status, 200, "{query}: {answer}");
        let expected = if found {
            json!([["AP8=", "2015-09-12", "2015-09-12T01:00:00.000001Z"]])
        } else {
            json!([])
        };
        assert_eq!(answer["rows"], expected, "{query}");
    }
    for query in [
        "hour=yesterday",
        "hour=",
        "dearest=much",
        "hits=1.5",
        "hits=99999999999999999999",
        "hits.null=perhaps",
        "score=x",
    ] {
        let (status, answer) = world.get(&format!("/v1/views/hours/rows?{query}")).await;
        assert_eq!(
            (status, answer["error"]["code"].as_str()),
            (400, Some("invalid")),
            "{query}: {answer}"
        );
        assert!(answer["error"]["hint"].is_string(), "{query}: {answer}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_columns_comparisons_and_parameters_are_named() {
    let (world, _worker) = world().await;
    for (query, hint) in [
        ("pgae=a", "did you mean `page`?"),
        ("order=hit", "did you mean `hits`?"),
        ("columns=page,totl", "did you mean `total`?"),
        ("limti=3", "did you mean `limit`?"),
        ("hits.above=3", "there are eq, ne, gt, gte, lt, lte, in and null"),
        ("limit=many", "give a number of rows"),
        ("require=roughly", "the only demand is \"exact\""),
    ] {
        let (status, answer) = world.get(&format!("/v1/views/pages/rows?{query}")).await;
        assert_eq!(
            (status, answer["error"]["hint"].as_str()),
            (400, Some(hint)),
            "{query}: {answer}"
        );
    }
    assert_eq!(world.get("/v1/views/nothing/rows").await.0, 404);
    world.stop().await;
}
