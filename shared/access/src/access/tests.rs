use std::collections::BTreeMap;
use std::future::Future;

use super::*;
use crate::{NewToken, Role, ViewPatterns};

async fn guarded(store: &Store) -> Access {
    let settings = Settings::parse("[access]\nmode = 'tokens'\n", "test", []).unwrap();
    Access::start(&settings, store).await.unwrap()
}

fn new(name: &str, role: Role) -> NewToken {
    NewToken {
        name: Some(name.to_owned()),
        role,
        views: ViewPatterns::new(["pages"]),
        expires_at: None,
        created_by: "test".to_owned(),
    }
}

#[tokio::test]
async fn an_open_platform_lets_everybody_in_as_an_administrator() {
    let access = Access::open();
    assert!(access.is_open());
    let anybody = access.authenticate_bearer("whatever").await.unwrap();
    assert!(anybody.may_administer());
    assert_eq!(access.principal_of("psql"), Some(anybody.clone()));
    assert_eq!(access.authenticate_password("psql", "").await, Ok(anybody));
    assert!(access.scram_verifier("psql").is_none());
    assert!(access.assertion(&Principal::service("serve-1")).is_none());
}

#[tokio::test]
async fn a_token_is_a_bearer_and_a_password_and_begins_a_session() {
    let store = Store::open("memory://", &BTreeMap::new()).unwrap();
    let access = guarded(&store).await;
    assert!(!access.is_open());
    let (record, text) = Tokens::new(&store).create(new("ann", Role::Read)).await.unwrap();
    let ann = record.principal();
    assert_eq!(access.authenticate_bearer(&text).await, Ok(ann.clone()));
    assert_eq!(access.authenticate_password("ann", &text).await, Ok(ann.clone()));
    assert_eq!(access.authenticate_password("bob", &text).await, Err(Denied::Unknown));
    assert!(access.scram_verifier("ann").unwrap() == *record.scram());
    assert!(access.scram_verifier("bob").unwrap() != *record.scram());
    assert_eq!(access.principal_of("bob"), None);

    let session = access.begin_session(&text).await.unwrap();
    assert_eq!(access.authenticate_session(&session.cookie), Ok(ann));
    // A cookie is no bearer token, and a token no cookie.
    assert_eq!(access.authenticate_bearer(&session.cookie).await, Err(Denied::Unknown));
    assert_eq!(access.authenticate_session(&text), Err(Denied::Unknown));

    Tokens::new(&store).revoke("ann", "test").await.unwrap();
    access.refresh().await.unwrap();
    assert_eq!(access.authenticate_session(&session.cookie), Err(Denied::Revoked));
    assert_eq!(access.authenticate_bearer(&text).await, Err(Denied::Revoked));
}

#[tokio::test]
async fn a_service_speaks_for_whom_it_let_in() {
    let store = Store::open("memory://", &BTreeMap::new()).unwrap();
    let (serving, worker) = (guarded(&store).await, guarded(&store).await);
    let ann = Principal::new("ann", Role::Ingest, ViewPatterns::none());
    let shown = serving.assertion(&ann).unwrap();
    assert_eq!(worker.authenticate_bearer(&shown).await, Ok(ann));
    assert_eq!(worker.begin_session(&shown).await.unwrap_err(), Denied::Unknown);
    assert_eq!(worker.authenticate_session(&shown), Err(Denied::Unknown));
    let elsewhere = guarded(&Store::open("memory://", &BTreeMap::new()).unwrap()).await;
    assert_eq!(elsewhere.authenticate_bearer(&shown).await, Err(Denied::Unknown));
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let store = Store::open("memory://", &BTreeMap::new()).unwrap();
    let access = guarded(&store).await;
    let mut wanted = new("short", Role::Admin);
    wanted.expires_at = Some(Utc::now() + chrono::Duration::seconds(90));
    let (_, text) = Tokens::new(&store).create(wanted).await.unwrap();
    let session = access.begin_session(&text).await.unwrap();
    assert!(session.lifetime <= Duration::from_secs(90), "{:?}", session.lifetime);
}

