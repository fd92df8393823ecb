//! The schema `anabranch`: what the HTTP API says of the site, in SQL.

use serde_json::json;

use crate::support::{World, click};

#[tokio::test(flavor = "multi_thread")]
async fn system_tables_say_what_the_api_says() {
    let world = World::start().await;
    let worker = world.worker("w1", 4, &[0, 1]).await;
    let history = [click("a", 1)];
    worker.consume("clicks", 0, &[click("a", 1), click("b", 1)]);
    world.publish_and_adopt(5, &[(0, &history)]).await;

    let views = world
        .query("SELECT name, source, publication FROM anabranch.views ORDER BY name LIMIT 2")
        .await;
    assert_eq!(views, json!([["blobs", "clicks", 1], ["hours", "clicks", 1]]));
    let written = world
        .query("SELECT definition FROM anabranch.views WHERE name = 'pages'")
        .await;
    assert!(written[0][0].as_str().unwrap().contains("SELECT"), "{written}");
    let partitions = world
        .query("SELECT source, partition, owner, epoch, next_consumed, next_landed, log_end, lag FROM anabranch.partitions ORDER BY 1, 2")
        .await;
    assert_eq!(partitions[0], json!(["clicks", 0, "w1", 4, 2, 1, 5, 3]));
    let coverage = world
        .query(
            "SELECT partition, publication, batch_version, batch_cut, served_through, missing
             FROM anabranch.coverage WHERE view = 'pages' ORDER BY partition",
        )
        .await;
    assert_eq!(coverage[0], json!(["web-clicks/0", 1, 5, 1, 2, false]));
    let workers = world
        .query("SELECT kind, id, answers FROM anabranch.workers WHERE kind = 'speed'")
        .await;
    assert_eq!(workers, json!([["speed", "w1", true]]));
    for table in ["runs", "dead_letters"] {
        let none = world.query(&format!("SELECT count(*) FROM anabranch.{table}")).await;
        assert_eq!(none, json!([[0]]), "{table}");
    }
    // They are tables like any others.
    let joined = world
        .query(
            "SELECT v.name, max(c.served_through) FROM anabranch.views v JOIN anabranch.coverage c ON c.view = v.name
             WHERE v.name IN (SELECT 'pages') GROUP BY v.name",
        )
        .await;
    assert_eq!(joined, json!([["pages", 2]]));
    let (status, answer) = world.sql("SELECT * FROM anabranch.nothing").await;
    assert_eq!(status, 404, "{answer}");
    world.stop().await;
}
