//! A world to run workers in, a reader that asks them as serving does, and the truth to compare with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_catalog::Catalog;
use anabranch_dataset::{MasterDataset, Snapshot, Store};
use anabranch_definitions::Definitions;
use anabranch_log::{IngestLog, PartitionedLog};
use anabranch_model::realtime::{
    Piece, SNAPSHOT_ACTION, SnapshotReply, SnapshotRequest, StateTicket, ViewCut, ViewPieces,
};
use anabranch_model::{OffsetVector, PartitionId, RawRecord};
use anabranch_runtime::{ByteSize, Settings, Shutdown};
use anabranch_speed::{SpeedHandle, SpeedLayer, SpeedOptions};
use anabranch_view::View;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Ticket};
use futures::{StreamExt, TryStreamExt};
use tonic::transport::Channel;

pub const PARTITIONS: u32 = 3;

/// How long a test waits before it says that it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

pub const VIEWS: &str = r"
CREATE TABLE clicks (ts TIMESTAMP NOT NULL, url TEXT, user_id BIGINT, ms BIGINT, never TEXT)
WITH (connector = 'log', topic = 'clicks', format = 'json', event_time = 'ts');

CREATE MATERIALIZED VIEW per_url AS SELECT url, count(*) AS clicks, sum(ms) AS ms FROM clicks GROUP BY url;

CREATE MATERIALIZED VIEW per_minute AS
SELECT tumble(ts, INTERVAL '1 minute') AS minute, count(*) AS clicks, count(DISTINCT user_id) AS users
FROM clicks GROUP BY minute;

CREATE MATERIALIZED VIEW total AS SELECT count(*) AS clicks, sum(ms) AS ms FROM clicks;
";

pub struct World {
    pub folder: tempfile::TempDir,
    pub store: Store,
    pub log: Arc<dyn PartitionedLog>,
    pub catalog: Arc<Catalog>,
    pub views: Arc<Vec<View>>,
    pub settings: Settings,
}

impl World {
    pub fn new() -> Self {
        Self::of(VIEWS)
    }

    /// A world with other tables and views; the table is `clicks`.
    pub fn of(sql: &str) -> Self {
        // Counters that are made before there is a recorder count nothing.
        anabranch_runtime::telemetry::metrics();
        let folder = tempfile::tempdir().unwrap();
        let log = IngestLog::open(folder.path().join("log")).unwrap();
        let log = log
            .topic("clicks", PARTITIONS, anabranch_log::Retention::default())
            .unwrap();
        let store = open_store(folder.path());
        let catalog = Arc::new(Catalog::parse(sql).unwrap());
        let views = Arc::new(
            catalog
                .views
                .values()
                .map(|view| View::compile(view).unwrap())
                .collect(),
        );
        let mut settings = Settings::default();
        settings.landing.max_age = Duration::from_millis(200).into();
        settings.speed.publication_poll = Duration::from_millis(50).into();
        settings.speed.decoders = 2;
        settings.speed.view_bolts = 2;
        Self {
            folder,
            store,
            log,
            catalog,
            views,
            settings,
        }
    }

    /// The next worker runs other definitions.
    pub fn redefine(&mut self, sql: &str) {
        let catalog = Catalog::parse(sql).unwrap();
        let views = catalog.views.values().map(|view| View::compile(view).unwrap());
        self.views = Arc::new(views.collect());
        self.catalog = Arc::new(catalog);
    }

    /// Landings wait: what is consumed stays unlanded.
    pub fn never_landing() -> Self {
        let mut world = Self::new();
        world.settings.landing.max_age = Duration::from_secs(3600).into();
        world.settings.landing.max_bytes = ByteSize(u64::MAX / 2);
        world
    }

    pub async fn start(&self, worker: &str) -> Worker {
        self.try_start(worker).await.unwrap()
    }

    pub async fn try_start(&self, worker: &str) -> Result<Worker, anabranch_speed::Error> {
        self.start_on(worker, Arc::clone(&self.log)).await
    }

