//! What the tests of this crate share: a catalog, landed rows, a store whose reads can be held up, and an HTTP client.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anabranch_catalog::Catalog;
use anabranch_dataset::{
    Advance, Claim, DataFile, LandOutcome, Landing, Manifest, MasterDataset, Publication, StateFiles, Store,
};
use anabranch_definitions::Definitions;
use anabranch_model::{Offset, OffsetRange, OffsetVector, PartitionId, columns};
use anabranch_runtime::{Settings, Shutdown};
use anabranch_view::View;
use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::concat_batches;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use parquet::arrow::ArrowWriter;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::{BatchHandle, BatchLayer, BatchOptions, Error};

pub(crate) const SQL: &str = "
CREATE TABLE clicks (page TEXT, n BIGINT) WITH (connector = 'log', topic = 'clicks', format = 'json');
CREATE TABLE orders (amount BIGINT) WITH (connector = 'log', topic = 'orders', format = 'json');
CREATE MATERIALIZED VIEW per_page AS SELECT page, count(*) AS clicks, sum(n) AS total FROM clicks GROUP BY page;
CREATE MATERIALIZED VIEW overall AS SELECT count(*) AS clicks FROM clicks;
CREATE MATERIALIZED VIEW revenue AS SELECT count(*) AS orders, sum(amount) AS amount FROM orders;
";

/// Catalog and views of a `views.sql`.
pub(crate) fn compiled(sql: &str) -> (Arc<Catalog>, Arc<Vec<View>>) {
    let catalog = Catalog::parse(sql).unwrap();
    let views = catalog
        .views
        .values()
        .map(|view| View::compile(view).unwrap())
        .collect();
    (Arc::new(catalog), Arc::new(views))
}

/// Partition and next offset.
pub(crate) fn offsets(next: &[(i32, i64)]) -> OffsetVector {
    next.iter()
        .map(|(partition, next)| (PartitionId(*partition), Offset(*next)))
        .collect()
}

pub(crate) fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end))
}

/// Of no views.
pub(crate) fn publication(run_id: &str, published_at: &str) -> Publication {
    let manifest = Manifest {
        run_id: run_id.to_owned(),
        started_at: String::new(),
        finished_at: String::new(),
        cuts: Default::default(),
        views: Default::default(),
        notes: Default::default(),
        mode: Default::default(),
        base: None,
        chain: 0,
    };
    Publication {
        number: 7,
        based_on: 6,
        published_at: published_at.to_owned(),
        manifest,
    }
}

/// Clicks with offsets `range`: page `/0`, `/1`, `/2` in turn, and n = offset. The log received them at `time_us`.
fn clicks(dataset: &MasterDataset, partition: i32, range: Range<i64>, time_us: Option<i64>) -> RecordBatch {
    let schema = dataset.file_schema();
    let rows = usize::try_from(range.end - range.start).unwrap();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            columns::PARTITION => Arc::new(Int32Array::from_value(partition, rows)),
            columns::OFFSET | "n" => Arc::new(Int64Array::from_iter_values(range.clone())),
            "page" => Arc::new(StringArray::from_iter_values(
                range.clone().map(|offset| format!("/{}", offset % 3)),
            )),
            columns::TIMESTAMP => {
                Arc::new(TimestampMicrosecondArray::from_iter(range.clone().map(|_| time_us)).with_timezone("UTC"))
            }
            _ => new_null_array(field.data_type(), rows),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

/// Lands clicks of one partition, and a dead letter for each tenth of them, in one commit.
pub(crate) async fn land(store: &Store, catalog: &Catalog, partition: i32, range: Range<i64>) -> Vec<DataFile> {
    land_at(store, catalog, partition, range, None).await
}

/// As [`land`], of events that the log received at `time_us`.
pub(crate) async fn land_at(
    store: &Store,
    catalog: &Catalog,
    partition: i32,
    range: Range<i64>,
    time_us: Option<i64>,
) -> Vec<DataFile> {
    let dataset = MasterDataset::open(store, &catalog.sources["clicks"], "log-1")
        .await
        .unwrap();
    let id = PartitionId(partition);
    let owned = dataset
        .claim(
            &[Claim {
                partition: id,
                start: Offset(0),
            }],
            "tests",
        )
        .await
        .unwrap()[&id];
    let mut files = Vec::new();
    let dead_rows = (range.end - range.start) / 10;
    for (dead, batch) in [
        (false, clicks(&dataset, partition, range.clone(), time_us)),
        (
            true,
            clicks(&dataset, partition, range.start..range.start + dead_rows, time_us),
        ),
    ] {
        if batch.num_rows() == 0 {
            continue;
        }
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let bytes = Bytes::from(writer.into_inner().unwrap());
        let path = dataset.new_file_path(dead);
        files.push(DataFile::of_batches(path.clone(), bytes.len() as u64, dead, &[batch]));
        store.objects().put(&path, bytes.into()).await.unwrap();
    }
    let range = OffsetRange::new(Offset(range.start), Offset(range.end));
    let partitions = BTreeMap::from([(
        id,
        Advance {
            range,
            epoch: owned.epoch,
        },
    )]);
    let landing = Landing {
        commit_id: uuid::Uuid::new_v4(),
        files: files.clone(),
        partitions,
    };
    assert!(matches!(
        dataset.land(&landing).await.unwrap(),
        LandOutcome::Landed { .. }
    ));
    files
}

/// A batch layer on a port of its own.
pub(crate) struct Service {
    pub(crate) store: Store,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) views: Arc<Vec<View>>,
    pub(crate) shutdown: Shutdown,
    pub(crate) url: String,
    handle: BatchHandle,
}

