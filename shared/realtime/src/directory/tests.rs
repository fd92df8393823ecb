use std::time::Duration;

use anabranch_dataset::{Lease, Store};
use anabranch_model::PartitionId;
use serde_json::{Value, json};

use super::{Directory, Services, SpeedWorker};

fn lease(id: &str, facts: Value) -> Lease {
    Lease {
        kind: "speed".into(),
        id: id.into(),
        address: format!("http://{id}.invalid:1"),
        facts,
        ttl: Duration::from_secs(60),
    }
}

fn owning(partition: &str, epoch: i64) -> Value {
    json!({"sources": {"t": {"topic": "topic", "partitions_total": 2, "owned": {
        partition: {"epoch": epoch, "next_consumed": 5, "next_landed": 3, "end": 9}
    }}}, "state_bytes": 7})
}

fn services(leases: impl IntoIterator<Item = Lease>) -> Services {
    Services {
        speed: leases.into_iter().map(SpeedWorker::of_lease).collect(),
        ..Services::default()
    }
}

#[test]
fn the_highest_epoch_owns_a_partition() {
    let services = services([
        lease("old", owning("0", 3)),
        lease("new", owning("0", 4)),
        lease("other", owning("1", 1)),
    ]);
    let owners = services.owners("t");
    assert_eq!(
        (owners[&PartitionId(0)].worker.as_str(), owners[&PartitionId(0)].epoch),
        ("new", 4)
    );
    assert_eq!(owners[&PartitionId(1)].worker, "other");
    assert_eq!(services.partitions_total("t"), Some(2));
    assert!(services.owners("unknown").is_empty());
    assert_eq!(services.partitions_total("unknown"), None);
}

#[test]
fn facts_that_cannot_be_read_are_as_good_as_none() {
    let worker = SpeedWorker::of_lease(lease("odd", json!({"sources": 3})));
    assert!(worker.facts.sources.is_empty());
    let services = services([lease("sparse", json!({"sources": {"t": {"owned": {"0": {}}}}}))]);
    assert_eq!(services.owners("t")[&PartitionId(0)].epoch, 0);
    assert_eq!(services.partitions_total("t"), None, "nobody says how many there are");
}

#[tokio::test]
async fn connections_last_as_long_as_leases_do() {
    let store = Store::open("memory://", &Default::default()).unwrap();
    let directory = Directory::new(&store);
    assert!(!directory.is_ready());
    directory
        .leases()
        .renew(&lease("a", json!({"state_bytes": 7})))
        .await
        .unwrap();
    directory.refresh().await.unwrap();
    assert!(directory.is_ready());
    let known = directory.services().speed[0].clone();
    assert_eq!((known.id.as_str(), known.facts.state_bytes), ("a", 7));
    directory.worker(&known).unwrap();
    assert_eq!(directory.workers.lock().len(), 1);

    // A worker that was restarted under another name at the same address must not be taken for the former one.
    let heir = SpeedWorker {
        id: "b".into(),
        ..known.clone()
    };
    assert_eq!(directory.worker(&heir).unwrap().id(), "b");

    directory.leases().release("speed", "a").await.unwrap();
    directory.refresh().await.unwrap();
    assert!(directory.services().speed.is_empty());
    assert_eq!(directory.workers.lock().len(), 0);
    let nowhere = SpeedWorker {
        address: "no address".into(),
        ..known
    };
    assert!(directory.worker(&nowhere).is_err());
}
