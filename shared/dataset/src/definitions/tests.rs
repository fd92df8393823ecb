use anabranch_model::ErrorKind;

use super::*;
use crate::testing::{local, memory};

#[tokio::test]
async fn the_newest_entry_counts_and_every_clone_finds_it() {
    let (store, _folder) = local();
    let (log, other) = (DefinitionLog::new(&store), DefinitionLog::new(&store));
    assert_eq!(log.newest().await.unwrap(), None);
    for (based_on, sql) in ["first", "second", "first"].into_iter().enumerate() {
        let entry = log.append(based_on as u64, sql, "a test").await.unwrap();
        assert_eq!((entry.number, &*entry.sql), (based_on as u64 + 1, sql));
        assert_eq!(other.newest().await.unwrap(), Some(entry));
    }
    assert_eq!(log.list().await.unwrap(), [1, 2, 3]);
    let first = log.get(1).await.unwrap().unwrap();
    assert_eq!(
        first.hash,
        log.get(3).await.unwrap().unwrap().hash,
        "equal texts have equal hashes"
    );
}

#[tokio::test]
async fn of_two_that_apply_at_once_one_is_told() {
    let store = memory();
    let (one, two) = (DefinitionLog::new(&store), DefinitionLog::new(&store));
    one.append(0, "one", "one").await.unwrap();
    let refused = two.append(0, "two", "two").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(two.newest().await.unwrap().unwrap().sql, "one");
}

#[tokio::test]
async fn an_entry_that_was_altered_is_not_believed() {
    let store = memory();
    let log = DefinitionLog::new(&store);
    let mut entry = log.append(0, "sql", "a test").await.unwrap();
    entry.sql.push('!');
    let bytes = serde_json::to_vec(&entry).unwrap();
    store.put(&path(1), bytes.into()).await.unwrap();
    assert_eq!(log.get(1).await.unwrap_err().kind(), ErrorKind::Data);
}
