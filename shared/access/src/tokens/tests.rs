use std::collections::BTreeMap;

use super::*;
use crate::{Role, ViewPatterns};

fn store() -> Store {
    Store::open("memory://", &BTreeMap::new()).unwrap()
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
async fn a_token_that_one_process_makes_another_knows_at_once_and_loses_at_the_next_look() {
    let store = store();
    let (maker, service) = (Tokens::new(&store), Tokens::new(&store));
    let (record, text) = maker.create(new("ann", Role::Read)).await.unwrap();
    // It has never looked, so it looks now.
    assert_eq!(*service.authenticate(&text).await.unwrap(), record);
    assert_eq!(service.of_user("ann").as_deref(), Some(&record));
    assert_eq!(service.of_user(&record.id).as_deref(), Some(&record));

    maker.revoke("ann", "test").await.unwrap();
    assert_eq!(maker.authenticate(&text).await, Err(Denied::Revoked));
    service.refresh().await.unwrap();
    assert_eq!(service.authenticate(&text).await, Err(Denied::Revoked));
    assert_eq!(service.of_user("ann"), None);
    assert_eq!(service.living(&record.id), Err(Denied::Revoked));
    let listed = service.list();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].revoked.as_ref().unwrap().by, "test");
}

#[tokio::test]
async fn what_is_no_token_of_the_site_is_not_known() {
    let tokens = Tokens::new(&store());
    let (_, text) = tokens.create(new("ann", Role::Read)).await.unwrap();
    let (_, elsewhere) = Tokens::new(&store()).create(new("ann", Role::Admin)).await.unwrap();
    let mut forged = text.clone();
    forged.replace_range(text.len() - 1.., if text.ends_with('A') { "B" } else { "A" });
    for stranger in ["", "ab_", "Bearer", elsewhere.as_str(), forged.as_str()] {
        assert_eq!(tokens.authenticate(stranger).await, Err(Denied::Unknown), "{stranger}");
    }
}

#[tokio::test]
async fn a_name_belongs_to_one_living_token() {
    let tokens = Tokens::new(&store());
    let (first, _) = tokens.create(new("ann", Role::Read)).await.unwrap();
    let taken = tokens.create(new("ann", Role::Admin)).await.unwrap_err();
    assert!(matches!(taken, Error::NameTaken { .. }), "{taken}");
    tokens.revoke(&first.id, "test").await.unwrap();
    let (second, text) = tokens.create(new("ann", Role::Admin)).await.unwrap();
    assert_eq!(*tokens.authenticate(&text).await.unwrap(), second);
    assert_eq!(tokens.of_user("ann").unwrap().role, Role::Admin);
    let missing = tokens.revoke("bob", "test").await.unwrap_err();
    assert!(matches!(missing, Error::NoToken { .. }), "{missing}");
}

#[tokio::test]
async fn an_expired_token_lets_nobody_in() {
    let tokens = Tokens::new(&store());
    let mut wanted = new("old", Role::Read);
    wanted.expires_at = Some(Utc::now() - chrono::Duration::seconds(1));
    let (_, text) = tokens.create(wanted).await.unwrap();
    assert_eq!(tokens.authenticate(&text).await, Err(Denied::Expired));
    assert_eq!(tokens.of_user("old"), None);
}

#[tokio::test]
async fn an_object_that_is_no_record_costs_nobody_else_anything() {
    let store = store();
    let tokens = Tokens::new(&store);
    let broken = Path::from("access/tokens/0123456789ab.json");
    assert!(store.create(&broken, "no json".into()).await.unwrap());
    let (_, text) = tokens.create(new("ann", Role::Read)).await.unwrap();
    tokens.authenticate(&text).await.unwrap();
    assert_eq!(tokens.list().len(), 1);
}

#[tokio::test]
async fn a_session_that_was_ended_is_remembered_until_it_would_have_ended_by_itself() {
    let store = store();
    let (here, elsewhere) = (Tokens::new(&store), Tokens::new(&store));
    let now = store.environment().now();
    here.end_session("session-1", "ann", now + chrono::Duration::hours(8))
        .await
        .unwrap();
    here.end_session("session-2", "ann", now - chrono::Duration::hours(8))
        .await
        .unwrap();
    elsewhere.refresh().await.unwrap();
    assert!(elsewhere.is_revoked("session-1") && here.is_revoked("session-1"));
    elsewhere.refresh().await.unwrap();
    let left = store.list(&Path::from(REVOKED)).await.unwrap();
    let left: Vec<_> = left.iter().filter_map(|object| object.location.filename()).collect();
    assert_eq!(left, ["session-1.json"]);
}
