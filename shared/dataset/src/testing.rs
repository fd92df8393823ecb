//! What the tests of this crate share: sources, rows, and a store that fails on command.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use anabranch_catalog::{Catalog, Source};
use anabranch_model::columns;
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray, new_null_array};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use parquet::arrow::ArrowWriter;

use crate::{Advance, DataFile, Landing, MasterDataset, Store};
use anabranch_model::{Offset, OffsetRange, PartitionId};

pub(crate) fn memory() -> Store {
    Store::open("memory://", &BTreeMap::new()).unwrap()
}

/// A store in a folder that lives as long as the guard.
pub(crate) fn local() -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("file://{}", folder.path().display()), &BTreeMap::new()).unwrap();
    (store, folder)
}

/// A table `clicks` with these columns.
pub(crate) fn source(columns: &str) -> Arc<Source> {
    let sql = format!("CREATE TABLE clicks ({columns}) WITH (connector = 'log', topic = 'clicks', format = 'json');");
    Catalog::parse(&sql).unwrap().sources["clicks"].clone()
}

pub(crate) fn clicks() -> Arc<Source> {
    source("page TEXT, n BIGINT")
}

/// One row per offset of `range`, with only `_partition` and `_offset` set.
pub(crate) fn rows(dataset: &MasterDataset, partition: i32, range: Range<i64>) -> RecordBatch {
    let schema = dataset.file_schema();
    let count = (range.end - range.start) as usize;
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            columns::PARTITION => Arc::new(Int32Array::from_value(partition, count)),
            columns::OFFSET => Arc::new(Int64Array::from_iter_values(range.clone())),
            _ => new_null_array(field.data_type(), count),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

/// As [`rows`], with `_timestamp`s.
pub(crate) fn timed_rows(
    dataset: &MasterDataset,
    partition: i32,
    range: Range<i64>,
    time_us: impl Fn(i64) -> Option<i64>,
) -> RecordBatch {
    let batch = rows(dataset, partition, range.clone());
    let times = TimestampMicrosecondArray::from_iter(range.map(time_us)).with_timezone("UTC");
    let mut columns = batch.columns().to_vec();
    columns[batch.schema().index_of(columns::TIMESTAMP).unwrap()] = Arc::new(times);
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

/// Writes a batch as a new data file.
pub(crate) async fn upload(dataset: &MasterDataset, batch: &RecordBatch, dead: bool) -> DataFile {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    let bytes = Bytes::from(writer.into_inner().unwrap());
    let path = dataset.new_file_path(dead);
    let file = DataFile::of_batches(path, bytes.len() as u64, dead, std::slice::from_ref(batch));
    dataset.store().put(&file.path, bytes).await.unwrap();
    file
}

/// A landing of `[start, end)` of one partition, its rows uploaded.
pub(crate) async fn landing(dataset: &MasterDataset, partition: i32, range: Range<i64>, epoch: i64) -> Landing {
    let file = upload(dataset, &rows(dataset, partition, range.clone()), false).await;
    let range = OffsetRange::new(Offset(range.start), Offset(range.end));
    Landing {
        commit_id: uuid::Uuid::now_v7(),
        files: vec![file],
        partitions: BTreeMap::from([(PartitionId(partition), Advance { range, epoch })]),
    }
}

/// What to do to the next put of an object whose path contains the given text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Say it failed, and do not do it.
    Lost,
    /// Say it failed after doing it.
    DoneButUnclear,
    /// Do it, then do it again, as a client does that missed the first answer.
    Repeated,
    /// Say it failed, and do it once the next put of such an object is over.
    Late,
    /// Refuse it, whatever is there: a conflict with another request.
    Busy,
}

/// A store whose puts fail as planned.
#[derive(Debug, Default)]
pub(crate) struct Faulty {
    inner: object_store::memory::InMemory,
    plan: Mutex<Vec<(&'static str, Fault)>>,
    late: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
}

impl Faulty {
    pub(crate) fn store() -> (Arc<Self>, Store) {
        let faulty = Arc::new(Self::default());
        (faulty.clone(), Store::with_objects("memory://", faulty))
    }

    pub(crate) fn next_put(&self, path_contains: &'static str, fault: Fault) {
        self.plan.lock().unwrap().push((path_contains, fault));
    }

    /// What is late arrives now.
    pub(crate) async fn arrive(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for (path, payload, opts) in late {
            // Too late for an object that is there by now, as it should be.
            let _ = self.inner.put_opts(&path, payload, opts).await;
        }
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.plan.lock().unwrap().len() + self.late.lock().unwrap().len()
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let fault = {
            let mut plan = self.plan.lock().unwrap();
            let hit = plan.iter().position(|(text, _)| path.as_ref().contains(text));
            hit.map(|index| plan.remove(index).1)
        };
        let timeout = || object_store::Error::Generic {
            store: "faulty",
            source: "the connection timed out".into(),
        };
        match fault {
            Some(Fault::Lost) => Err(timeout()),
            Some(Fault::DoneButUnclear) => {
                let _ = self.inner.put_opts(path, payload, opts).await;
                Err(timeout())
            }
            Some(Fault::Repeated) => {
                self.inner.put_opts(path, payload.clone(), opts.clone()).await?;
                self.inner.put_opts(path, payload, opts).await
            }
            Some(Fault::Late) => {
                self.late.lock().unwrap().push((path.clone(), payload, opts));
                Err(timeout())
            }
            Some(Fault::Busy) => Err(object_store::Error::AlreadyExists {
                path: path.to_string(),
                source: "409 conflict".into(),
            }),
            None => {
                let result = self.inner.put_opts(path, payload, opts).await;
                self.arrive().await;
                result
            }
        }
    }

    async fn put_multipart_opts(&self, path: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
