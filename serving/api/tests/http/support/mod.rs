use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::Catalog;
use anabranch_dataset::{BatchView, Lease, Leases, Manifest, Notes, Publication, Publications, StateFiles, Store};
use anabranch_definitions::Definitions;
use anabranch_model::{Cut, Offset, OffsetRange, OffsetVector, PartitionId};
use anabranch_runtime::{Settings, Shutdown};
use anabranch_serving::{ServingHandle, ServingLayer, ServingOptions};
use anabranch_view::View;
use arrow::array::{
    ArrayRef, BinaryArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use axum::serve::ListenerExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub use worker::Worker;

mod worker;

pub const VIEWS_SQL: &str = "
CREATE TABLE clicks (
  page TEXT, at TIMESTAMP, n BIGINT, price DECIMAL(10, 2), score DOUBLE, blob BYTES
) WITH (connector = 'log', topic = 'web-clicks', format = 'json');

CREATE TABLE orders (page TEXT, n BIGINT) WITH (connector = 'log', topic = 'orders', format = 'json');

CREATE MATERIALIZED VIEW pages AS
SELECT page, count(*) AS hits, sum(n) AS total FROM clicks GROUP BY page;

CREATE MATERIALIZED VIEW hours AS
SELECT tumble(at, INTERVAL '1 hour') AS hour, page, count(*) AS hits, max(price) AS dearest, sum(score) AS score
FROM clicks GROUP BY hour, page;

CREATE MATERIALIZED VIEW blobs AS
SELECT blob, CAST(at AS DATE) AS day, min(at) AS first FROM clicks GROUP BY blob, day;

CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS hits FROM clicks;

CREATE MATERIALIZED VIEW sales AS SELECT page, sum(n) AS sold FROM orders GROUP BY page;
";

/// One event of either source.
#[derive(Clone, Debug, Default)]
pub struct Event {
    pub page: Option<&'static str>,
    /// Microseconds since the epoch.
    pub at: i64,
    pub n: Option<i64>,
    /// Hundredths.
    pub price: Option<i128>,
    pub score: Option<f64>,
    pub blob: Option<&'static [u8]>,
}

pub fn click(page: &'static str, n: i64) -> Event {
    Event {
        page: Some(page),
        n: Some(n),
        ..Event::default()
    }
}

/// Partial state of some events.
pub fn state(view: &View, events: &[Event]) -> RecordBatch {
    let schema = view.source().event_schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "page" => Arc::new(StringArray::from_iter(events.iter().map(|e| e.page))),
            "at" => {
                Arc::new(TimestampMicrosecondArray::from_iter_values(events.iter().map(|e| e.at)).with_timezone("UTC"))
            }
            "n" => Arc::new(Int64Array::from_iter(events.iter().map(|e| e.n))),
            "price" => Arc::new(
                Decimal128Array::from_iter(events.iter().map(|e| e.price))
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
            "score" => Arc::new(Float64Array::from_iter(events.iter().map(|e| e.score))),
            "blob" => Arc::new(BinaryArray::from_iter(events.iter().map(|e| e.blob))),
            _ => new_null_array(field.data_type(), events.len()),
        }
    });
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let events = RecordBatch::try_new(schema, columns.collect()).unwrap();
    let mut aggregator = view.aggregator().unwrap();
    aggregator.fold(&view.prepare(&events).unwrap()).unwrap();
    aggregator.emit().unwrap()
}

/// Everything around one serving process.
pub struct World {
    pub catalog: Arc<Catalog>,
    pub views: Arc<Vec<View>>,
    pub store: Store,
    pub serving: Option<ServingHandle>,
    pub base: String,
    pub http: reqwest::Client,
    shutdown: Shutdown,
}

impl World {
    /// A store, and nobody alive but serving.
    pub async fn start() -> Self {
        Self::with_settings(Settings::default()).await
    }

    pub async fn with_settings(mut settings: Settings) -> Self {
        settings.serving.poll = anabranch_runtime::HumanDuration(Duration::from_millis(20));
        let catalog = Arc::new(Catalog::parse(VIEWS_SQL).unwrap());
        let views: Vec<View> = catalog
            .views
            .values()
            .map(|view| View::compile(view).unwrap())
            .collect();
        let mut world = Self {
            catalog,
            views: Arc::new(views),
            store: Store::open("memory://", &BTreeMap::new()).unwrap(),
            serving: None,
            base: String::new(),
            http: reqwest::Client::new(),
            shutdown: Shutdown::new(),
        };
        anabranch_runtime::telemetry::metrics();
        let handle = world.serve("serve-1", settings).await;
        world.base = format!("http://{}", handle.address());
        world.serving = Some(handle);
        eventually("ready", async || world.get("/readyz").await.0 == 200).await;
        world
    }

    async fn serve(&self, id: &str, settings: Settings) -> ServingHandle {
        ServingLayer::start(ServingOptions {
            settings: Arc::new(settings),
            definitions: Arc::new(Definitions::fixed(Arc::clone(&self.catalog), Arc::clone(&self.views))),
            store: self.store.clone(),
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            front_ends: anabranch_serving::FrontEnds::default(),
            worker_id: id.into(),
            shutdown: self.shutdown.clone(),
        })
        .await
        .unwrap()
    }

    /// The same world through another serving process, which ends with this one.
    pub async fn beside(&self, id: &str) -> Self {
        let mut settings = Settings::default();
        settings.serving.poll = anabranch_runtime::HumanDuration(Duration::from_millis(20));
        let handle = self.serve(id, settings).await;
        let beside = Self {
            catalog: Arc::clone(&self.catalog),
            views: Arc::clone(&self.views),
            store: self.store.clone(),
            base: format!("http://{}", handle.address()),
            serving: Some(handle),
            http: reqwest::Client::new(),
            shutdown: self.shutdown.clone(),
        };
        eventually("ready", async || beside.get("/readyz").await.0 == 200).await;
        beside
    }

