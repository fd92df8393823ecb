use std::collections::BTreeMap;

use super::*;

fn text(column: &str) -> String {
    format!(
        "CREATE TABLE t (n BIGINT) WITH (connector = 'log');
         CREATE MATERIALIZED VIEW v AS SELECT count(*) AS {column} FROM t;"
    )
}

fn numbers(follower: &Follower) -> (u64, Vec<u64>) {
    let earlier = follower.earlier().iter().map(|definitions| definitions.number);
    (follower.newest().number, earlier.collect())
}

#[tokio::test]
async fn entries_that_cannot_be_compiled_change_nothing_however_often_they_are_met() {
    let store = Store::open("memory://", &BTreeMap::new()).unwrap();
    let log = DefinitionLog::new(&store);
    log.append(0, &text("one"), "a test").await.unwrap();
    let one = compiled(&log.get(1).await.unwrap().unwrap()).unwrap();
    let mut follower = Follower::new(&store, Arc::new(one));
    log.append(1, &text("two"), "a test").await.unwrap();
    // As a newer release may write it.
    log.append(2, "CREATE SOMETHING NEW;", "a test").await.unwrap();
    for _ in 0..3 {
        assert!(follower.poll().await.is_err());
        assert_eq!(numbers(&follower), (1, vec![]), "what was known stays");
    }
    log.append(3, &text("four"), "a test").await.unwrap();
    assert!(follower.poll().await.unwrap());
    assert_eq!(
        numbers(&follower),
        (4, vec![2, 1]),
        "newest first, and only what can be compiled"
    );
    assert!(!follower.poll().await.unwrap());
}
