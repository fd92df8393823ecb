//! What the Delta kernel does for the master dataset: read a table's whole state, and write checkpoints.
//!
//! The kernel's calls block, so each runs on a thread of tokio's blocking pool; its I/O runs on the caller's runtime.

use std::future::Future;
use std::sync::Arc;

use anabranch_model::crash_point;
use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use bytes::Bytes;
use delta_kernel::checkpoint::LastCheckpointHintStats;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::{ActionReconciliationIterator, KernelError, KernelResult, Snapshot};
use delta_kernel_default_engine::DefaultEngineBuilder;
use delta_kernel_default_engine::executor::TaskExecutor;
use futures::TryStreamExt;
use futures::future::{BoxFuture, FutureExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Deserialize;
use tokio::runtime::Handle;

use super::log::TableState;
use crate::error::{Error, Result};
use crate::store::Store;

/// Reads the newest state, or that of `version`; `None` when there is no table.
///
/// # Errors
/// `NotFound` when there is a table but not this version of it.
pub(super) async fn load(store: &Store, source: &str, root: &Path, version: Option<u64>) -> Result<Option<TableState>> {
    if !exists(store, root).await? {
        return Ok(None);
    }
    let log = log_path(root);
    let (source, root) = (source.to_owned(), root.clone());
    let table = source.clone();
    let kernel = Kernel::new(store, &root);
    let state = run(store, "reading the Delta log", move || {
        let engine = kernel.engine();
        let (version, actions) = kernel
            .reconciled(&engine, version)
            .map_err(kernel_error(&source, version))?;
        let mut state = TableState::new(&source, &root, version);
        for batch in actions {
            let batch = selected(batch).map_err(kernel_error(&source, None))?;
            state.apply_lines(version, &json_lines(&batch)?)?;
        }
        Ok(state)
    })
    .await?;
    if state.metadata.is_none() {
        return Err(Error::corrupt(
            &log,
            format!("the log of `{table}` holds no table metadata"),
        ));
    }
    Ok(Some(state))
}

/// Writes the checkpoint of `version` and points `_last_checkpoint` to it.
pub(super) async fn checkpoint(store: &Store, source: &str, root: &Path, version: u64) -> Result<()> {
    let kernel = Kernel::new(store, root);
    let (source, store) = (source.to_owned(), store.clone());
    run(&store.clone(), "writing a Delta checkpoint", move || {
        let failed = |error| kernel_error(&source, Some(version))(error);
        let engine = kernel.engine();
        let snapshot = Snapshot::builder_for(&kernel.url)
            .at_version(version)
            .build(&engine)
            .map_err(failed)?;
        let writer = snapshot.create_checkpoint_writer(&engine).map_err(failed)?;
        let path = Path::from_url_path(writer.checkpoint_path().map_err(failed)?.path())
            .map_err(|e| Error::corrupt(&kernel.url, e))?;
        let actions = writer.checkpoint_data(&engine).map_err(failed)?;
        let progress = actions.state();
        // Encoded here and not by the engine's own writer: that one blocks inside a task of the runtime, which only a
        // second runtime would survive.
        let bytes = encode_checkpoint(actions, &source, &path)?;
        let size = bytes.len() as u64;
        crash_point!("checkpoint.before");
        kernel.runtime.block_on(store.put(&path, bytes))?;
        crash_point!("checkpoint.written");
        let progress = Arc::into_inner(progress)
            .ok_or_else(|| failed(KernelError::generic("the checkpoint's rows are still being read")))?;
        let stats = LastCheckpointHintStats::from_reconciliation_state(progress, size, 0).map_err(failed)?;
        writer.finalize(&engine, &stats).map_err(failed)?;
        crash_point!("checkpoint.after");
        Ok(())
    })
    .await
}

/// Whether there is a table. Two requests at most tell that there is one, however long its log: some stores cannot list
/// the beginning of a folder without listing all of it.
async fn exists(store: &Store, root: &Path) -> Result<bool> {
    let log = log_path(root);
    for path in [commit_path(root, 0), log.clone().join("_last_checkpoint")] {
        if is_there(store, &path).await? {
            return Ok(true);
        }
    }
    let mut listing = store.objects().list(Some(&log));
    Ok(listing.try_next().await.map_err(Error::store("list", &log))?.is_some())
}

/// Whether the commit of a version is still in the log.
pub(super) async fn has_commit(store: &Store, root: &Path, version: u64) -> Result<bool> {
    is_there(store, &commit_path(root, version)).await
}

async fn is_there(store: &Store, path: &Path) -> Result<bool> {
    match store.objects().head(path).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(Error::store("read", path)(error)),
    }
}