    pub async fn start_on(&self, worker: &str, log: Arc<dyn PartitionedLog>) -> Result<Worker, anabranch_speed::Error> {
        let shutdown = Shutdown::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let handle = SpeedLayer::start(SpeedOptions {
            settings: Arc::new(self.settings.clone()),
            definitions: Arc::new(Definitions::fixed(Arc::clone(&self.catalog), Arc::clone(&self.views))),
            open_log: None,
            store: self.store.clone(),
            logs: [("clicks".to_owned(), log)].into(),
            listener,
            worker_id: worker.to_owned(),
            shutdown: shutdown.clone(),
        })
        .await?;
        Ok(Worker {
            handle,
            stop: StopOnDrop(shutdown),
            views: Arc::clone(&self.views),
        })
    }

    pub async fn append(&self, events: &[Event]) -> OffsetVector {
        let record = |event: &Event| RawRecord {
            payload: Some(event.json()),
            ..RawRecord::default()
        };
        self.append_raw(events.iter().map(record).collect()).await
    }

    pub async fn append_raw(&self, records: Vec<RawRecord>) -> OffsetVector {
        let mut through = OffsetVector::new();
        // Records without a key go to one partition per call: small calls reach them all.
        for chunk in records.chunks(101) {
            for (partition, next) in self.log.append(chunk.to_vec()).await.unwrap().iter() {
                through.set(partition, next);
            }
        }
        through
    }

    pub async fn dataset(&self) -> MasterDataset {
        MasterDataset::open_existing(&self.store, &self.catalog.sources["clicks"])
            .await
            .unwrap()
            .unwrap()
    }

    /// Waits until everything in the log is landed.
    pub async fn landed(&self) -> Snapshot {
        let ends = self.log.ends().await.unwrap();
        let dataset = self.dataset().await;
        eventually("everything is landed", async || {
            let snapshot = dataset.snapshot(None).await.unwrap();
            (snapshot.next == ends).then_some(snapshot)
        })
        .await
    }

    /// Waits until reading has paused for good, and says what the worker's status was then: some of the log is unread, and
    /// stays so. `more` is to append events when all that there are have been read: memory is measured now and then, so how
    /// much comes in before a pause is a matter of luck. State that is merged may let in a little more afterwards.
    pub async fn paused_for_good(
        &self,
        worker: &Worker,
        enough: impl Fn(&serde_json::Value) -> bool,
        mut more: impl AsyncFnMut(),
    ) -> serde_json::Value {
        const LOOKS: usize = 50;
        let (mut before, mut alike) = (Vec::new(), 0);
        eventually("reading has paused for good", async || {
            let ends = self.log.ends().await.unwrap();
            let status = worker.status().await;
            let partitions = &status["sources"]["clicks"]["partitions"];
            let next = |partition: PartitionId| partitions[partition.to_string()]["next_consumed"].as_i64();
            let read: Vec<_> = ends.partitions().map(next).collect();
            let unread = ends.iter().any(|(partition, end)| next(partition) < Some(end.0));
            if !unread {
                more().await;
            }
            let rests = unread && status["paused"] == true && enough(&status) && read == before;
            (before, alike) = (read, if rests { alike + 1 } else { 0 });
            (alike == LOOKS).then_some(status)
        })
        .await
    }

    /// (partition, offset) of every landed row, events and dead letters.
    pub async fn landed_rows(&self) -> Vec<(i32, i64)> {
        use arrow::datatypes::Int32Type;
        use object_store::ObjectStoreExt;
        use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
        let snapshot = self.dataset().await.snapshot(None).await.unwrap();
        let mut rows = Vec::new();
        for file in &snapshot.files {
            let bytes = self
                .store
                .objects()
                .get(&file.path)
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap();
            let before = rows.len();
            for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)
                .unwrap()
                .build()
                .unwrap()
            {
                let batch = batch.unwrap();
                let partitions = batch
                    .column_by_name("_partition")
                    .unwrap()
                    .as_primitive::<Int32Type>()
                    .clone();
                let offsets = batch
                    .column_by_name("_offset")
                    .unwrap()
                    .as_primitive::<Int64Type>()
                    .clone();
                rows.extend(
                    partitions
                        .values()
                        .iter()
                        .copied()
                        .zip(offsets.values().iter().copied()),
                );
            }
            assert_eq!(
                (rows.len() - before) as u64,
                file.rows,
                "the commit says how many rows a file has"
            );
        }
        rows.sort_unstable();
        rows
    }

    /// Every offset of the log is landed exactly once.
    pub async fn assert_each_offset_landed_once(&self) {
        let ends = self.log.ends().await.unwrap();
        let expected: Vec<_> = ends
            .iter()
            .flat_map(|(p, end)| (0..end.0).map(move |offset| (p.0, offset)))
            .collect();
        assert_eq!(self.landed_rows().await, expected);
    }
}

