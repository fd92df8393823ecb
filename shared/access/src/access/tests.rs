use std::collections::BTreeMap;

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
