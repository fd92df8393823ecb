//! One suite that every kind of store has to pass: everything this crate does, by its public API alone.
//!
//! The S3 test wants a bucket, e.g. of a local MinIO or moto:
//! `ANABRANCH_TEST_S3=s3://bucket/prefix AWS_ENDPOINT=http://127.0.0.1:9000 AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…
//! AWS_REGION=us-east-1 cargo test -p anabranch-dataset --test stores -- --ignored`

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::{Catalog, Source};
use anabranch_dataset::{
    Advance, BatchView, Claim, DataFile, LandOutcome, Landing, Lease, Leases, Manifest, MasterDataset, Publications,
    Refusal, RunRecord, Runs, StateFiles, Store, read_columns,
};
use anabranch_model::{CutMap, ErrorKind, Offset, OffsetRange, PartitionId};
use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use parquet::arrow::ArrowWriter;
use uuid::Uuid;

const PARTITION: PartitionId = PartitionId(2);

fn source() -> Arc<Source> {
    let sql = "CREATE TABLE clicks (page TEXT) WITH (connector = 'log', topic = 'clicks', format = 'json');";
    Catalog::parse(sql).unwrap().sources["clicks"].clone()
}

async fn upload(dataset: &MasterDataset, offsets: std::ops::Range<i64>) -> DataFile {
    let schema = dataset.file_schema();
    let rows = (offsets.end - offsets.start) as usize;
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "page" => Arc::new(StringArray::from_iter_values(
                offsets.clone().map(|offset| format!("/{offset}")),
            )),
            "_partition" => Arc::new(Int32Array::from_value(PARTITION.0, rows)),
            "_offset" => Arc::new(Int64Array::from_iter_values(offsets.clone())),
            _ => new_null_array(field.data_type(), rows),
        }
    });
    let batch = RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), None).unwrap();
    writer.write(&batch).unwrap();
    let encoded = writer.into_inner().unwrap();
    let file = DataFile::of_batches(dataset.new_file_path(false), encoded.len() as u64, false, &[batch]);
    dataset.store().objects().put(&file.path, encoded.into()).await.unwrap();
    file
}

async fn land(dataset: &MasterDataset, offsets: std::ops::Range<i64>, epoch: i64) -> LandOutcome {
    let range = OffsetRange::new(Offset(offsets.start), Offset(offsets.end));
    let landing = Landing {
        commit_id: Uuid::now_v7(),
        files: vec![upload(dataset, offsets).await],
        partitions: BTreeMap::from([(PARTITION, Advance { range, epoch })]),
    };
    dataset.land(&landing).await.unwrap()
}

async fn landed(dataset: &MasterDataset) -> Vec<i64> {
    let columns = Arc::new(
        dataset
            .file_schema()
            .project(&[dataset.file_schema().index_of("_offset").unwrap()])
            .unwrap(),
    );
    let mut offsets = Vec::new();
    for file in dataset.snapshot(None).await.unwrap().files {
        let batches: Vec<RecordBatch> = read_columns(dataset.store(), &file, &columns)
            .try_collect()
            .await
            .unwrap();
        offsets.extend(
            batches
                .iter()
                .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()),
        );
    }
    offsets.sort_unstable();
    offsets
}

async fn suite(store: Store) {
    store.prove_create_if_absent().await.unwrap();
    master_dataset(&store).await;
    races(&store).await;
    batch(&store).await;
    leases(&store).await;
}

async fn master_dataset(store: &Store) {
    let source = source();
    assert!(MasterDataset::open_existing(store, &source).await.unwrap().is_none());
    let dataset = MasterDataset::open(store, &source, "log 1").await.unwrap();
    let claim = [Claim {
        partition: PARTITION,
        start: Offset(10),
    }];
    let owned = dataset.claim(&claim, "a").await.unwrap()[&PARTITION];
    assert_eq!((owned.epoch, owned.next, owned.start), (1, Offset(10), Offset(10)));
    assert!(matches!(
        land(&dataset, 10..15, 1).await,
        LandOutcome::Landed { version: 2 }
    ));

    let other = MasterDataset::open(store, &source, "log 1").await.unwrap();
    let owned = other.claim(&claim, "b").await.unwrap()[&PARTITION];
    assert_eq!((owned.epoch, owned.next), (2, Offset(15)));
    let LandOutcome::Refused { partitions } = land(&dataset, 15..20, 1).await else {
        panic!("a zombie landed")
    };
    assert_eq!(partitions[&PARTITION], Refusal::Epoch { ours: 1, recorded: 2 });
    assert!(matches!(land(&other, 15..18, 2).await, LandOutcome::Landed { .. }));
    assert_eq!(landed(&dataset).await, (10..18).collect::<Vec<_>>());
    assert_eq!(dataset.snapshot(Some(2)).await.unwrap().files.len(), 1);
    let foreign = MasterDataset::open(store, &source, "log 2").await.unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::Invalid);

    // Past a checkpoint, so that reopening reads one.
    for offset in 18..125 {
        assert!(matches!(
            land(&other, offset..offset + 1, 2).await,
            LandOutcome::Landed { .. }
        ));
    }
    let checkpoint = async {
        let hint = "sources/clicks/_delta_log/_last_checkpoint".into();
        while store.objects().head(&hint).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), checkpoint).await.unwrap();
    let reopened = MasterDataset::open_existing(store, &source).await.unwrap().unwrap();
    assert_eq!(
        reopened.snapshot(None).await.unwrap(),
        other.snapshot(None).await.unwrap()
    );
}

