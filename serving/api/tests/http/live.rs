use std::collections::BTreeMap;

use anabranch_runtime::Settings;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::support::{Event, Worker, World, click, eventually};

const PAGES: [&str; 6] = ["a", "b", "c", "d", "e", "#en.wikipedia"];

/// A connection to `/live`, and what its reader holds.
pub(crate) struct Live {
    bytes: BoxStream<'static, Vec<u8>>,
    buffer: Vec<u8>,
    id: Option<String>,
    rows: Vec<(Value, Value)>,
    coverage: Value,
    snapshots: usize,
}

impl Live {
    pub(crate) async fn open(world: &World, view: &str, query: &str) -> Self {
        Self::resume(world, view, query, None).await.unwrap()
    }

    /// Opens with the id and rows of an earlier connection.
    async fn resume(world: &World, view: &str, query: &str, held: Option<Live>) -> Result<Self, (u16, Value)> {
        let url = format!("{}/v1/views/{view}/live?{query}", world.base);
        let mut request = world.http.get(url);
        if let Some(id) = held.as_ref().and_then(|held| held.id.as_ref()) {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        if response.status() != 200 {
            return Err((response.status().as_u16(), response.json().await.unwrap()));
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Ok(Self {
            bytes: response
                .bytes_stream()
                .map_ok(|bytes| bytes.to_vec())
                .map(|bytes| bytes.unwrap_or_default())
                .boxed(),
            buffer: Vec::new(),
            id: held.as_ref().and_then(|held| held.id.clone()),
            rows: held.map(|held| held.rows).unwrap_or_default(),
            coverage: Value::Null,
            snapshots: 0,
        })
    }

    /// The next event, comments left out; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let block = String::from_utf8(block).unwrap();
                let (mut event, mut data) = (None, None);
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("event", name)) => event = Some(name.to_owned()),
                        Some(("data", json)) => data = Some(serde_json::from_str(json).unwrap()),
                        Some(("id", id)) => self.id = Some(id.to_owned()),
                        _ => {}
                    }
                }
                if let (Some(event), Some(data)) = (event, data) {
                    return Some((event, data));
                }
            }
            let more = tokio::time::timeout(std::time::Duration::from_secs(60), self.bytes.next());
            self.buffer.extend(more.await.expect("an event or a heartbeat comes")?);
        }
    }

    /// Takes one `snapshot` or `change` event in.
    pub(crate) async fn step(&mut self) -> Value {
        let (event, data) = self.next().await.expect("the stream goes on");
        let array = |value: &Value| value.as_array().unwrap().clone();
        match event.as_str() {
            "snapshot" => {
                self.snapshots += 1;
                self.rows = array(&data["keys"]).into_iter().zip(array(&data["rows"])).collect();
            }
            "change" => {
                let changed = array(&data["changed"]);
                let mut dropped: Vec<Value> = changed.iter().map(|change| change["key"].clone()).collect();
                dropped.extend(array(&data["gone"]));
                self.rows.retain(|(key, _)| !dropped.contains(key));
                for change in changed {
                    let at = change["at"].as_u64().unwrap() as usize;
                    self.rows.insert(at, (change["key"].clone(), change["row"].clone()));
                }
            }
            other => panic!("{other}: {data}"),
        }
        assert_eq!(data["row_count"], self.rows.len());
        self.coverage = data["coverage"].clone();
        data
    }

    /// Reads until this offset of each partition of `web-clicks` is covered.
    pub(crate) async fn until(&mut self, view: &str, ends: &[i64]) {
        let reached = |coverage: &Value| {
            let through = &coverage[view]["served_through"];
            (0..)
                .zip(ends)
                .all(|(partition, end): (usize, _)| through[format!("web-clicks/{partition}")] == *end)
        };
        while !reached(&self.coverage) {
            self.step().await;
        }
    }

    fn shown(&self) -> Value {
        self.rows.iter().map(|(_, row)| row.clone()).collect()
    }
}