/// What ends must end; whether it does so soon is not for a test to say.
async fn soon<T>(what: &str, ends: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(20), ends).await;
    ended.unwrap_or_else(|_| panic!("never ended: {what}"))
}

#[tokio::test]
async fn whoever_was_let_in_hears_that_they_count_no_more() {
    let store = Store::open("memory://", &BTreeMap::new()).unwrap();
    let access = guarded(&store).await;
    let (_, text) = Tokens::new(&store).create(new("ann", Role::Read)).await.unwrap();
    let (_, other) = Tokens::new(&store).create(new("bob", Role::Read)).await.unwrap();
    let session = access.begin_session(&text).await.unwrap();
    let anns = [
        access.authenticate_bearer(&text).await.unwrap(),
        access.authenticate_password("ann", &text).await.unwrap(),
        access.authenticate_session(&session.cookie).unwrap(),
        access.principal_of("ann").unwrap(),
    ];
    let bob = access.authenticate_bearer(&other).await.unwrap();
    assert!(anns.iter().all(|ann| ann.standing().is_ok()));
    let waiting = anns.clone().map(|ann| tokio::spawn(async move { ann.ended().await }));
    Tokens::new(&store).revoke("ann", "test").await.unwrap();
    access.refresh().await.unwrap();
    for ended in waiting {
        assert_eq!(soon("a revoked token", ended).await.unwrap(), Denied::Revoked);
    }
    assert!(anns.iter().all(|ann| ann.standing() == Err(Denied::Revoked)));
    assert_eq!(bob.standing(), Ok(()), "others are not concerned");
}

#[tokio::test]
async fn what_expires_ends_by_itself() {
    let store = Store::open("memory://", &BTreeMap::new()).unwrap();
    let access = guarded(&store).await;
    let mut wanted = new("short", Role::Admin);
    wanted.expires_at = Some(Utc::now() + chrono::Duration::seconds(2));
    let (_, text) = Tokens::new(&store).create(wanted).await.unwrap();
    let bearer = access.authenticate_bearer(&text).await.unwrap();
    let session = access.begin_session(&text).await.unwrap();
    let visitor = access.authenticate_session(&session.cookie).unwrap();
    assert_eq!(soon("a token that expires", bearer.ended()).await, Denied::Expired);
    assert_eq!(soon("a session on it", visitor.ended()).await, Denied::Expired);
}

#[tokio::test]
async fn a_session_that_is_ended_ends_everywhere_and_its_token_goes_on() {
    let store = Store::open("memory://", &BTreeMap::new()).unwrap();
    let (here, elsewhere) = (guarded(&store).await, guarded(&store).await);
    let (_, text) = Tokens::new(&store).create(new("ann", Role::Read)).await.unwrap();
    let (first, second) = (
        here.begin_session(&text).await.unwrap(),
        here.begin_session(&text).await.unwrap(),
    );
    elsewhere.refresh().await.unwrap();
    let visitor = elsewhere.authenticate_session(&first.cookie).unwrap();
    here.end_session(&first.cookie).await.unwrap();
    assert_eq!(here.authenticate_session(&first.cookie), Err(Denied::Revoked));
    elsewhere.refresh().await.unwrap();
    assert_eq!(soon("an ended session", visitor.ended()).await, Denied::Revoked);
    assert_eq!(elsewhere.authenticate_session(&first.cookie), Err(Denied::Revoked));
    assert!(elsewhere.authenticate_session(&second.cookie).is_ok());
    assert!(elsewhere.authenticate_bearer(&text).await.is_ok());
    // What is no session cannot be ended, and that is no news to whoever asks.
    here.end_session("abs1.e30.AAAA").await.unwrap();
}

#[tokio::test]
async fn where_everybody_is_let_in_nobody_is_sent_away() {
    let anybody = Access::open().authenticate_bearer("whatever").await.unwrap();
    assert_eq!(anybody.standing(), Ok(()));
    let mut ended = std::pin::pin!(anybody.ended());
    assert!(futures_poll(ended.as_mut()).is_pending());
}

fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}
