use std::time::{Duration, Instant};

use anabranch_model::realtime::{SnapshotRequest, StateTicket, ViewCut};
use anabranch_model::{OffsetVector, RawRecord};

use crate::harness::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn realtime_counts_are_right_before_and_after_landing() {
    let world = World::new();
    let all = events(0..20_000);
    let mut through = world.append(&all[..12_000]).await;
    let worker = world.start("a").await;
    let mut reader = worker.reader().await;
    let from_start = OffsetVector::new();
    assert_eq!(reader.answers(&from_start, &through).await, truth(&all[..12_000]));

    through = world.append(&all[12_000..]).await;
    assert_eq!(reader.answers(&from_start, &through).await, truth(&all));
    world.landed().await;
    assert_eq!(
        reader.answers(&from_start, &through).await,
        truth(&all),
        "landing changes nothing"
    );
    world.assert_each_offset_landed_once().await;
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_filter_leaves_other_groups_out() {
    let world = World::never_landing();
    let all = events(0..3_000);
    let through = world.append(&all).await;
    let worker = world.start("a").await;
    let mut reader = worker.reader().await;
    let snapshot = reader.covering(&OffsetVector::new(), &through).await;
    let filter = Some("url = '/page/4'".to_owned());
    let ticket = StateTicket {
        snapshot: snapshot.id,
        view: "per_url".into(),
        partitions: vec![],
        filter,
    };
    let batches = reader.state(&ticket).await;
    assert!(!batches.is_empty());
    for batch in batches {
        for row in rows(&batch) {
            assert_eq!(row[0], "/page/4");
        }
    }
    worker.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_does_not_hold_is_left_out_or_refused() {
    let world = World::never_landing();
    let worker = world.start("a").await;
    let through = world.append(&events(0..600)).await;
    let mut reader = worker.reader().await;
    let snapshot = reader.covering(&OffsetVector::new(), &through).await;

    let view = &world.views[0];
    let asked = |view: &str, hash: &str| ViewCut {
        view: view.into(),
        hash: hash.into(),
        cut: OffsetVector::new(),
        until: None,
    };
    let views = vec![
        asked(view.name(), "another definition"),
        asked("no_such_view", view.hash()),
    ];
    assert!(reader.ask(SnapshotRequest { views }).await.views.is_empty());

    let ticket = |snapshot, view: &str, filter: Option<&str>| {
        let filter = filter.map(str::to_owned);
        StateTicket {
            snapshot,
            view: view.into(),
            partitions: vec![],
            filter,
        }
    };
    let id = snapshot.id;
    assert_eq!(
        reader.refusal(&ticket(id + 1_000, "total", None)).await,
        tonic::Code::NotFound
    );
    assert_eq!(
        reader.refusal(&ticket(id, "no_such_view", None)).await,
        tonic::Code::NotFound
    );
    assert_eq!(
        reader.refusal(&ticket(id, "per_url", Some("clicks = 1"))).await,
        tonic::Code::InvalidArgument
    );

    // Only the partitions that are asked for.
    let mut clicks = 0;
    for partition in through.partitions() {
        let one = StateTicket {
            partitions: vec![partition],
            ..ticket(id, "total", None)
        };
        let mut aggregator = world
            .views
            .iter()
            .find(|view| view.name() == "total")
            .unwrap()
            .aggregator()
            .unwrap();
        for batch in reader.state(&one).await {
            aggregator.merge(&batch).unwrap();
        }
        let total = world.views.iter().find(|view| view.name() == "total").unwrap();
        let answer = rows(&total.finalise(&aggregator.emit().unwrap()).unwrap());
        let counted: i64 = answer.first().unwrap()[0].parse().unwrap();
        assert_eq!(counted, through.get(partition).unwrap().0);
        clicks += counted;
    }
    assert_eq!(clicks, 600);
    worker.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_decode_is_landed_as_a_dead_letter() {
    let world = World::new();
    let good = events(0..500);
    let worker = world.start("a").await;
    world.append(&good).await;
    let huge = [
        &br#"{"ts":"2024-05-01T00:00:00Z","url":""#[..],
        &vec![b'x'; 1 << 20],
        b"\xff\"}",
    ]
    .concat();
    let bad_records = vec![
        bad(b"{ not json"),
        bad(br#"{"url":"/no/time"}"#),
        bad(br#"{"ts":"2024-05-01T00:00:00Z","ms":"many"}"#),
        bad(b"\xff\xfe"),
        bad(b""),
        bad(&huge),
        RawRecord::default(),
    ];
    let count = bad_records.len() as u64;
    let through = world.append_raw(bad_records).await;
    let snapshot = world.landed().await;
    let mut reader = worker.reader().await;
    assert_eq!(
        reader.answers(&OffsetVector::new(), &through).await,
        truth(&good),
        "the good ones are not touched"
    );
    let rows = |dead: bool| {
        snapshot
            .files
            .iter()
            .filter(|file| file.dead == dead)
            .map(|file| file.rows)
            .sum::<u64>()
    };
    assert_eq!((rows(false), rows(true)), (500, count));
    world.assert_each_offset_landed_once().await;

    let status = eventually("the status counts what is landed", async || {
        let status = worker.status().await;
        let source = &status["sources"]["clicks"];
        let partitions = source["partitions"].as_object()?;
        let all = partitions.values().all(|p| p["next_landed"] == p["next_consumed"]);
        (all && source["landed_dead_letters"] == count).then_some(status)
    })
    .await;
    let source = &status["sources"]["clicks"];
    assert_eq!(source["landed_events"], 500);
    assert_eq!(source["dead_letters"], count);
    assert_eq!(source["dead_letter_samples"].as_array().unwrap().len(), count as usize);
    assert_eq!(source["columns_never_seen"], serde_json::json!(["never"]));
    assert_eq!(source["refused_total"], 0);
    for partition in 0..PARTITIONS {
        let partition = &source["partitions"][partition.to_string()];
        assert_eq!(partition["owned"], true);
        assert_eq!(partition["epoch"], 1);
    }
    worker.stop().await.unwrap();
}

/// Nothing on an event's way waits for a timer. One event in time shows that, whatever else the machine does; how long
/// events take when it does nothing else is measured elsewhere (`anabranch-replay`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_visible_within_50_ms() {
    let world = World::never_landing();
    let worker = world.start("a").await;
    let mut reader = worker.reader().await;
    let from_start = OffsetVector::new();
    let through = world.append(&events(0..10)).await;
    reader.covering(&from_start, &through).await;
    let took = eventually("an event is visible within 50 ms", async || {
        let through = world.append(&events(0..1)).await;
        let since = Instant::now();
        reader.covering(&from_start, &through).await;
        Some(since.elapsed()).filter(|took| *took < Duration::from_millis(50))
    })
    .await;
    println!("append to answer: {took:?}");
    worker.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_sees_one_prefix_while_events_pour_in() {
    let world = World::new();
    let all = events(0..60_000);
    let worker = world.start("a").await;
    let mut reader = worker.reader().await;
    let feed = async {
        for chunk in all.chunks(2_000) {
            world.append(chunk).await;
        }
    };
    let mut seen = 0;
    let watch = async {
        while seen < 60_000 {
            let snapshot = reader.snapshot(&OffsetVector::new()).await;
            // Offsets begin at zero and have no gaps here, so positions count records.
            let ends = |view: &str| -> i64 {
                let pieces = snapshot.views[view].partitions.values();
                pieces
                    .map(|piece| match piece {
                        anabranch_model::realtime::Piece::Ready { range, .. } => range.end.0,
                        _ => 0,
                    })
                    .sum()
            };
            let covered = ends("total");
            assert_eq!((ends("per_url"), ends("per_minute")), (covered, covered));
            if covered == 0 {
                continue;
            }
            let answers = reader.answers_of(&snapshot).await;
            let clicks =
                |rows: &Rows, column: usize| rows.iter().map(|row| row[column].parse::<i64>().unwrap()).sum::<i64>();
            assert_eq!(clicks(&answers["total"], 0), covered);
            assert_eq!(clicks(&answers["per_url"], 1), covered);
            assert_eq!(clicks(&answers["per_minute"], 1), covered);
            assert!(covered >= seen, "an answer never goes back");
            seen = covered;
        }
    };
    tokio::join!(feed, watch);
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}