async fn world() -> (World, Worker) {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    (world, worker)
}

/// `pages` by plain counting: page, hits, total.
fn count(logs: &[Vec<Event>; 2], through: impl Fn(usize) -> usize) -> Value {
    let mut pages: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (partition, log) in logs.iter().enumerate() {
        for event in &log[..through(partition)] {
            let page = pages.entry(event.page.unwrap()).or_default();
            page.0 += 1;
            page.1 += event.n.unwrap();
        }
    }
    pages
        .into_iter()
        .map(|(page, (hits, total))| json!([page, hits, total]))
        .collect()
}

/// After every event a reader holds what a plain count of its coverage gives, and in the end what `/rows` answers; across
/// publications, for any filter and order.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_its_changes_are_the_rows() {
    let (world, worker) = world().await;
    let queries = [
        "interval=50ms",
        "interval=60ms&order=-hits&limit=3",
        "interval=70ms&hits.gte=3&hits.lt=9&columns=total,hits",
        "interval=50ms&page=b",
        "interval=80ms&order=total,-page&offset=2&limit=2",
        "interval=50ms&page=nobody",
    ];
    let mut readers = Vec::new();
    for query in queries {
        readers.push(Live::open(&world, "pages", query).await);
    }
    let mut random = StdRng::seed_from_u64(41);
    let mut logs: [Vec<Event>; 2] = Default::default();
    let mut cut = 0;
    for round in 0..12 {
        for partition in 0..2 {
            let events: Vec<Event> = (0..random.random_range(0..6))
                .map(|_| click(PAGES[random.random_range(0..PAGES.len())], random.random_range(-3..9)))
                .collect();
            worker.consume("clicks", partition, &events);
            logs[partition as usize].extend(events);
        }
        if round % 4 == 3 {
            cut = random.random_range(cut..=logs[0].len());
            let history: [(i32, &[Event]); 2] = [(0, &logs[0][..cut]), (1, &logs[1])];
            world.publish_and_adopt(round, &history).await;
        }
        let ends = [logs[0].len() as i64, logs[1].len() as i64];
        for (query, reader) in queries.iter().zip(&mut readers) {
            loop {
                if !reader.coverage.is_null() {
                    let through = &reader.coverage["pages"]["served_through"];
                    let through = |p: usize| through[format!("web-clicks/{p}")].as_i64().unwrap_or(0) as usize;
                    if *query == queries[0] {
                        assert_eq!(reader.shown(), count(&logs, through), "round {round}");
                    }
                    if (0..2).all(|p| through(p) as i64 == ends[p]) {
                        break;
                    }
                }
                reader.step().await;
            }
            let plain = query.split_once('&').map_or("", |(_, rest)| rest);
            let (status, answer) = world.get(&format!("/v1/views/pages/rows?{plain}")).await;
            assert_eq!(status, 200, "{answer}");
            assert_eq!(reader.shown(), answer["rows"], "{query}, round {round}");
        }
    }
    assert!(
        readers.iter().all(|reader| reader.snapshots == 1),
        "changes were enough"
    );
    drop(readers);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_say_what_they_are_about() {
    let (world, worker) = world().await;
    worker.consume("clicks", 0, &[click("a", 1), click("b", 2)]);
    let mut live = Live::open(&world, "pages", "columns=hits").await;
    let snapshot = live.step().await;
    assert_eq!(snapshot["view"], "pages");
    assert_eq!(
        snapshot["columns"],
        json!([{"name": "hits", "type": "BIGINT", "key": false}])
    );
    assert_eq!(
        snapshot["key"],
        json!(["page"]),
        "keys are named though they are not shown"
    );
    assert_eq!(snapshot["keys"], json!([["a"], ["b"]]));
    assert_eq!(snapshot["rows"], json!([[1], [1]]));
    assert_eq!(
        (&snapshot["interval_ms"], &snapshot["restarted"]),
        (&json!(250), &json!(false))
    );
    assert_eq!(snapshot["coverage"]["pages"]["exact"], true);
    worker.consume("clicks", 1, &[click("b", 2)]);
    let change = live.step().await;
    assert_eq!(change["changed"], json!([{"at": 1, "key": ["b"], "row": [2]}]));
    assert_eq!(change["gone"], json!([]));
    // A global aggregate is one row without a key.
    let mut totals = Live::open(&world, "totals", "").await;
    let snapshot = totals.step().await;
    assert_eq!(
        (&snapshot["key"], &snapshot["keys"], &snapshot["rows"]),
        (&json!([]), &json!([[]]), &json!([[3]]))
    );
    // One arm alone is followed like both together.
    let mut realtime = Live::open(&world, "pages", "layer=realtime").await;
    assert_eq!(realtime.step().await["coverage"]["pages"]["exact"], false);
    assert_eq!(realtime.rows.len(), 2);
    drop((live, totals, realtime));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_comes_back_to_where_it_was() {
    let (world, worker) = world().await;
    worker.consume("clicks", 0, &[click("a", 1), click("b", 1), click("c", 1)]);
    // Keeps the query alive in any case.
    let mut other = Live::open(&world, "pages", "order=-hits&limit=2").await;
    other.step().await;
    let mut live = Live::open(&world, "pages", "limit=2&order=-hits").await;
    live.step().await;
    assert_eq!(live.shown(), json!([["a", 1, 1], ["b", 1, 1]]));
    worker.consume("clicks", 0, &[click("c", 1)]);
    other.until("pages", &[4]).await;
    let held = live;
    let mut live = Live::resume(&world, "pages", "limit=2&order=-hits", Some(held))
        .await
        .unwrap();
    let first = live.step().await;
    assert_eq!(live.snapshots, 0, "only what changed: {first}");
    live.until("pages", &[4]).await;
    assert_eq!(live.shown(), json!([["c", 2, 2], ["a", 1, 1]]));
    assert_eq!(live.id, other.id, "one position for all readers of a query");

    // Nothing has changed: said at once, so that the reader knows where it stands.
    let mut live = Live::resume(&world, "pages", "limit=2&order=-hits", Some(live))
        .await
        .unwrap();
    let first = live.step().await;
    assert_eq!(
        (live.snapshots, &first["changed"], &first["gone"]),
        (0, &json!([]), &json!([]))
    );

    for id in ["000000000000.3", "nonsense", "x.y"] {
        let mut lost = Live::open(&world, "pages", "limit=2&order=-hits").await;
        lost.id = Some(id.into());
        let mut lost = Live::resume(&world, "pages", "limit=2&order=-hits", Some(lost))
            .await
            .unwrap();
        assert_eq!(lost.step().await["restarted"], true, "{id}");
        assert_eq!(lost.shown(), live.shown());
    }
    // An id of another query is none of this one's.
    let mut elsewhere = Live::open(&world, "pages", "").await;
    elsewhere.step().await;
    let mut lost = Live::resume(&world, "pages", "order=-hits&limit=2", Some(elsewhere))
        .await
        .unwrap();
    assert_eq!(lost.step().await["restarted"], true);
    drop((other, live, lost));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_one_query_share_its_looks() {
    let (world, worker) = world().await;
    worker.consume("clicks", 0, &[click("a", 1)]);
    let mut readers = Vec::new();
    for index in 0..20 {
        let query = match index % 3 {
            0 => "page=a&hits.gt=0",
            1 => "hits.gt=0&page=a&interval=1s",
            _ => "hits.gt=0&interval=50ms&page=a",
        };
        readers.push(Live::open(&world, "pages", query).await);
    }
    let mut feeds = std::collections::BTreeSet::new();
    for reader in &mut readers {
        reader.step().await;
        feeds.insert(reader.id.clone().unwrap().split_once('.').unwrap().0.to_owned());
    }
    assert_eq!(
        feeds.len(),
        1,
        "however its parameters are ordered, and how often its readers want to hear"
    );
    let mut other = Live::open(&world, "pages", "page=b&hits.gt=0").await;
    other.step().await;
    assert!(!other.id.unwrap().starts_with(feeds.first().unwrap()));
    drop((readers, other.bytes));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_and_rows_are_bounded() {
    let mut settings = Settings::default();
    settings.serving.live_max_rows = 2;
    settings.serving.live_max_readers = 2;
    let world = World::with_settings(settings).await;
    let worker = world.worker("w1", 1, &[0]).await;
    worker.consume("clicks", 0, &[click("a", 1), click("b", 1)]);
    let mut live = Live::open(&world, "pages", "").await;
    live.step().await;
    let narrow = Live::open(&world, "pages", "page=a").await;
    let Err((status, refused)) = Live::resume(&world, "pages", "page=a", None).await else {
        panic!("a third reader")
    };
    assert_eq!(
        (status, refused["error"]["code"].as_str()),
        (503, Some("unavailable")),
        "{refused}"
    );
    drop(narrow);
    eventually("the reader that left is not counted", async || {
        Live::resume(&world, "pages", "page=a", None).await.is_ok()
    })
    .await;

    worker.consume("clicks", 0, &[click("c", 1)]);
    let (mut event, mut data) = live.next().await.unwrap();
    while event == "change" {
        (event, data) = live.next().await.unwrap();
    }
    if event == "trouble" {
        (event, data) = live.next().await.unwrap();
    }
    assert_eq!((event.as_str(), &data["reason"]), ("end", &json!("failed")), "{data}");
    assert!(data["message"].as_str().unwrap().contains("live_max_rows"), "{data}");
    assert!(live.next().await.is_none());
    eventually("its place is free", async || {
        let Err((status, refused)) = Live::resume(&world, "pages", "", None).await else {
            panic!("three rows")
        };
        status == 413 && refused["error"]["message"].as_str().unwrap().contains("3 rows")
    })
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_answered_at_once() {
    let (world, _worker) = world().await;
    for (path, status, code) in [
        ("nothing/live", 404, "not_found"),
        ("pages/live?interval=1ms", 400, "invalid"),
        ("pages/live?interval=2h", 400, "invalid"),
        ("pages/live?interval=often", 400, "invalid"),
        ("pages/live?hitz=3", 400, "invalid"),
        ("pages/live?hits=x", 400, "invalid"),
        ("pages/live?limit=-1", 400, "invalid"),
        ("sales/live?require=exact&timeout=10ms", 503, "unavailable"),
    ] {
        let (found, answer) = world.get(&format!("/v1/views/{path}")).await;
        assert_eq!(
            (found, answer["error"]["code"].as_str()),
            (status, Some(code)),
            "{path}: {answer}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_worker_is_told_and_over_when_it_is_over() {
    let (world, worker) = world().await;
    worker.consume("clicks", 0, &[click("a", 1)]);
    let mut live = Live::open(&world, "pages", "").await;
    live.step().await;
    worker.fail_reads(6);
    worker.consume("clicks", 0, &[click("a", 1)]);
    let (event, data) = live.next().await.unwrap();
    assert_eq!(
        (event.as_str(), &data["error"]["code"]),
        ("trouble", &json!("unavailable")),
        "{data}"
    );
    live.until("pages", &[2]).await;
    assert_eq!(live.shown(), json!([["a", 2, 2]]));
    assert_eq!(live.snapshots, 1);
    drop(live);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_service_stops() {
    let (world, worker) = world().await;
    worker.consume("clicks", 0, &[click("a", 1)]);
    let mut live = Live::open(&world, "pages", "").await;
    live.step().await;
    let stopping = tokio::spawn(world.stop());
    loop {
        let (event, data) = live.next().await.expect("an end event comes first");
        if event == "end" {
            assert_eq!(data["reason"], "draining");
            break;
        }
    }
    assert!(live.next().await.is_none());
    stopping.await.unwrap();
}
