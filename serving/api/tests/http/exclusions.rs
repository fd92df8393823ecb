use std::sync::Arc;

use anabranch_dataset::{MasterDataset, Notes};
use serde_json::{Value, json};

use crate::support::{World, click, eventually, range};

/// Creates the table of `clicks`, as a first landing does.
async fn create(world: &World) -> MasterDataset {
    let source = Arc::clone(&world.catalog.sources["clicks"]);
    MasterDataset::open(&world.store, &source, "a log").await.unwrap()
}

async fn coverage(world: &World) -> Value {
    let (status, answer) = world.sql("SELECT hits FROM pages").await;
    assert_eq!(status, 200, "{answer}");
    answer["coverage"]["pages"].clone()
}

fn offsets(ranges: &[(i64, i64)]) -> Value {
    let ranges = ranges.iter().map(|(start, end)| json!({"start": start, "end": end}));
    ranges.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn exclusions_are_recorded_listed_and_undone() {
    let world = World::start().await;
    let path = "/v1/tables/clicks/exclusions";
    assert_eq!(
        world.get(path).await.1["exclusions"],
        json!([]),
        "nothing was ever landed"
    );
    let body = json!({"partition": 0, "offsets": "10..20", "reason": "bad release", "by": "ada"});
    let (status, refused) = world.post(path, &body).await;
    assert_eq!(status, 404, "{refused}");
    let dataset = create(&world).await;

    let (status, first) = world.post(path, &body).await;
    assert_eq!(status, 201, "{first}");
    assert_eq!(
        (
            &first["partition"],
            &first["offsets"],
            &first["reason"],
            &first["by"],
            &first["published"]
        ),
        (
            &json!(0),
            &json!("10..20"),
            &json!("bad release"),
            &json!("ada"),
            &json!(true)
        )
    );
    // What another process adds is listed too.
    dataset
        .exclude(anabranch_model::PartitionId(1), range(0, 5), "a test", "bob")
        .await
        .unwrap();
    let (_, list) = world.get(path).await;
    assert_eq!(list["exclusions"].as_array().unwrap().len(), 2, "{list}");
    assert_eq!(
        list["excluded"],
        json!({"0": offsets(&[(10, 20)]), "1": offsets(&[(0, 5)])})
    );

    let id = first["id"].as_u64().unwrap();
    let (status, undone) = world.delete(&format!("{path}/{id}")).await;
    assert_eq!((status, &undone["id"]), (200, &first["id"]));
    assert_eq!(world.delete(&format!("{path}/{id}")).await.0, 404);
    assert_eq!(dataset.notes().await.unwrap().exclusions.len(), 1);

    for (body, word) in [
        (json!({"partition": 0, "offsets": "20..10", "reason": "r"}), "A..B"),
        (json!({"partition": 0, "offsets": "7", "reason": "r"}), "A..B"),
        (json!({"partition": 0, "offsets": "1..2", "reason": " "}), "reason"),
        (json!({"partition": -1, "offsets": "1..2", "reason": "r"}), "partition"),
        (json!({"partition": 0, "offsets": "1..2"}), "reason"),
    ] {
        let (status, refused) = world.post(path, &body).await;
        assert_eq!(status, 400, "{body}: {refused}");
        assert!(refused.to_string().contains(word), "{body}: {refused}");
    }
    let (status, unknown) = world.get("/v1/tables/click/exclusions").await;
    assert_eq!(status, 404);
    assert!(unknown.to_string().contains("clicks"), "{unknown}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coverage_says_what_is_really_left_out_and_what_still_counts() {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    let events: Vec<_> = (0..10).map(|n| click("a", n)).collect();
    worker.consume("clicks", 0, &events);
    let before = coverage(&world).await;
    assert!(
        before.get("excluded").is_none() && before.get("still_included").is_none(),
        "{before}"
    );

    world.publish_and_adopt(3, &[(0, &events[..6]), (1, &[])]).await;
    create(&world).await;
    let path = "/v1/tables/clicks/exclusions";
    let body = json!({"partition": 0, "offsets": "4..8", "reason": "r"});
    let (status, excluded) = world.post(path, &body).await;
    assert_eq!((status, &excluded["published"]), (201, &json!(false)), "{excluded}");
    let pending = coverage(&world).await;
    assert_eq!(
        pending["still_included"],
        json!({"web-clicks/0": offsets(&[(4, 8)])}),
        "{pending}"
    );
    assert!(pending.get("excluded").is_none());

    // The worker folds its part again; the batch view still has the rest.
    worker.leave_out("clicks", 0, range(4, 8));
    let half = coverage(&world).await;
    assert_eq!(half["excluded"], json!({"web-clicks/0": offsets(&[(6, 8)])}));
    assert_eq!(half["still_included"], json!({"web-clicks/0": offsets(&[(4, 6)])}));

    let notes = Notes::clone(&create(&world).await.known_notes());
    let publication = world.publish_noted(5, &[(0, &events[..6]), (1, &[])], notes).await;
    eventually("the run that applies it is served", async || {
        coverage(&world).await["publication"] == publication.number
    })
    .await;
    let done = coverage(&world).await;
    assert_eq!(done["excluded"], json!({"web-clicks/0": offsets(&[(4, 8)])}));
    assert!(done.get("still_included").is_none(), "{done}");
    assert_eq!(done["exact"], true);
    assert_eq!(world.get(path).await.1["exclusions"][0]["published"], true);

    // Included again, but not recomputed yet: it is still left out, and the answer says so.
    let id = excluded["id"].as_u64().unwrap();
    world.delete(&format!("{path}/{id}")).await;
    assert_eq!(
        coverage(&world).await["excluded"],
        json!({"web-clicks/0": offsets(&[(4, 8)])})
    );
    world.stop().await;
}
