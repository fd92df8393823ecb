use super::*;

const ONE: &str = "CREATE TABLE t (n BIGINT) WITH (connector = 'log');
CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c FROM t;";
const TWO: &str = "CREATE TABLE t (n BIGINT) WITH (connector = 'log');
CREATE MATERIALIZED VIEW v AS SELECT sum(n) AS c FROM t;";

fn memory() -> Store {
    Store::open("memory://", &BTreeMap::new()).unwrap()
}

async fn number(store: &Store, sql: &str) -> (u64, Option<u64>) {
    let settled = settle(store, sql, "a test").await.unwrap();
    (settled.definitions.number, settled.stale)
}

#[tokio::test]
async fn a_file_that_was_never_seen_is_applied_and_a_stale_one_reverts_nothing() {
    let store = memory();
    assert_eq!(number(&store, ONE).await, (1, None));
    assert_eq!(number(&store, ONE).await, (1, None), "a restart changes nothing");
    assert_eq!(number(&store, TWO).await, (2, None));
    assert_eq!(
        number(&store, ONE).await,
        (2, Some(1)),
        "the file of a process that missed the change"
    );
    let stale = apply(&store, ONE, "a test", Options::default()).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Conflict);
    let force = Options {
        force: true,
        ..Options::default()
    };
    let applied = apply(&store, ONE, "a test", force).await.unwrap();
    assert!(applied.written && applied.number == 3);
    assert_eq!(number(&store, TWO).await, (3, Some(2)));
}

#[tokio::test]
async fn a_dry_run_says_and_does_not() {
    let store = memory();
    settle(&store, ONE, "a test").await.unwrap();
    let dry_run = Options {
        dry_run: true,
        ..Options::default()
    };
    let applied = apply(&store, TWO, "a test", dry_run).await.unwrap();
    assert!(!applied.written && applied.number == 1 && applied.change.is_change());
    let refused = apply(&store, &TWO.replace("'log'", "'kafka'"), "a test", dry_run)
        .await
        .unwrap();
    assert!(refused.change.refused());
    assert_eq!(number(&store, ONE).await, (1, None));
}

#[tokio::test]
async fn what_is_refused_is_not_written() {
    let store = memory();
    settle(&store, ONE, "a test").await.unwrap();
    for (sql, kind) in [
        (ONE.replace("n BIGINT", "n TEXT"), ErrorKind::Invalid),
        (ONE.replace("count(*)", "nonsense(*)"), ErrorKind::Invalid),
    ] {
        let refused = apply(&store, &sql, "a test", Options::default()).await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{refused}");
    }
    assert_eq!(DefinitionLog::new(&store).list().await.unwrap(), [1]);
}

#[tokio::test]
async fn of_many_that_start_at_once_with_one_file_one_applies_it() {
    let store = memory();
    let starts = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { number(&store, ONE).await })
    });
    for started in starts.collect::<Vec<_>>() {
        assert_eq!(started.await.unwrap(), (1, None));
    }
    assert_eq!(DefinitionLog::new(&store).list().await.unwrap(), [1]);
}

#[tokio::test]
async fn a_follower_finds_what_was_applied_and_remembers_what_was_before() {
    let store = memory();
    let settled = settle(&store, ONE, "a test").await.unwrap();
    let mut follower = crate::Follower::new(&store, settled.definitions);
    assert!(!follower.poll().await.unwrap());
    apply(&store, TWO, "a test", Options::default()).await.unwrap();
    let third = TWO.replace("sum(n)", "max(n)");
    apply(&store, &third, "a test", Options::default()).await.unwrap();
    assert!(follower.poll().await.unwrap());
    let numbers = |follower: &crate::Follower| {
        let earlier = follower.earlier().iter().map(|definitions| definitions.number);
        (follower.newest().number, earlier.collect::<Vec<_>>())
    };
    assert_eq!(numbers(&follower), (3, vec![2, 1]));
    // One that starts later knows the same.
    let settled = settle(&store, &third, "a test").await.unwrap();
    let mut late = crate::Follower::new(&store, settled.definitions);
    assert!(!late.poll().await.unwrap());
    assert_eq!(numbers(&late), (3, vec![2, 1]));
}
