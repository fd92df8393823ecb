//! Landings, merges, retention, vacuum, clean-ups of the log and readers of one table at the same time, in an order that
//! changes with every seed. Whatever the order: each offset is exactly once in every snapshot, and what is pinned can be read.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range as Span;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use parquet::basic::Compression as Codec;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::RowFilter;
use crate::master::{Compaction, LogCleaning, Vacuum};

const PARTITIONS: i32 = 2;

/// A store in memory that lets others go first, by chance, before and after it does something.
#[derive(Debug)]
struct Unhurried {
    inner: InMemory,
    random: Mutex<StdRng>,
}

impl Unhurried {
    fn store(seed: u64) -> Store {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let inner = InMemory::new();
        Store::with_objects("memory://", Arc::new(Self { inner, random }))
    }

    async fn dawdle(&self) {
        let turns = self.random.lock().unwrap().random_range(0..4);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

impl fmt::Display for Unhurried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unhurried")
    }
}

#[async_trait]
impl ObjectStore for Unhurried {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> StoreResult<PutResult> {
        self.dawdle().await;
        let result = self.inner.put_opts(path, payload, opts).await;
        self.dawdle().await;
        result
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.dawdle().await;
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Span<u64>]) -> StoreResult<Vec<Bytes>> {
        self.dawdle().await;
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// What happens at the same time.
#[derive(Clone, Debug)]
struct Round {
    /// Per partition, the rows of each of its landings.
    landings: [Vec<i64>; PARTITIONS as usize],
    /// Merges that each of two processes tries.
    merges: [usize; 2],
    vacuums: usize,
    readers: usize,
    /// Share of what is landed that expires, in percent.
    expires: Option<i64>,
    after: After,
}

/// What happens between two rounds.
#[derive(Clone, Debug)]
struct After {
    /// A process dies between upload and commit, and another takes its place.
    crash: bool,
    /// Hours go by: a checkpoint is written, the log is cleaned up, and crashed uploads are removed.
    hours: bool,
    /// So many of the oldest pins are let go.
    unpinned: usize,
}

fn round() -> impl Strategy<Value = Round> {
    let landings = || prop::collection::vec(1..5_i64, 0..5);
    let after = (any::<bool>(), any::<bool>(), 0..3_usize);
    let expires = prop::option::weighted(0.2, 1..60_i64);
    (
        landings(),
        landings(),
        [0..4_usize, 0..3],
        0..3_usize,
        0..3_usize,
        expires,
        after,
    )
        .prop_map(
            |(first, second, merges, vacuums, readers, expires, (crash, hours, unpinned))| Round {
                landings: [first, second],
                merges,
                vacuums,
                readers,
                expires,
                after: After { crash, hours, unpinned },
            },
        )
}

/// The processes of one run.
struct World {
    store: Store,
    /// One for each partition.
    workers: Vec<(MasterDataset, i64, i64)>,
    compactors: [MasterDataset; 2],
    pins: Mutex<Vec<Snapshot>>,
    /// Keeps a vacuum from seeing pins of before and files of after: in life the grace does, which is longer than a vacuum takes.
    quiet: tokio::sync::Mutex<()>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let store = Unhurried::store(seed);
        let mut workers = Vec::new();
        for partition in 0..PARTITIONS {
            let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
            let epoch = epoch_of(&dataset, partition, "first").await;
            workers.push((dataset, epoch, 0));
        }
        let compactors = [Self::open(&store).await, Self::open(&store).await];
        let (pins, quiet) = Default::default();
        Self {
            store,
            workers,
            compactors,
            pins,
            quiet,
        }
    }

    async fn open(store: &Store) -> MasterDataset {
        MasterDataset::open_existing(store, &clicks()).await.unwrap().unwrap()
    }

    fn pinned(&self) -> BTreeSet<u64> {
        self.pins.lock().unwrap().iter().map(|pin| pin.version).collect()
    }

    async fn land(&self, partition: i32, rows: &[i64]) -> i64 {
        let (dataset, epoch, next) = &self.workers[partition as usize];
        let mut next = *next;
        for rows in rows {
            let landing = landing(dataset, partition, next..next + rows, *epoch).await;
            landed_version(dataset, &landing).await;
            next += rows;
        }
        next
    }

    async fn merge(&self, compactor: usize, times: usize) {
        let compaction = Compaction {
            min_files: 2,
            target_file_bytes: 1 << 20,
            memory_bytes: 1 << 30,
            compression: Codec::UNCOMPRESSED,
        };
        for _ in 0..times {
            self.compactors[compactor].compact(&compaction).await.unwrap();
        }
    }

    async fn vacuum(&self, times: usize) {
        for _ in 0..times {
            let _quiet = self.quiet.lock().await;
            let vacuum = Vacuum {
                now: Utc::now() + TimeDelta::seconds(1),
                grace: std::time::Duration::ZERO,
                pinned: self.pinned(),
                dry_run: false,
            };
            self.compactors[0].vacuum(&vacuum).await.unwrap();
        }
    }

    async fn expire(&self, percent: Option<i64>) {
        let Some(percent) = percent else { return };
        let dataset = &self.compactors[1];
        let landed = dataset.snapshot(None).await.unwrap().next;
        let since = landed
            .iter()
            .map(|(p, next)| (p, Offset(next.0 * percent / 100)))
            .collect();
        dataset.expire(&since).await.unwrap();
    }

    async fn read(&self, times: usize) {
        let dataset = Self::open(&self.store).await;
        for _ in 0..times {
            let snapshot = {
                let _quiet = self.quiet.lock().await;
                let snapshot = dataset.snapshot(None).await.unwrap();
                self.pins.lock().unwrap().push(snapshot.clone());
                snapshot
            };
            check(&self.store, &snapshot).await;
        }
    }

    async fn play(&mut self, round: &Round) {
        let [first, second] = &round.landings;
        let (first, second, ..) = tokio::join!(
            self.land(0, first),
            self.land(1, second),
            self.merge(0, round.merges[0]),
            self.merge(1, round.merges[1]),
            self.vacuum(round.vacuums),
            self.expire(round.expires),
            self.read(round.readers),
        );
        (self.workers[0].2, self.workers[1].2) = (first, second);
        if round.after.crash {
            self.crash().await;
        }
        let unpinned = round.after.unpinned.min(self.pins.lock().unwrap().len());
        self.pins.lock().unwrap().drain(..unpinned);
        if round.after.hours {
            self.hours_go_by().await;
        }
    }

    async fn crash(&mut self) {
        let (dataset, epoch, next) = &self.workers[0];
        landing(dataset, 0, *next..next + 2, *epoch).await;
        let dataset = MasterDataset::open(&self.store, &clicks(), LOG).await.unwrap();
        let epoch = epoch_of(&dataset, 0, "next").await;
        self.workers[0] = (dataset, epoch, *next);
    }

    async fn hours_go_by(&self) {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(7200)).unwrap();
        let all = self.workers.iter().map(|(dataset, ..)| dataset).chain(&self.compactors);
        for dataset in all {
            *dataset.inner.confirmed.lock().unwrap() = long_ago;
        }
        let dataset = Self::open(&self.store).await;
        let version = dataset.snapshot(None).await.unwrap().version;
        kernel::checkpoint(&self.store, "clicks", &dataset.inner.root, version)
            .await
            .unwrap();
        let (now, pinned) = (Utc::now() + TimeDelta::hours(2), self.pinned());
        let keep = Duration::from_secs(3600);
        let cleaning = LogCleaning {
            now,
            keep,
            pinned: pinned.clone(),
            dry_run: false,
        };
        dataset.clean_log(&cleaning).await.unwrap();
        let vacuum = Vacuum {
            now,
            grace: keep,
            pinned: pinned.clone(),
            dry_run: false,
        };
        let left = dataset.vacuum(&vacuum).await.unwrap();
        assert_eq!(left.waiting, 0, "all is old enough");
        // Nothing is left but what somebody may read.
        let mut needed: BTreeSet<Path> = self.paths(&dataset.snapshot(None).await.unwrap());
        let pins = self.pins.lock().unwrap().clone();
        needed.extend(pins.iter().flat_map(|pin| self.paths(pin)));
        let there: BTreeSet<Path> = dataset
            .data_objects()
            .await
            .unwrap()
            .into_iter()
            .map(|object| object.location)
            .collect();
        assert!(needed.is_subset(&there), "missing: {:?}", needed.difference(&there));
        if pinned.is_empty() {
            assert_eq!(there, needed);
        }
    }

    fn paths(&self, snapshot: &Snapshot) -> BTreeSet<Path> {
        snapshot.files.iter().map(|file| file.path.clone()).collect()
    }

    /// What is landed is what was sent, and pinned versions read as they did.
    async fn check(&self) {
        let dataset = Self::open(&self.store).await;
        let newest = dataset.snapshot(None).await.unwrap();
        for (partition, (.., next)) in (0..).zip(&self.workers) {
            let landed = newest.next.get(PartitionId(partition)).unwrap_or_default();
            assert_eq!(landed, Offset(*next));
        }
        check(&self.store, &newest).await;
        let pins = self.pins.lock().unwrap().clone();
        for pin in pins {
            let again = dataset.snapshot(Some(pin.version)).await.unwrap();
            assert_eq!(again, pin);
            check(&self.store, &again).await;
        }
    }
}