pub fn open_store(folder: &Path) -> Store {
    let folder = folder.join("store");
    std::fs::create_dir_all(&folder).unwrap();
    Store::open(&format!("file://{}", folder.display()), &BTreeMap::new()).unwrap()
}

pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "it did not come true within {PATIENCE:?} that {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub struct Worker {
    pub handle: SpeedHandle,
    stop: StopOnDrop,
    views: Arc<Vec<View>>,
}

/// A test that fails must not leave threads behind that its runtime would wait for.
struct StopOnDrop(Shutdown);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Worker {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.handle.address())
    }

    pub async fn stop(self) -> Result<(), anabranch_speed::Error> {
        self.stop.0.cancel();
        self.handle.stopped().await
    }

    pub async fn kill(self) {
        self.handle.kill().await;
    }

    pub async fn status(&self) -> serde_json::Value {
        reqwest::get(self.url("/v1/status"))
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    pub async fn reader(&self) -> Reader {
        let channel = Channel::from_shared(self.url("")).unwrap().connect().await.unwrap();
        Reader {
            client: FlightServiceClient::new(channel),
            views: Arc::clone(&self.views),
        }
    }
}

/// Reads realtime state as serving does.
pub struct Reader {
    client: FlightServiceClient<Channel>,
    views: Arc<Vec<View>>,
}

/// A view's answer: rows as text, sorted.
pub type Rows = BTreeSet<Vec<String>>;

impl Reader {
    pub async fn snapshot(&mut self, cut: &OffsetVector) -> SnapshotReply {
        let views = self.views.iter();
        let views = views.map(|view| ViewCut {
            view: view.name().into(),
            hash: view.hash().clone(),
            cut: cut.clone(),
            until: None,
        });
        self.ask(SnapshotRequest { views: views.collect() }).await
    }

    pub async fn ask(&mut self, request: SnapshotRequest) -> SnapshotReply {
        let action = Action {
            r#type: SNAPSHOT_ACTION.into(),
            body: serde_json::to_vec(&request).unwrap().into(),
        };
        let mut answers = self.client.do_action(action).await.unwrap().into_inner();
        serde_json::from_slice(&answers.next().await.unwrap().unwrap().body).unwrap()
    }

    /// Why a ticket cannot be read.
    pub async fn refusal(&mut self, ticket: &StateTicket) -> tonic::Code {
        let ticket = Ticket {
            ticket: serde_json::to_vec(ticket).unwrap().into(),
        };
        self.client
            .do_get(ticket)
            .await
            .expect_err("the ticket is refused")
            .code()
    }

    pub async fn state(&mut self, ticket: &StateTicket) -> Vec<RecordBatch> {
        let ticket = Ticket {
            ticket: serde_json::to_vec(ticket).unwrap().into(),
        };
        let stream = self.client.do_get(ticket).await.unwrap().into_inner();
        let stream = FlightRecordBatchStream::new_from_flight_data(stream.map_err(Into::into));
        stream.try_collect().await.unwrap()
    }

    /// The answer of each view over one snapshot, once it reaches `through` in every partition.
    pub async fn answers(&mut self, cut: &OffsetVector, through: &OffsetVector) -> BTreeMap<String, Rows> {
        let snapshot = self.covering(cut, through).await;
        self.answers_of(&snapshot).await
    }

