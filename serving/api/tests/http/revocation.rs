//! What is open for somebody ends when they count no more.

use std::time::Duration;

use anabranch_access::{NewToken, Role, Tokens, ViewPatterns};
use anabranch_runtime::{HumanDuration, Settings};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::live::Live;
use crate::support::{Worker, World, click, eventually};

/// Rows without end.
const ENDLESS: &str = "SELECT * FROM generate_series(1, 1000000000000) a(x)";

async fn token(world: &World, name: &str, role: Role) -> String {
    let new = NewToken {
        name: Some(name.to_owned()),
        role,
        views: ViewPatterns::all(),
        expires_at: None,
        created_by: "test".to_owned(),
    };
    Tokens::new(&world.store).create(new).await.unwrap().1
}

fn client(token: &str) -> reqwest::Client {
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
    reqwest::Client::builder().default_headers(headers).build().unwrap()
}

/// A guarded platform, asked by an administrator; and the token of a reader.
async fn guarded() -> (World, Worker, String) {
    let mut settings = Settings::parse("[access]\nmode = 'tokens'\nrefresh = '100ms'\n", "test", []).unwrap();
    settings.serving.query_timeout = HumanDuration(Duration::from_secs(300));
    let mut world = World::with_settings(settings).await;
    world.http = client(&token(&world, "boss", Role::Admin).await);
    let worker = world.worker("w1", 1, &[0]).await;
    let reader = token(&world, "reader", Role::Read).await;
    (world, worker, reader)
}

/// Queries that compute.
async fn running(world: &World) -> u64 {
    world.get("/v1/status").await.1["queries"]["running"].as_u64().unwrap()
}

async fn stream(world: &World, client: &reqwest::Client, accept: &str) -> reqwest::Response {
    let request = client.post(format!("{}/v1/sql", world.base)).header("accept", accept);
    let mut response = request.json(&json!({"sql": ENDLESS})).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.chunk().await.unwrap().unwrap().is_empty());
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_query_ends_with_its_reader_s_token_and_says_so() {
    let (mut world, worker, reader) = guarded().await;
    worker.consume("clicks", 0, &[click("home", 1)]);
    let (boss, reader) = (world.http.clone(), client(&reader));
    let mut of_boss = Live::open(&world, "pages", "").await;
    world.http = reader.clone();
    let mut of_reader = Live::open(&world, "pages", "").await;
    world.http = boss;
    of_boss.step().await;
    of_reader.step().await;

    Tokens::new(&world.store).revoke("reader", "test").await.unwrap();
    let last = loop {
        let (event, data) = of_reader.next().await.expect("it says why it ends");
        if event == "end" {
            break data;
        }
    };
    assert_eq!(last["reason"], "access_ended", "{last}");
    assert!(last["message"].as_str().unwrap().contains("revoked"), "{last}");
    assert!(of_reader.next().await.is_none(), "that was the last");
    let again = reader.get(format!("{}/v1/views/pages/live", world.base)).send().await;
    assert_eq!(again.unwrap().status(), 401);
    // The one who looked at the same rows goes on.
    worker.consume("clicks", 0, &[click("home", 1)]);
    of_boss.until("pages", &[2]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_rows_breaks_off_with_its_reader_s_token() {
    let (world, _worker, reader) = guarded().await;
    let reader = client(&reader);
    let mut read = stream(&world, &reader, "application/x-ndjson").await;
    // One whose reader takes nothing more, too.
    let _stalled = stream(&world, &reader, "text/csv").await;
    eventually("both run", async || running(&world).await == 2).await;
    Tokens::new(&world.store).revoke("reader", "test").await.unwrap();
    let broken = loop {
        match read.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken, "rows that end well are all of them");
    eventually("neither runs", async || running(&world).await == 0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_whose_answer_is_awaited_is_answered_401() {
    let (world, _worker, reader) = guarded().await;
    let sql = "SELECT count(*) FROM generate_series(1, 1000000000000) a(x) WHERE x % 7 = 3";
    let request = client(&reader)
        .post(format!("{}/v1/sql", world.base))
        .json(&json!({"sql": sql}));
    let asked = tokio::spawn(async move { request.send().await.unwrap() });
    eventually("it runs", async || running(&world).await == 1).await;
    Tokens::new(&world.store).revoke("reader", "test").await.unwrap();
    let answer = asked.await.unwrap();
    assert_eq!(answer.status(), 401);
    let error: Value = answer.json().await.unwrap();
    assert_eq!(error["error"]["code"], "unauthorized", "{error}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_keeps_its_permit_for_as_long_as_a_query_may_take() {
    let mut settings = Settings::default();
    settings.serving.query_timeout = HumanDuration(Duration::from_secs(2));
    let world = World::with_settings(settings).await;
    let _stalled = stream(&world, &world.http, "text/csv").await;
    eventually("it is gone", async || running(&world).await == 0).await;
    world.stop().await;
}
