use std::fs::{File, FileTimes};
use std::time::SystemTime;

use serde_json::json;

use super::*;
use crate::testing::local;

fn lease(id: &str) -> Lease {
    Lease {
        kind: "speed".into(),
        id: id.into(),
        address: "http://localhost:1".into(),
        facts: json!({"state_bytes": 1}),
        ttl: Duration::from_secs(10),
    }
}

/// Sets when the store believes an object was written, relative to now.
fn written(folder: &tempfile::TempDir, id: &str, seconds_ago: i64) {
    let ago = Duration::from_secs(seconds_ago.unsigned_abs());
    let time = if seconds_ago >= 0 {
        SystemTime::now() - ago
    } else {
        SystemTime::now() + ago
    };
    let file = File::options()
        .write(true)
        .open(folder.path().join(format!("services/speed/{id}.json")))
        .unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

async fn ids(leases: &Leases) -> Vec<String> {
    leases
        .list("speed")
        .await
        .unwrap()
        .into_iter()
        .map(|lease| lease.id)
        .collect()
}

#[tokio::test]
async fn a_lease_says_which_version_wrote_it_and_old_ones_need_not() {
    let (store, folder) = local();
    let leases = Leases::new(&store);
    leases.renew(&lease("new")).await.unwrap();
    let old = serde_json::to_vec(&lease("old")).unwrap();
    std::fs::write(folder.path().join("services/speed/old.json"), old).unwrap();
    let found = leases.list_versioned("speed").await.unwrap();
    let versions: Vec<_> = found
        .iter()
        .map(|found| (found.lease.id.as_str(), found.version.as_deref()))
        .collect();
    assert_eq!(versions, [("new", Some(env!("CARGO_PKG_VERSION"))), ("old", None)]);
}

#[tokio::test]
async fn live_ones_are_listed_until_released() {
    let (store, folder) = local();
    let leases = Leases::new(&store);
    assert!(ids(&leases).await.is_empty());
    leases.renew(&lease("b")).await.unwrap();
    leases.renew(&lease("a")).await.unwrap();
    leases
        .renew(&Lease {
            kind: "serve".into(),
            ..lease("c")
        })
        .await
        .unwrap();
    assert_eq!(leases.list("speed").await.unwrap(), [lease("a"), lease("b")]);
    let changed = Lease {
        facts: json!({"state_bytes": 2}),
        ..lease("a")
    };
    leases.renew(&changed).await.unwrap();
    assert_eq!(leases.list("speed").await.unwrap(), [changed, lease("b")]);
    leases.release("speed", "a").await.unwrap();
    leases.release("speed", "a").await.unwrap();
    assert_eq!(ids(&leases).await, ["b"]);
    let clocks = folder.path().join("services/clock");
    assert_eq!(
        std::fs::read_dir(clocks).unwrap().count(),
        0,
        "reading the clock leaves nothing behind"
    );
}

#[tokio::test]
async fn expiry_goes_by_the_stores_clock() {
    let (store, folder) = local();
    let leases = Leases::new(&store);
    for id in ["fresh", "late", "expired"] {
        leases.renew(&lease(id)).await.unwrap();
    }
    written(&folder, "late", 6);
    written(&folder, "expired", 12);
    assert_eq!(ids(&leases).await, ["fresh", "late"]);
    // The store's clock has moved on since it was read: a lease written by it later than our reading proves that.
    written(&folder, "fresh", -5);
    assert_eq!(ids(&leases).await, ["fresh"]);
    // Renewed, it is believed again.
    leases.renew(&lease("expired")).await.unwrap();
    written(&folder, "expired", -5);
    assert_eq!(ids(&leases).await, ["expired", "fresh"]);
}

#[tokio::test]
async fn abandoned_leases_are_cleared_away() {
    let (store, folder) = local();
    let leases = Leases::new(&store);
    leases.renew(&lease("long gone")).await.unwrap();
    written(&folder, "long gone", 3600);
    assert!(ids(&leases).await.is_empty());
    assert_eq!(
        std::fs::read_dir(folder.path().join("services/speed")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn what_is_not_a_lease_is_passed_over() {
    let (store, _folder) = local();
    let leases = Leases::new(&store);
    leases.renew(&lease("a")).await.unwrap();
    store
        .put(&Path::from("services/speed/notes.json"), "hello".into())
        .await
        .unwrap();
    assert_eq!(ids(&leases).await, ["a"]);
}