/// Each offset that the snapshot promises, exactly once.
async fn check(store: &Store, snapshot: &Snapshot) {
    let columns = SchemaRef::from(arrow::datatypes::Schema::new(RowFilter::columns()));
    let filter = RowFilter::new(&snapshot.notes, None, None);
    let mut found = BTreeSet::new();
    for file in &snapshot.files {
        let batches: Vec<_> = read_columns(store, file, &columns).try_collect().await.unwrap();
        for batch in batches {
            let batch = filter.apply(&batch).unwrap();
            let partitions = batch.column(0).as_primitive::<Int32Type>();
            let offsets = batch.column(1).as_primitive::<Int64Type>();
            for place in partitions.values().iter().zip(offsets.values()) {
                let (partition, offset) = (*place.0, *place.1);
                assert!(
                    found.insert((partition, offset)),
                    "{partition}/{offset} twice in version {}",
                    snapshot.version
                );
            }
        }
    }
    let promised = snapshot.next.iter().flat_map(|(p, next)| {
        let since = snapshot.notes.since.get(p).unwrap_or_default();
        (since.0..next.0).map(move |offset| (p.0, offset))
    });
    assert_eq!(found, promised.collect(), "version {}", snapshot.version);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_order_each_offset_is_there_once(seed in any::<u64>(), rounds in prop::collection::vec(round(), 3..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(seed).await;
            for round in &rounds {
                world.play(round).await;
                world.check().await;
            }
        });
    }
}