    pub async fn covering(&mut self, cut: &OffsetVector, through: &OffsetVector) -> SnapshotReply {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let snapshot = self.snapshot(cut).await;
            let covered = |view: &ViewPieces| covers(&view.partitions, cut, through);
            if snapshot.views.len() == self.views.len() && snapshot.views.values().all(covered) {
                return snapshot;
            }
            assert!(
                Instant::now() < deadline,
                "not covered within {PATIENCE:?}: {snapshot:?}, wanted {through:?}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn answers_of(&mut self, snapshot: &SnapshotReply) -> BTreeMap<String, Rows> {
        let mut answers = BTreeMap::new();
        for view in Arc::clone(&self.views).iter() {
            let ticket = StateTicket {
                snapshot: snapshot.id,
                view: view.name().into(),
                partitions: vec![],
                filter: None,
            };
            let mut aggregator = view.aggregator().unwrap();
            for batch in self.state(&ticket).await {
                aggregator.merge(&batch).unwrap();
            }
            answers.insert(
                view.name().to_owned(),
                rows(&view.finalise(&aggregator.emit().unwrap()).unwrap()),
            );
        }
        answers
    }
}

fn covers(pieces: &BTreeMap<PartitionId, Piece>, cut: &OffsetVector, through: &OffsetVector) -> bool {
    through.iter().all(|(partition, wanted)| match pieces.get(&partition) {
        Some(Piece::Ready { range, .. }) => {
            assert_eq!(
                range.start,
                cut.get(partition).unwrap_or_default(),
                "the piece begins at the cut that was asked for"
            );
            range.end >= wanted
        }
        _ => false,
    })
}

pub fn rows(batch: &RecordBatch) -> Rows {
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|c| arrow::util::display::ArrayFormatter::try_new(c, &Default::default()).unwrap())
        .collect();
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect())
        .collect()
}

#[derive(Clone, Debug)]
pub struct Event {
    /// Seconds since the epoch.
    pub at: i64,
    pub url: String,
    pub user: i64,
    pub ms: i64,
}

impl Event {
    pub fn json(&self) -> Vec<u8> {
        let ts = format!(
            "2024-05-01T{:02}:{:02}:{:02}Z",
            self.at / 3600 % 24,
            self.at / 60 % 60,
            self.at % 60
        );
        format!(
            r#"{{"ts":"{ts}","url":"{}","user_id":{},"ms":{}}}"#,
            self.url, self.user, self.ms
        )
        .into_bytes()
    }
}

/// Deterministic events, somewhat out of order.
pub fn events(range: std::ops::Range<i64>) -> Vec<Event> {
    range
        .map(|i| Event {
            at: i / 7 + (i * 31) % 45,
            url: format!("/page/{}", i * i % 37),
            user: i * 13 % 101,
            ms: i % 50,
        })
        .collect()
}

/// What the views must answer over these events.
pub fn truth(events: &[Event]) -> BTreeMap<String, Rows> {
    let mut urls: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    let mut minutes: BTreeMap<i64, (i64, BTreeSet<i64>)> = BTreeMap::new();
    for event in events {
        let url = urls.entry(&event.url).or_default();
        *url = (url.0 + 1, url.1 + event.ms);
        let minute = minutes.entry(event.at / 60).or_default();
        minute.0 += 1;
        minute.1.insert(event.user);
    }
    let text = |values: &[i64]| values.iter().map(i64::to_string).collect::<Vec<_>>();
    let per_url = urls
        .iter()
        .map(|(url, (n, ms))| [vec![(*url).to_owned()], text(&[*n, *ms])].concat())
        .collect();
    let per_minute = minutes.iter().map(|(minute, (n, users))| {
        let minute = format!("2024-05-01T{:02}:{:02}:00Z", minute / 60, minute % 60);
        [vec![minute], text(&[*n, users.len() as i64])].concat()
    });
    let ms = events.iter().map(|event| event.ms).sum::<i64>();
    let total = [[
        events.len().to_string(),
        if events.is_empty() {
            String::new()
        } else {
            ms.to_string()
        },
    ]
    .to_vec()];
    [
        ("per_url".to_owned(), per_url),
        ("per_minute".to_owned(), per_minute.collect()),
        ("total".to_owned(), total.into()),
    ]
    .into()
}

pub fn bad(payload: &[u8]) -> RawRecord {
    RawRecord {
        payload: Some(payload.to_vec()),
        ..RawRecord::default()
    }
}