/// Four workers claim and land against each other; every offset gets in once, and no epoch is given out twice.
async fn races(store: &Store) {
    let before = MasterDataset::open_existing(store, &source())
        .await
        .unwrap()
        .unwrap()
        .snapshot(None)
        .await
        .unwrap();
    let end = before.next.get(PARTITION).unwrap().0 + 30;
    let workers = (0..4).map(|worker| {
        let store = store.clone();
        tokio::spawn(async move {
            let dataset = MasterDataset::open(&store, &source(), "log 1").await.unwrap();
            let mut epochs = Vec::new();
            loop {
                let claim = Claim {
                    partition: PARTITION,
                    start: Offset(0),
                };
                let mut owned = dataset.claim(&[claim], &format!("worker {worker}")).await.unwrap()[&PARTITION];
                epochs.push(owned.epoch);
                while owned.next.0 < end {
                    let to = (owned.next.0 + 3).min(end);
                    match land(&dataset, owned.next.0..to, owned.epoch).await {
                        LandOutcome::Landed { .. } => owned.next = Offset(to),
                        LandOutcome::Refused { .. } => break,
                    }
                }
                if owned.next.0 == end {
                    return epochs;
                }
            }
        })
    });
    let mut epochs = BTreeSet::new();
    for worker in futures::future::join_all(workers).await {
        worker
            .unwrap()
            .into_iter()
            .for_each(|epoch| assert!(epochs.insert(epoch), "epoch {epoch} was given out twice"));
    }
    let dataset = MasterDataset::open_existing(store, &source()).await.unwrap().unwrap();
    assert_eq!(landed(&dataset).await, (10..end).collect::<Vec<_>>());
}

async fn batch(store: &Store) {
    let runs = Runs::new(store);
    let run_id = Uuid::now_v7().to_string();
    runs.put(&RunRecord {
        run_id: run_id.clone(),
        ..RunRecord::default()
    })
    .await
    .unwrap();
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(|key| format!("{key:04}"))));
    let state = RecordBatch::try_from_iter([("page", keys)]).unwrap();
    let path = Runs::folder(&run_id).join("pages").join("part-00000.parquet");
    let file = StateFiles::write(store, &path, vec![state.clone()]).await.unwrap();
    let view = BatchView {
        hash: "h".into(),
        source: "clicks".into(),
        files: vec![file],
        groups: 1000,
        rows: 1000,
    };

    let dataset = MasterDataset::open_existing(store, &source()).await.unwrap().unwrap();
    let manifest = Manifest {
        run_id: run_id.clone(),
        started_at: "2026-01-01T00:00:00Z".into(),
        finished_at: "2026-01-01T00:00:01Z".into(),
        cuts: CutMap::from([("clicks".into(), dataset.cut().await.unwrap())]),
        views: BTreeMap::from([("pages".into(), view)]),
        notes: Default::default(),
        mode: Default::default(),
        base: None,
        chain: 0,
    };
    let log = Publications::new(store);
    let published = log.publish(0, manifest.clone()).await.unwrap();
    assert_eq!(log.publish(0, manifest).await.unwrap_err().kind(), ErrorKind::Conflict);
    let latest = Publications::new(store).latest().await.unwrap().unwrap();
    assert_eq!(latest, published);
    let read = StateFiles::read(store, &latest.manifest.views["pages"], &state.schema())
        .await
        .unwrap();
    assert_eq!(read, [state]);
    assert_eq!(
        runs.list(10)
            .await
            .unwrap()
            .into_iter()
            .map(|run| run.run_id)
            .collect::<Vec<_>>(),
        [run_id]
    );
}

async fn leases(store: &Store) {
    let leases = Leases::new(store);
    let lease = Lease {
        kind: "batch".into(),
        id: "a".into(),
        address: "http://localhost:1".into(),
        facts: serde_json::json!({"running": []}),
        ttl: Duration::from_secs(600),
    };
    leases.renew(&lease).await.unwrap();
    assert_eq!(leases.list("batch").await.unwrap(), std::slice::from_ref(&lease));
    // Not renewed, not believed.
    let short = Lease {
        ttl: Duration::from_secs(1),
        ..lease.clone()
    };
    leases.renew(&short).await.unwrap();
    let expired = async {
        while !leases.list("batch").await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), expired).await.unwrap();
    leases.renew(&lease).await.unwrap();
    assert_eq!(leases.list("batch").await.unwrap().len(), 1);
    leases.release("batch", "a").await.unwrap();
    assert!(leases.list("batch").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    suite(Store::open("memory://", &BTreeMap::new()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn local_folder() {
    let folder = tempfile::tempdir().unwrap();
    suite(Store::open(&format!("file://{}", folder.path().display()), &BTreeMap::new()).unwrap()).await;
}

/// On one thread nothing may wait for a worker that is not there.
#[tokio::test(flavor = "current_thread")]
async fn memory_on_one_thread() {
    suite(Store::open("memory://", &BTreeMap::new()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs ANABRANCH_TEST_S3"]
async fn s3() {
    let bucket = std::env::var("ANABRANCH_TEST_S3").expect("ANABRANCH_TEST_S3 is s3://bucket/prefix");
    let url = format!("{}/{}", bucket.trim_end_matches('/'), Uuid::now_v7());
    suite(Store::open(&url, &BTreeMap::new()).unwrap()).await;
}