/// The closing line of a table that was landed in small pieces: 2,000 files become a few while landing goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_small_files_are_merged_while_events_land() {
    const FILES: i64 = 2_000;
    const PER_LANDING: i64 = 20;
    let store = memory();
    let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
    let epoch = epoch_of(&dataset, 0, "a").await;
    for first in (0..FILES).step_by(PER_LANDING as usize) {
        let mut many = landing(&dataset, 0, first * 3..first * 3 + 3, epoch).await;
        for file in first + 1..first + PER_LANDING {
            many.files
                .extend(landing(&dataset, 0, file * 3..file * 3 + 3, epoch).await.files);
        }
        let range = OffsetRange::new(Offset(first * 3), Offset((first + PER_LANDING) * 3));
        many.partitions.insert(PartitionId(0), Advance { range, epoch });
        landed_version(&dataset, &many).await;
    }
    let before = dataset.snapshot(None).await.unwrap();
    assert_eq!(before.files.len() as i64, FILES);

    let compactor = MasterDataset::open_existing(&store, &clicks()).await.unwrap().unwrap();
    let merging = tokio::spawn(async move {
        let compaction = Compaction {
            min_files: 8,
            target_file_bytes: 1 << 20,
            memory_bytes: 1 << 30,
            compression: Codec::UNCOMPRESSED,
        };
        let mut merges = 0;
        while compactor.compact(&compaction).await.unwrap().is_some() {
            merges += 1;
        }
        merges
    });
    let mut next = FILES * 3;
    while !merging.is_finished() {
        landed_version(&dataset, &landing(&dataset, 0, next..next + 1, epoch).await).await;
        next += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(merging.await.unwrap() >= 2);
    let landed = next - FILES * 3;
    assert!(landed > 0, "nothing landed meanwhile");
    let after = dataset.snapshot(None).await.unwrap();
    assert!(
        (after.files.len() as i64) < 8 + 8 + landed,
        "{} files",
        after.files.len()
    );
    check(&store, &after).await;
    check(&store, &dataset.snapshot(Some(before.version)).await.unwrap()).await;
}