/// Version of the newest checkpoint, by the log's own hint.
pub(super) async fn last_checkpoint(store: &Store, root: &Path) -> Result<Option<u64>> {
    #[derive(Deserialize)]
    struct Hint {
        version: u64,
    }
    let path = log_path(root).join("_last_checkpoint");
    let Some(bytes) = store.read(&path).await? else {
        return Ok(None);
    };
    let hint: Hint = serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(&path, e))?;
    Ok(Some(hint.version))
}

/// The folder of a table's log.
pub(super) fn log_path(root: &Path) -> Path {
    root.clone().join("_delta_log")
}

/// The commit file of a version.
pub(super) fn commit_path(root: &Path, version: u64) -> Path {
    log_path(root).join(format!("{version:020}.json"))
}

struct Kernel {
    store: Store,
    runtime: Handle,
    url: String,
}

impl Kernel {
    /// Must be called on a runtime.
    fn new(store: &Store, root: &Path) -> Self {
        // The engine takes the path of a URL as a path in the store, so scheme and host do not matter. A `%` in a path of
        // ours is a character like any other and has to survive the engine's decoding.
        let url = format!("store:///{}/", root.as_ref().replace('%', "%25"));
        Self {
            store: store.clone(),
            runtime: Handle::current(),
            url,
        }
    }

    fn engine(&self) -> delta_kernel_default_engine::DefaultEngine<RuntimeExecutor> {
        DefaultEngineBuilder::new(self.store.objects().clone())
            .with_task_executor(Arc::new(RuntimeExecutor(self.runtime.clone())))
            .build()
    }

    /// All actions that count at a version, each once: what a checkpoint of it would hold.
    fn reconciled(
        &self,
        engine: &dyn delta_kernel::Engine,
        version: Option<u64>,
    ) -> KernelResult<(u64, ActionReconciliationIterator)> {
        let builder = Snapshot::builder_for(&self.url);
        let builder = match version {
            Some(version) => builder.at_version(version),
            None => builder,
        };
        let snapshot = builder.build(engine)?;
        let version = snapshot.version();
        let actions = snapshot.create_checkpoint_writer(engine)?.checkpoint_data(engine)?;
        Ok((version, actions))
    }
}

fn selected(batch: KernelResult<delta_kernel::FilteredEngineData>) -> KernelResult<RecordBatch> {
    let data = batch?.apply_selection_vector()?;
    Ok(ArrowEngineData::try_from_engine_data(data)?.record_batch().clone())
}

fn json_lines(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer
        .write(batch)
        .and_then(|()| writer.finish())
        .map_err(|source| Error::Arrow {
            column: "Delta actions".into(),
            source,
        })?;
    Ok(writer.into_inner())
}

fn encode_checkpoint(actions: ActionReconciliationIterator, source: &str, path: &Path) -> Result<Bytes> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut writer: Option<ArrowWriter<Vec<u8>>> = None;
    for batch in actions {
        let batch = selected(batch).map_err(kernel_error(source, None))?;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(
                ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.clone()))
                    .map_err(Error::parquet(path))?,
            ),
        };
        writer.write(&batch).map_err(Error::parquet(path))?;
    }
    let writer = writer.ok_or_else(|| Error::corrupt(path, "a table without actions has no checkpoint"))?;
    writer.into_inner().map(Bytes::from).map_err(Error::parquet(path))
}

fn kernel_error(source: &str, version: Option<u64>) -> impl Fn(KernelError) -> Error {
    let table = source.to_owned();
    move |error| match (root_cause(error), version) {
        (KernelError::MissingVersion(_), Some(version)) => Error::NoVersion {
            table: table.clone(),
            version,
        },
        (error, _) => Error::Delta {
            table: table.clone(),
            source: Box::new(error),
        },
    }
}

fn root_cause(error: KernelError) -> KernelError {
    match error {
        KernelError::Backtraced { source, .. } => root_cause(*source),
        error => error,
    }
}

async fn run<T: Send + 'static>(
    store: &Store,
    task: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    store
        .environment()
        .offload(work)
        .await
        .map_err(|source| Error::Task { task, source })?
}

/// Runs the engine's I/O on the runtime it was called from. Only for threads of the blocking pool, which may block on it.
struct RuntimeExecutor(Handle);

impl TaskExecutor for RuntimeExecutor {
    type Guard<'a> = tokio::runtime::EnterGuard<'a>;

    fn block_on<T>(&self, task: T) -> T::Output
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        self.0.block_on(task)
    }

    fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.spawn(task);
    }

    fn spawn_blocking<T, R>(&self, task: T) -> BoxFuture<'_, KernelResult<R>>
    where
        T: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let task = self.0.spawn_blocking(task);
        async move { task.await.map_err(|error| KernelError::generic(error.to_string())) }.boxed()
    }

    fn enter(&self) -> Self::Guard<'_> {
        self.0.enter()
    }
}
