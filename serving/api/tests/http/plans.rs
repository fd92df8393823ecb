//! Plans that are kept, values that are lifted out of statements, and reads of single groups that are put together.

use anabranch_runtime::Settings;
use serde_json::{Value, json};

use crate::support::{World, click};

async fn shop() -> (World, crate::support::Worker) {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    let history = [click("home", 1), click("home", 2), click("cart", 3)];
    worker.consume("clicks", 0, &history);
    worker.consume("clicks", 1, &[click("home", 4), click("o'brien", 5)]);
    world.publish_and_adopt(3, &[(0, &history)]).await;
    (world, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_asked_again_finds_what_has_come_meanwhile() {
    let (world, worker) = shop().await;
    let sql = "SELECT page, hits FROM pages WHERE page = 'home'";
    for more in 0..3 {
        assert_eq!(world.query(sql).await, json!([["home", 3 + more]]));
        worker.consume("clicks", 1, &[click("home", 1)]);
    }
    let (status, answer) = world.sql(sql).await;
    assert_eq!(
        (status, &answer["coverage"]["pages"]["exact"]),
        (200, &json!(true)),
        "{answer}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_and_demands_are_of_each_request_though_the_statement_is_the_same() {
    let (world, _worker) = shop().await;
    let sql = "SELECT hits FROM pages WHERE page = 'home'";
    let ask = async |more: Value| {
        let mut body = json!({"sql": sql});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.post("/v1/sql", &body).await
    };
    for _ in 0..2 {
        for (more, hits, exact) in [
            (json!({}), 3, true),
            (json!({"layer": "batch"}), 2, false),
            (json!({"layer": "realtime"}), 1, false),
            (json!({"require": "exact"}), 3, true),
        ] {
            let (status, answer) = ask(more.clone()).await;
            assert_eq!((status, &answer["rows"]), (200, &json!([[hits]])), "{more}: {answer}");
            assert_eq!(answer["coverage"]["pages"]["exact"], exact, "{more}");
        }
        let (status, answer) = ask(json!({"at_least": {"web-clicks/0": 9}, "timeout": "20ms"})).await;
        assert_eq!(status, 504, "{answer}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_other_types_and_null_mean_what_they_mean_in_text() {
    let (world, _worker) = shop().await;
    let all = json!([["cart"], ["home"], ["o'brien"]]);
    for (condition, expected) in [
        ("page = 'home'", json!([["home"]])),
        ("page = 'o''brien'", json!([["o'brien"]])),
        ("page = 'nobody'", json!([])),
        ("page = ''", json!([])),
        ("page = NULL", json!([])),
        ("page = 'home' AND page = 'cart'", json!([])),
        ("page = 'home' AND hits = 3", json!([["home"]])),
        ("hits = 3", json!([["home"]])),
        ("hits = '3'", json!([["home"]])),
        ("hits = 3.0", json!([["home"]])),
        ("hits = 2.5", json!([])),
        ("hits > -1", all.clone()),
        ("hits < 9223372036854775807", all.clone()),
        ("hits < 9223372036854775808", all.clone()),
        ("page >= 'a' AND 100 > hits", all.clone()),
        ("page <> 'home' AND hits <> 7", json!([["cart"], ["o'brien"]])),
    ] {
        for _ in 0..2 {
            let sql = format!("SELECT page FROM pages WHERE {condition} ORDER BY page");
            assert_eq!(world.query(&sql).await, expected, "{condition}");
        }
    }
    for limit in [1, 2, 1] {
        let sql = format!("SELECT page FROM pages WHERE hits > 0 ORDER BY page LIMIT {limit}");
        assert_eq!(world.query(&sql).await.as_array().unwrap().len(), limit);
    }
    // One statement with values of several types, one after the other.
    for (value, expected) in [
        (json!("home"), json!([["home"]])),
        (json!(null), json!([])),
        (json!(7), json!([])),
        (json!(true), json!([])),
        (json!("home"), json!([["home"]])),
    ] {
        let body = json!({"sql": "SELECT page FROM pages WHERE page = $1", "parameters": [value]});
        let (status, answer) = world.post("/v1/sql", &body).await;
        assert_eq!((status, &answer["rows"]), (200, &expected), "{body}: {answer}");
    }
    let body = json!({"sql": "SELECT page FROM pages WHERE page = $1"});
    assert_eq!(world.post("/v1/sql", &body).await.0, 400, "a value is missing");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_in_the_words_of_the_statement_each_time() {
    let (world, _worker) = shop().await;
    for (sql, status, told) in [
        ("SELECT page FROM pages WHERE pge = 'home'", 400, "pge"),
        ("SELECT page FROM pgs WHERE page = 'home'", 404, "pgs"),
        ("SELECT page FROM pages WHERE hits = 'many'", 400, "many"),
        ("SELECT page FROM pages WHERE page = 'home", 400, ""),
    ] {
        for _ in 0..2 {
            let (given, answer) = world.sql(sql).await;
            assert_eq!(given, status, "{sql}: {answer}");
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(message.contains(told) && !message.contains("$1"), "{sql}: {message}");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn now_is_the_time_of_each_query() {
    let (world, _worker) = shop().await;
    let sql = "SELECT now() FROM pages WHERE page = 'home'";
    let first = world.query(sql).await;
    assert_ne!(world.query(sql).await, first);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn system_tables_are_read_anew_and_a_view_is_no_system_table() {
    let (world, worker) = shop().await;
    let sql = "SELECT count(*) FROM anabranch.partitions WHERE source = 'clicks'";
    let before = world.query(sql).await;
    assert_eq!(world.query(sql).await, before);
    worker.own("clicks", 2, 1);
    world.announce(&worker).await;
    crate::support::eventually("the partition is listed", async || world.query(sql).await != before).await;
    assert_eq!(
        world.sql("SELECT * FROM anabranch.pages WHERE page = 'home'").await.0,
        404
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_for_single_groups_each_get_their_own() {
    let (world, worker) = shop().await;
    let world = std::sync::Arc::new(world);
    worker.be_slow(std::time::Duration::from_millis(5));
    let asked = (0..120).map(|number| {
        let world = std::sync::Arc::clone(&world);
        tokio::spawn(async move {
            let (page, hits) = [("home", 3), ("cart", 1), ("o'brien", 1), ("nobody", 0)][number % 4];
            let expected = if hits == 0 { json!([]) } else { json!([[page, hits]]) };
            let (status, answer) = if number % 8 < 4 {
                let body = json!({"sql": "SELECT page, hits FROM pages WHERE page = $1", "parameters": [page]});
                world.post("/v1/sql", &body).await
            } else {
                world
                    .get(&format!("/v1/views/pages/rows?page={page}&columns=page,hits"))
                    .await
            };
            assert_eq!((status, &answer["rows"]), (200, &expected), "{page}: {answer}");
        })
    });
    for one in asked.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    let tickets = worker.tickets();
    assert!(tickets.iter().all(|ticket| ticket.filter.is_some()));
    std::sync::Arc::into_inner(world).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_query_over_many_groups_goes_the_long_way_and_reads_once() {
    let world = World::with_settings(Settings::default()).await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    let names: Vec<&'static str> = (0..20_000).map(|i| &*format!("p{i:05}").leak()).collect();
    let events: Vec<_> = names.iter().map(|name| click(name, 1)).collect();
    worker.consume("clicks", 0, &events);
    worker.tickets();
    let all = world
        .query("SELECT page FROM pages WHERE page >= 'p00000' ORDER BY page")
        .await;
    assert_eq!(all.as_array().unwrap().len(), names.len());
    assert_eq!(worker.tickets().len(), 1, "what was read to find that out is used");
    assert_eq!(
        world.query("SELECT page FROM pages WHERE page = 'p12345'").await,
        json!([["p12345"]])
    );
    world.stop().await;
}
