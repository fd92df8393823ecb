use anabranch_model::{ErrorKind, Offset, PartitionId};

use super::*;
use crate::testing::{Fault, Faulty, memory};

fn letters(offsets: &[i64]) -> Letters {
    offsets.iter().map(|offset| (PartitionId(0), Offset(*offset))).collect()
}

#[tokio::test]
async fn redrives_are_numbered_and_end_once() {
    let store = memory();
    let log = RedriveLog::new(&store, "clicks");
    assert_eq!(log.all().await.unwrap(), []);
    let first = log
        .append(0, letters(&[1, 2]), OffsetVector::new(), "ada")
        .await
        .unwrap();
    assert_eq!((first.number, first.count), (1, 2));
    let late = log
        .append(0, letters(&[2]), OffsetVector::new(), "bob")
        .await
        .unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict, "{late}");
    let second = log.append(1, letters(&[3]), OffsetVector::new(), "bob").await.unwrap();

    assert_eq!(log.done(1).await.unwrap(), None);
    let counts = Finished {
        produced: 1,
        found: 1,
        gone: 0,
    };
    log.finish(1, "worker-1", counts).await.unwrap();
    log.finish(1, "worker-2", Finished::default()).await.unwrap();
    let done = log.done(1).await.unwrap().unwrap();
    assert_eq!((done.worker.as_str(), done.produced, done.found), ("worker-1", 1, 1));
    assert_eq!(log.all().await.unwrap(), [(first, Some(done)), (second, None)]);
    assert_eq!(RedriveLog::new(&store, "orders").all().await.unwrap(), []);
}

#[tokio::test]
async fn a_redrive_whose_answer_was_lost_is_asked_for_once() {
    let (faulty, store) = Faulty::store();
    let log = RedriveLog::new(&store, "clicks");
    for fault in [Fault::Lost, Fault::DoneButUnclear, Fault::Repeated] {
        faulty.next_put("redrives/", fault);
        let number = log.all().await.unwrap().len() as u64;
        log.append(number, letters(&[1]), OffsetVector::new(), "ada")
            .await
            .unwrap();
        assert_eq!(log.all().await.unwrap().len() as u64, number + 1, "{fault:?}");
    }
}

#[tokio::test]
async fn only_what_is_asked_for_is_read_and_what_is_through_once() {
    let store = memory();
    let log = RedriveLog::new(&store, "clicks");
    for number in 0..5 {
        log.append(number, letters(&[1]), OffsetVector::new(), "ada")
            .await
            .unwrap();
    }
    let numbers = async |limit| {
        let newest = log.newest(limit).await.unwrap();
        newest
            .iter()
            .map(|(redrive, done)| (redrive.number, done.is_some()))
            .collect::<Vec<_>>()
    };
    log.finish(4, "worker-1", Finished::default()).await.unwrap();
    // Whoever reads it would fail.
    let spoil = async |number: u64| {
        let path = Path::from(format!("redrives/clicks/{number:020}.json"));
        store
            .put(&path, bytes::Bytes::from_static(b"no redrive"))
            .await
            .unwrap();
    };
    spoil(1).await;
    assert_eq!(numbers(2).await, [(4, true), (5, false)]);
    assert!(log.all().await.is_err(), "the first is read when it is asked for");
    spoil(4).await;
    assert_eq!(numbers(2).await, [(4, true), (5, false)], "what is through is known");
    log.finish(5, "worker-1", Finished::default()).await.unwrap();
    assert_eq!(numbers(1).await, [(5, true)], "what was not is looked at again");
}
