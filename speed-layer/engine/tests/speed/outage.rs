//! A store that does not answer for a while: everything waits, nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anabranch_dataset::Store;
use anabranch_model::OffsetVector;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use crate::harness::*;

/// A store that refuses writes while it is down.
#[derive(Debug)]
pub struct Flaky {
    inner: Arc<dyn ObjectStore>,
    down: Arc<AtomicBool>,
    pub refused: Arc<AtomicU64>,
    /// Only writes of objects whose path contains this.
    only: Option<&'static str>,
}

impl std::fmt::Display for Flaky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "flaky {}", self.inner)
    }
}

impl Flaky {
    /// A store over another one, and the switch that takes it down.
    pub fn over(store: &Store, only: Option<&'static str>) -> (Self, Arc<AtomicBool>) {
        let (inner, down) = (Arc::clone(store.objects()), Arc::new(AtomicBool::new(false)));
        let flaky = Self {
            inner,
            down: Arc::clone(&down),
            refused: Arc::default(),
            only,
        };
        (flaky, down)
    }

    fn answer(&self, path: &Path) -> Result<()> {
        let meant = self.only.is_none_or(|part| path.as_ref().contains(part));
        if meant && self.down.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(object_store::Error::Generic {
                store: "flaky",
                source: "it is down".into(),
            });
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.answer(location)?;
        self.inner.put_opts(location, payload, opts).await
    }
    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.answer(location)?;
        self.inner.put_multipart_opts(location, opts).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.answer(to)?;
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_down_state_stays_visible_and_nothing_is_lost() {
    let mut world = World::new();
    let (flaky, down) = Flaky::over(&world.store, None);
    let refused = Arc::clone(&flaky.refused);
    world.store = Store::with_objects(world.store.url(), Arc::new(flaky));
    let all = events(0..9_000);
    let worker = world.start("a").await;
    world.append(&all[..3_000]).await;
    world.landed().await;

    down.store(true, Ordering::SeqCst);
    let through = world.append(&all[3_000..6_000]).await;
    let mut reader = worker.reader().await;
    assert_eq!(
        reader.answers(&OffsetVector::new(), &through).await,
        truth(&all[..6_000]),
        "visible although not landed"
    );
    eventually("uploads were tried again", async || {
        (refused.load(Ordering::SeqCst) >= 3).then_some(())
    })
    .await;
    assert_eq!(world.landed_rows().await.len(), 3_000);

    down.store(false, Ordering::SeqCst);
    let through = world.append(&all[6_000..]).await;
    world.landed().await;
    assert_eq!(reader.answers(&OffsetVector::new(), &through).await, truth(&all));
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_landed_counts_against_the_budget_and_pauses_the_spout() {
    let mut world = World::new();
    // Much to land, and little state.
    world.settings.speed.state_budget = anabranch_runtime::ByteSize(1 << 20);
    world.settings.speed.micro_batch_records = 200;
    let long = |event: &Event| {
        let mut json = event.json();
        json.truncate(json.len() - 1);
        json.extend_from_slice(format!(",\"note\":\"{}\"}}", "x".repeat(2_000)).as_bytes());
        bad(&json)
    };
    let (flaky, down) = Flaky::over(&world.store, None);
    world.store = Store::with_objects(world.store.url(), Arc::new(flaky));
    let worker = world.start("a").await;
    let all = events(0..300);
    world.append(&all).await;
    world.landed().await;

    down.store(true, Ordering::SeqCst);
    let bytes = |status: &serde_json::Value, name: &str| status[name].as_u64().unwrap();
    let twice_the_budget =
        |status: &serde_json::Value| bytes(status, "landing_bytes") + bytes(status, "state_bytes") >= 2 << 20;
    let feed = async || drop(world.append_raw(all.iter().map(long).collect()).await);
    let status = world.paused_for_good(&worker, twice_the_budget, feed).await;
    assert!(
        bytes(&status, "state_bytes") < 1 << 20,
        "it is the landings that pause it: {status}"
    );
    let trouble = eventually("it says what it waits for", async || {
        worker.status().await["sources"]["clicks"]["landing_trouble"]["error"]
            .as_str()
            .map(str::to_owned)
    })
    .await;
    assert!(trouble.contains("it is down"), "{trouble}");
    down.store(false, Ordering::SeqCst);
    world.landed().await;
    eventually("it waits for nothing any more", async || {
        let status = worker.status().await;
        status["sources"]["clicks"]
            .get("landing_trouble")
            .is_none()
            .then_some(())
    })
    .await;
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
}