    pub fn view(&self, name: &str) -> View {
        self.views.iter().find(|view| view.name() == name).unwrap().clone()
    }

    /// Starts a speed worker that owns these partitions of `clicks` (and none of `orders`) under `epoch`.
    pub async fn worker(&self, id: &str, epoch: i64, partitions: &[i32]) -> Worker {
        let worker = Worker::start(id, Arc::clone(&self.views)).await;
        for partition in partitions {
            worker.own("clicks", *partition, epoch);
        }
        self.announce(&worker).await;
        worker
    }

    /// Writes the worker's lease and waits until serving has read it.
    pub async fn announce(&self, worker: &Worker) {
        let lease = worker.lease(2);
        Leases::new(&self.store).renew(&lease).await.unwrap();
        let owned = lease.facts["sources"]["clicks"]["owned"]
            .as_object()
            .map_or(0, serde_json::Map::len);
        eventually("the lease is seen", async || {
            let status = self.get("/v1/status").await.1;
            let partitions = status["sources"]["clicks"]["partitions"].as_object().unwrap();
            let seen = partitions
                .values()
                .filter(|partition| partition["owner"] == lease.id.as_str())
                .count();
            let known = status["services"]["speed"]
                .as_array()
                .unwrap()
                .iter()
                .any(|s| s["id"] == lease.id.as_str());
            // A partition that somebody else owns under a higher epoch is not shown as this worker's.
            known && (seen == owned || partitions.len() >= owned)
        })
        .await;
    }

    /// Publishes batch views over the first events of each partition of `clicks`, as a batch run does.
    pub async fn publish(&self, version: u64, history: &[(i32, &[Event])]) -> Publication {
        self.publish_noted(version, history, Notes::default()).await
    }

    /// As [`Self::publish`], by a run that applied these notes; `history` is what they leave, but for its ends.
    pub async fn publish_noted(&self, version: u64, history: &[(i32, &[Event])], notes: Notes) -> Publication {
        let log = Publications::new(&self.store);
        let based_on = log.latest().await.unwrap().map_or(0, |publication| publication.number);
        let next: OffsetVector = history
            .iter()
            .map(|(partition, events)| (PartitionId(*partition), Offset(events.len() as i64)))
            .collect();
        let events: Vec<Event> = history.iter().flat_map(|(_, events)| events.iter().cloned()).collect();
        let run_id = format!("run-{}", based_on + 1);
        let mut views = BTreeMap::new();
        for view in self.views.iter().filter(|view| view.source().name == "clicks") {
            let sorted = view.sort_state(&state(view, &events)).unwrap();
            let mut files = Vec::new();
            // Two files, so that their order matters.
            let half = sorted.num_rows() / 2;
            for (index, part) in [sorted.slice(0, half), sorted.slice(half, sorted.num_rows() - half)]
                .into_iter()
                .enumerate()
            {
                if part.num_rows() > 0 {
                    let path = format!("runs/{run_id}/{}/part-{index:05}.parquet", view.name()).into();
                    files.push(StateFiles::write(&self.store, &path, vec![part]).await.unwrap());
                }
            }
            let batch = BatchView {
                hash: view.hash().clone(),
                source: "clicks".into(),
                files,
                groups: sorted.num_rows() as u64,
                rows: events.len() as u64,
            };
            views.insert(view.name().to_owned(), batch);
        }
        let manifest = Manifest {
            run_id,
            started_at: "2026-01-01T00:00:00Z".into(),
            finished_at: "2026-01-01T00:00:01Z".into(),
            cuts: [(
                "clicks".to_owned(),
                Cut {
                    version: Some(version),
                    next,
                },
            )]
            .into(),
            views,
            notes: BTreeMap::from([("clicks".to_owned(), notes)]),
            mode: Default::default(),
            base: None,
            chain: 0,
        };
        log.publish(based_on, manifest).await.unwrap()
    }

    /// Publishes, and waits until it is served.
    pub async fn publish_and_adopt(&self, version: u64, history: &[(i32, &[Event])]) -> Publication {
        let publication = self.publish(version, history).await;
        eventually("the publication is adopted", async || {
            self.get("/v1/status").await.1["publication"]["number"] == publication.number
        })
        .await;
        publication
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.http.get(format!("{}{path}", self.base)).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(
            self.http
                .post(format!("{}{path}", self.base))
                .json(body)
                .send()
                .await
                .unwrap(),
        )
        .await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        answer(self.http.delete(format!("{}{path}", self.base)).send().await.unwrap()).await
    }

    pub async fn sql(&self, sql: &str) -> (u16, Value) {
        self.post("/v1/sql", &json!({"sql": sql})).await
    }

    /// Rows of a query that must succeed.
    pub async fn query(&self, sql: &str) -> Value {
        let (status, answer) = self.sql(sql).await;
        assert_eq!(status, 200, "{sql}: {answer}");
        assert_eq!(answer["row_count"], answer["rows"].as_array().unwrap().len());
        answer["rows"].clone()
    }

    /// The lease that serving keeps.
    pub async fn serve_lease(&self) -> Option<Lease> {
        Leases::new(&self.store).list("serve").await.unwrap().pop()
    }

    pub async fn stop(mut self) {
        self.shutdown.cancel();
        self.serving.take().unwrap().stopped().await.unwrap();
    }
}

async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or_else(|_| json!({"text": text})),
    )
}

/// Waits for something that other tasks bring about. Two minutes only end a hang.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    while !check().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Serves a router on a port of its own, until the test ends.
pub async fn serve(router: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

pub fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end))
}