impl Service {
    pub(crate) async fn start(store: &Store, sql: &str, settings: Settings) -> Self {
        Self::try_start(store, sql, settings).await.unwrap()
    }

    pub(crate) async fn try_start(store: &Store, sql: &str, settings: Settings) -> Result<Self, Error> {
        Self::start_as("batch-under-test", store, sql, settings).await
    }

    pub(crate) async fn start_as(id: &str, store: &Store, sql: &str, settings: Settings) -> Result<Self, Error> {
        let (catalog, views) = compiled(sql);
        let shutdown = Shutdown::new();
        let options = BatchOptions {
            settings: Arc::new(settings),
            definitions: Arc::new(Definitions::fixed(catalog.clone(), views.clone())),
            store: store.clone(),
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            worker_id: id.to_owned(),
            shutdown: shutdown.clone(),
        };
        let handle = BatchLayer::start(options).await?;
        let url = format!("http://{}", handle.address());
        Ok(Self {
            store: store.clone(),
            catalog,
            views,
            shutdown,
            url,
            handle,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let answer = reqwest::get(format!("{}{path}", self.url)).await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// `POST /v1/batch/runs`.
    pub(crate) async fn post_run(&self) -> (u16, Value) {
        self.post("/v1/batch/runs").await
    }

    /// Posts nothing.
    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = reqwest::Client::new().post(format!("{}{path}", self.url));
        let answer = request.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) async fn post(&self, path: &str) -> (u16, Value) {
        let answer = reqwest::Client::new()
            .post(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Starts a run; returns its id.
    pub(crate) async fn run(&self) -> String {
        let (status, answer) = self.post_run().await;
        assert_eq!(status, 202, "{answer}");
        answer["run_id"].as_str().unwrap().to_owned()
    }

    /// Waits until a run's record says `state`.
    pub(crate) async fn wait_for(&self, run_id: &str, state: &str) -> Value {
        eventually(async || {
            let (_, record) = self.get(&format!("/v1/batch/runs/{run_id}")).await;
            (record["state"] == state)
                .then_some(record.clone())
                .ok_or_else(|| record.to_string())
        })
        .await
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.handle.stopped().await.unwrap();
    }

    /// Asks for a rollback or a verification, which must be accepted; returns the run's id.
    pub(crate) async fn task(&self, path: &str, body: &Value) -> String {
        let (status, answer) = self.post_json(path, body).await;
        assert_eq!(status, 202, "{answer}");
        answer["run_id"].as_str().unwrap().to_owned()
    }

    /// Runs a run to its publication.
    pub(crate) async fn published(&self) -> (Value, anabranch_dataset::Publication) {
        let run_id = self.run().await;
        let record = self.wait_for(&run_id, "published").await;
        let latest = anabranch_dataset::Publications::new(&self.store)
            .latest()
            .await
            .unwrap();
        (record, latest.unwrap())
    }

    /// The answer of a published view, its rows as text.
    pub(crate) async fn answer(&self, publication: &anabranch_dataset::Publication, view: &str) -> Vec<String> {
        let view = self.views.iter().find(|v| v.name() == view).unwrap();
        let batches = StateFiles::read(
            &self.store,
            &publication.manifest.views[view.name()],
            &view.state_schema(),
        )
        .await
        .unwrap();
        let state = concat_batches(&view.state_schema(), &batches).unwrap();
        let answer = view.finalise(&state).unwrap();
        let options = FormatOptions::default().with_null("NULL");
        let columns: Vec<_> = answer
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
            .collect();
        let row = |row: usize| {
            columns
                .iter()
                .map(|column| column.value(row).to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        (0..answer.num_rows()).map(row).collect()
    }
}

/// Polls until `check` is content; panics with its last word after two minutes, which only ends a hang.
pub(crate) async fn eventually<T>(mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match check().await {
            Ok(value) => return value,
            Err(last) => assert!(Instant::now() < deadline, "still: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A store in memory whose reads of events wait while the gate is closed, and whose listings can be made to lag behind.
#[derive(Debug)]
pub(crate) struct Gate {
    inner: InMemory,
    open: watch::Sender<bool>,
    stale: AtomicBool,
    /// Files of events that were read.
    reads: Mutex<BTreeSet<String>>,
}

impl Gate {
    pub(crate) fn store() -> (Arc<Self>, Store) {
        let gate = Arc::new(Self {
            inner: InMemory::new(),
            open: watch::Sender::new(true),
            stale: AtomicBool::new(false),
            reads: Mutex::default(),
        });
        (gate.clone(), Store::with_objects("memory://gate", gate))
    }

    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// From now on listings show nothing.
    pub(crate) fn lag(&self) {
        self.stale.store(true, Ordering::SeqCst);
    }

    /// Files of events that were read since somebody asked.
    pub(crate) fn take_reads(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.reads.lock().unwrap())
    }

    async fn pass(&self, path: &Path) {
        if path.extension() == Some("parquet") && path.as_ref().starts_with("sources/") {
            self.reads.lock().unwrap().insert(path.to_string());
            let mut open = self.open.subscribe();
            let _ = open.wait_for(|open| *open).await;
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        self.inner.put_opts(path, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.pass(path).await;
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.pass(path).await;
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        if self.stale.load(Ordering::SeqCst) {
            return futures::stream::empty().boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
