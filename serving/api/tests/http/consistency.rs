use std::time::{Duration, Instant};

use anabranch_model::Offset;
use anabranch_model::realtime::Piece;
use serde_json::{Value, json};

use crate::support::{Worker, World, click, eventually, range};

#[tokio::test(flavor = "multi_thread")]
async fn batch_and_realtime_make_one_exact_answer_before_during_and_after_publications() {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    let first = [click("a", 1), click("b", 2), click("a", 3)];
    let second = [click("c", 4)];
    worker.consume("clicks", 0, &first);
    worker.consume("clicks", 1, &second);

    let expected = json!([["a", 2, 4], ["b", 1, 2], ["c", 1, 4]]);
    let sql = "SELECT page, hits, total FROM pages ORDER BY page";
    assert_eq!(world.query(sql).await, expected, "realtime only");
    let (_, answer) = world.sql(sql).await;
    assert_eq!(
        answer["coverage"]["pages"],
        json!({"publication": null, "batch_version": null, "batch_cut": {},
               "served_through": {"web-clicks/0": 3, "web-clicks/1": 1}, "missing": [], "exact": true})
    );

    world.publish_and_adopt(7, &[(0, &first[..2]), (1, &[])]).await;
    assert_eq!(world.query(sql).await, expected, "half and half");
    let (_, answer) = world.sql(sql).await;
    assert_eq!(
        answer["coverage"]["pages"],
        json!({"publication": 1, "batch_version": 7, "batch_cut": {"web-clicks/0": 2, "web-clicks/1": 0},
               "served_through": {"web-clicks/0": 3, "web-clicks/1": 1}, "missing": [], "exact": true})
    );

    world.publish_and_adopt(9, &[(0, &first), (1, &second)]).await;
    worker.tickets();
    assert_eq!(world.query(sql).await, expected, "batch only");
    assert!(
        worker.tickets().is_empty(),
        "nothing to read from a worker that holds nothing"
    );
    worker.consume("clicks", 1, &[click("c", 5)]);
    assert_eq!(
        world.query("SELECT total FROM pages WHERE page = 'c'").await,
        json!([[9]])
    );
    assert_eq!(world.query("SELECT hits FROM totals").await, json!([[5]]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_of_one_request_share_one_snapshot() {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    worker.consume("clicks", 0, &[click("a", 1)]);
    worker.asked();
    let rows = world
        .query("SELECT t.hits, sum(p.hits) FROM totals t, pages p GROUP BY t.hits")
        .await;
    assert_eq!(rows, json!([[1, 1]]));
    let asked = worker.asked();
    assert_eq!(asked.len(), 1);
    let names: Vec<&str> = asked[0].views.iter().map(|view| view.view.as_str()).collect();
    assert_eq!(names, ["pages", "totals"]);
    let tickets = worker.tickets();
    assert!(tickets.len() >= 2 && tickets.iter().all(|ticket| ticket.snapshot == tickets[0].snapshot));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_has_replaced_its_state_makes_serving_reload_the_publication() {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    worker.consume("clicks", 0, &[click("a", 1)]);
    worker.lie(
        "pages",
        2,
        Piece::CutTooOld {
            epoch: 1,
            held_from: Offset(1),
        },
    );
    assert_eq!(world.query("SELECT total FROM pages").await, json!([[1]]));
    assert_eq!(worker.asked().len(), 3);

    // For ever: what is unsettled is missing, and said to be.
    worker.lie(
        "pages",
        usize::MAX,
        Piece::CutAhead {
            epoch: 1,
            through: Offset(0),
        },
    );
    let (status, answer) = world.sql("SELECT total FROM pages").await;
    assert_eq!((status, answer["rows"].clone()), (200, json!([])));
    assert_eq!(
        answer["coverage"]["pages"]["missing"],
        json!(["web-clicks/0", "web-clicks/1"])
    );
    assert_eq!(answer["coverage"]["pages"]["exact"], false);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_does_not_meet_the_cut_is_refused() {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0]).await;
    let events = [click("a", 1), click("b", 2)];
    worker.consume("clicks", 0, &events);
    world.publish_and_adopt(1, &[(0, &events[..1])]).await;
    for (start, word) in [(2, "neither"), (0, "both")] {
        worker.lie(
            "pages",
            1,
            Piece::Ready {
                epoch: 1,
                range: range(start, 2),
            },
        );
        let (status, answer) = world.sql("SELECT * FROM pages").await;
        assert_eq!((status, answer["error"]["code"].as_str()), (500, Some("data")));
        assert!(answer["error"]["message"].as_str().unwrap().contains(word), "{answer}");
    }
    assert_eq!(world.sql("SELECT * FROM pages").await.0, 200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn require_exact_refuses_rather_than_leave_out() {
    let world = World::start().await;
    let nobody = world
        .post(
            "/v1/sql",
            &json!({"sql": "SELECT * FROM pages", "require": "exact", "timeout": "50ms"}),
        )
        .await;
    assert_eq!(nobody.0, 503);
    let worker = world.worker("w1", 1, &[0]).await;
    worker.consume("clicks", 0, &[click("a", 1)]);

    // Partition 1 exists and has no owner.
    let (status, answer) = world.sql("SELECT * FROM pages").await;
    assert_eq!(
        (status, answer["coverage"]["pages"]["missing"].clone()),
        (200, json!(["web-clicks/1"]))
    );
    let started = Instant::now();
    let (status, answer) = world.get("/v1/views/pages/rows?require=exact&timeout=200ms").await;
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("unavailable")));
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("web-clicks/1 (no speed worker owns it)"),
        "{answer}"
    );
    assert!(started.elapsed() >= Duration::from_millis(200));

    // It turns up while a request waits.
    let waiting = {
        let (http, url) = (
            world.http.clone(),
            format!("{}/v1/views/pages/rows?require=exact&timeout=120", world.base),
        );
        tokio::spawn(async move { http.get(url).send().await.unwrap().status().as_u16() })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = world.worker("w2", 1, &[1]).await;
    assert_eq!(waiting.await.unwrap(), 200);
    second.consume("clicks", 1, &[click("a", 5)]);
    assert_eq!(world.query("SELECT total FROM pages").await, json!([[6]]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_waits_for_what_was_ingested() {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    let body = |timeout: &str| json!({"sql": "SELECT sum(total) FROM pages", "at_least": {"web-clicks/0": 2}, "timeout": timeout});
    let (status, answer) = world.post("/v1/sql", &body("50ms")).await;
    assert_eq!(status, 504);
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("web-clicks/0 (wanted 2, served 0)"),
        "{answer}"
    );

    let late = worker.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(60)).await;
        late.consume("clicks", 0, &[click("a", 1)]);
        tokio::time::sleep(Duration::from_millis(60)).await;
        late.consume("clicks", 0, &[click("b", 2)]);
    });
    let (status, answer) = world.post("/v1/sql", &body("120s")).await;
    assert_eq!((status, answer["rows"].clone()), (200, json!([[3]])));
    let (status, _) = world
        .get("/v1/views/pages/rows?at_least=%7B%22web-clicks%2F0%22%3A2%7D")
        .await;
    assert_eq!(status, 200);

    let (status, answer) = world
        .get("/v1/views/pages/rows?at_least=%7B%22orders%2F0%22%3A2%7D")
        .await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["error"]["hint"].as_str().unwrap().contains("web-clicks"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_highest_epoch_is_read() {
    let world = World::start().await;
    let old = world.worker("w1", 1, &[0, 1]).await;
    old.consume("clicks", 0, &[click("zombie", 100)]);
    let new = world.worker("w2", 2, &[0]).await;
    new.consume("clicks", 0, &[click("a", 1)]);
    eventually("the new owner is read", async || {
        world.query("SELECT page FROM pages").await == json!([["a"]])
    })
    .await;

    // The new owner dies without a word: its partition is missing, not served by the former owner.
    new.be_slow(Duration::from_secs(60));
    let (status, answer) = world.sql("SELECT * FROM pages").await;
    assert_eq!(status, 200);
    assert_eq!(answer["rows"], json!([]));
    assert_eq!(answer["coverage"]["pages"]["missing"], json!(["web-clicks/0"]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_fails_in_the_middle_of_a_read_is_asked_again() {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    worker.consume("clicks", 0, &[click("a", 1)]);
    worker.fail_reads(1);
    assert_eq!(world.query("SELECT total FROM pages").await, json!([[1]]));
    worker.fail_reads(1);
    assert_eq!(world.get("/v1/views/pages/rows").await.1["rows"], json!([["a", 1, 1]]));
    worker.fail_reads(99);
    let (status, answer) = world.sql("SELECT * FROM pages").await;
    assert_eq!(
        (status, answer["error"]["code"].as_str()),
        (503, Some("unavailable")),
        "{answer}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_the_worker_runs_in_another_definition_is_missing() {
    let world = World::start().await;
    let worker: Worker = world.worker("w1", 1, &[0, 1]).await;
    worker.consume("clicks", 0, &[click("a", 1)]);
    worker.forget_view("pages");
    let (status, answer) = world.sql("SELECT p.page FROM pages p, totals t").await;
    assert_eq!((status, answer["rows"].clone()), (200, json!([])));
    assert_eq!(
        answer["coverage"]["pages"]["missing"],
        json!(["web-clicks/0", "web-clicks/1"])
    );
    assert_eq!(answer["coverage"]["totals"]["exact"], true);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_names_the_publication_and_goes_when_serving_stops() {
    let world = World::start().await;
    world.worker("w1", 1, &[0, 1]).await;
    eventually("a lease", async || {
        world
            .serve_lease()
            .await
            .is_some_and(|lease| lease.facts["publication"] == 0)
    })
    .await;
    world.publish_and_adopt(1, &[(0, &[click("a", 1)])]).await;
    eventually("the new number", async || {
        world.serve_lease().await.unwrap().facts["publication"] == 1
    })
    .await;
    let lease = world.serve_lease().await.unwrap();
    assert_eq!(
        (lease.kind.as_str(), lease.id.as_str(), lease.address.as_str()),
        ("serve", "serve-1", world.base.as_str())
    );
    let store = world.store.clone();
    world.stop().await;
    assert!(
        anabranch_dataset::Leases::new(&store)
            .list("serve")
            .await
            .unwrap()
            .is_empty()
    );
}

/// Queries that come at the same time share what is frozen, but none is answered from before it came.
#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_each_see_what_was_there_when_they_asked() {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    worker.be_slow(Duration::from_millis(3));
    let consumed = std::sync::Arc::new(std::sync::Mutex::new(0));
    let clients: Vec<_> = (0..16)
        .map(|client| {
            let (http, base) = (world.http.clone(), world.base.clone());
            let (worker, consumed) = (worker.clone(), consumed.clone());
            tokio::spawn(async move {
                for turn in 0..10 {
                    let known = {
                        let mut consumed = consumed.lock().unwrap();
                        worker.consume("clicks", 0, &[click("a", 1)]);
                        *consumed += 1;
                        *consumed
                    };
                    let request = if (client + turn) % 2 == 0 {
                        http.get(format!("{base}/v1/views/totals/rows"))
                    } else {
                        http.post(format!("{base}/v1/sql"))
                            .json(&json!({"sql": "SELECT hits FROM totals"}))
                    };
                    let answer: Value = request.send().await.unwrap().json().await.unwrap();
                    let hits = answer["rows"][0][0].as_i64().unwrap();
                    assert!(hits >= known, "{known} were there, {answer}");
                    assert_eq!(answer["coverage"]["totals"]["served_through"]["web-clicks/0"], hits);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    world.stop().await;
}
