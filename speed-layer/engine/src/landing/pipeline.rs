//! Encodes, uploads and commits closed landings: two stages, commits strictly in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anabranch_dataset::{Advance, DataFile, LandOutcome, Landing, Refusal, Spawned};
use anabranch_model::{OffsetRange, PartitionId, crash_point};
use anabranch_runtime::Shutdown;
use anabranch_topology::Anchor;
use arrow::array::RecordBatch;
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::sync::mpsc;

use super::encode::encode;
use crate::Error;
use crate::message::DecodedRange;
use crate::ownership::retry;
use crate::source::{LastLanding, SourceLayer, now_rfc3339};
use crate::state::PartitionState;

/// One gathered range.
pub(crate) struct Entry {
    pub(crate) state: Arc<PartitionState>,
    pub(crate) range: OffsetRange,
    pub(crate) bytes: usize,
    events: RecordBatch,
    dead: RecordBatch,
    anchor: Anchor,
    /// Counts what it holds against the budget, until it is landed or given up.
    _weight: Weight,
}

/// Bytes that wait to be landed.
struct Weight {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Weight {
    fn new(bytes: usize, total: &Arc<AtomicUsize>) -> Self {
        total.fetch_add(bytes, Ordering::Relaxed);
        let total = Arc::clone(total);
        Self { bytes, total }
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Entry {
    pub(crate) fn new(decoded: DecodedRange, anchor: Anchor, waiting: &Arc<AtomicUsize>) -> Self {
        let DecodedRange {
            state,
            range,
            events,
            dead,
            bytes,
        } = decoded;
        Self {
            state,
            range,
            bytes,
            events,
            dead,
            anchor,
            _weight: Weight::new(bytes, waiting),
        }
    }
}

/// A closed landing.
pub(crate) struct Job {
    pub(crate) entries: Vec<Entry>,
    pub(crate) closed_at: Instant,
}

/// A landing whose files are uploaded.
struct Uploaded {
    job: Job,
    files: Vec<DataFile>,
}

/// The running stages. Dropping it aborts what is under way; nothing half-landed can come of that.
pub(crate) struct Pipeline {
    jobs: Option<mpsc::Sender<Job>>,
    commit: Option<Spawned<()>>,
    abort: Shutdown,
}

impl Pipeline {
    pub(crate) fn start(layer: Arc<SourceLayer>) -> Self {
        let (jobs, mut to_encode) = mpsc::channel::<Job>(1);
        let (uploaded, mut to_commit) = mpsc::channel::<Uploaded>(1);
        let abort = Shutdown::new();
        let encoder = Arc::clone(&layer);
        layer.spawn(until(abort.clone(), async move {
            while let Some(mut job) = to_encode.recv().await {
                let files = match upload(&encoder, &mut job).await {
                    Ok(files) => files,
                    Err(error) => return encoder.fail(error),
                };
                if uploaded.send(Uploaded { job, files }).await.is_err() {
                    return;
                }
            }
        }));
        let committer = Arc::clone(&layer);
        let commit = layer.spawn(until(abort.clone(), async move {
            while let Some(next) = to_commit.recv().await {
                if let Err(error) = commit(&committer, next).await {
                    return committer.fail(error);
                }
            }
        }));
        Self {
            jobs: Some(jobs),
            commit: Some(commit),
            abort,
        }
    }

    pub(crate) fn jobs(&self) -> &mpsc::Sender<Job> {
        self.jobs
            .as_ref()
            .expect("the sender is only taken by finish, which consumes the pipeline")
    }

    /// Takes no more jobs and waits until those it has are done.
    pub(crate) async fn finish(mut self) {
        drop(self.jobs.take());
        if let Some(commit) = self.commit.take() {
            // A panic has been reported by the runtime; the tuples of the landing fail by being dropped.
            let _ = commit.ended().await;
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.abort.cancel();
    }
}

async fn until(abort: Shutdown, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = work => {}
        () = abort.cancelled() => {}
    }
}

/// Leaves out partitions whose state has been discarded since; their tuples fail. Returns whether there were any.
fn leave_out_ended(job: &mut Job) -> bool {
    let before = job.entries.len();
    job.entries.retain(|entry| entry.state.is_live());
    job.entries.len() < before
}

/// Encodes the landing's events and dead letters, in order of partition and offset, and uploads the files.
async fn upload(layer: &Arc<SourceLayer>, job: &mut Job) -> Result<Vec<DataFile>, Error> {
    leave_out_ended(job);
    job.entries
        .sort_by_key(|entry| (entry.state.partition, entry.range.start));
    let mut files = Vec::new();
    for dead in [false, true] {
        let rows = |entry: &Entry| if dead { entry.dead.clone() } else { entry.events.clone() };
        let batches: Vec<_> = job
            .entries
            .iter()
            .map(rows)
            .filter(|batch| batch.num_rows() > 0)
            .collect();
        // A file has the columns its events were decoded for. One that was declared later is absent, not null, so that
        // readers know to take it from `_raw`.
        for alike in batches.chunk_by(|a, b| a.schema_ref() == b.schema_ref()) {
            let (alike, compression) = (alike.to_vec(), layer.settings.landing.compression);
            let path = layer.dataset.new_file_path(dead);
            let encode = move || {
                let bytes = encode(&alike[0].schema(), &alike, compression)?;
                let file = DataFile::of_batches(path, bytes.len() as u64, dead, &alike);
                Ok::<_, Error>((file, bytes))
            };
            let encoded = layer.environment().offload(encode).await;
            let (file, bytes) = encoded.map_err(|error| Error::Task(format!("encoding a landing: {error}")))??;
            put(layer, &file.path, bytes).await?;
            files.push(file);
        }
    }
    Ok(files)
}

async fn put(layer: &SourceLayer, path: &Path, bytes: Bytes) -> Result<(), Error> {
    let content = &bytes;
    let attempt = || async move {
        let put = layer.store.objects().put(path, content.clone().into()).await;
        put.map(drop).map_err(|source| Error::Store {
            path: path.to_string(),
            source,
        })
    };
    crash_point!("land.upload.before");
    retry_landing(layer, "uploading a landing", attempt).await?;
    crash_point!("land.upload.after");
    Ok(())
}

/// As [`retry`], but also while the source is stopping: what was consumed is landed before it ends.
async fn retry_landing<T, F>(layer: &SourceLayer, what: &str, mut attempt: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>> + Send,
{
    let mut noted = || {
        let attempt = attempt();
        async {
            let done = attempt.await;
            layer.note_landing_trouble(done.as_ref().err().filter(|error| error.is_passing()));
            done
        }
    };
    match retry(layer, what, &mut noted).await {
        Err(Error::Stopping) => noted().await,
        done => done,
    }
}

/// Commits one landing, without the partitions that are refused, and acks its tuples.
async fn commit(layer: &Arc<SourceLayer>, uploaded: Uploaded) -> Result<(), Error> {
    let Uploaded { mut job, mut files } = uploaded;
    loop {
        if leave_out_ended(&mut job) {
            discard(layer, &files).await;
            files = upload(layer, &mut job).await?;
        }
        let partitions = advances(&job.entries);
        if partitions.is_empty() {
            return Ok(());
        }
        let landing = Landing {
            commit_id: layer.environment().random_id(),
            files: files.clone(),
            partitions,
        };
        let outcome = retry_landing(layer, "committing a landing", || async {
            Ok(layer.dataset.land(&landing).await?)
        })
        .await;
        if let Err(Error::Dataset(error @ anabranch_dataset::Error::StaleUpload { .. })) = &outcome {
            tracing::warn!(table = layer.name(), %error, "the store was away for long; the landing is uploaded anew");
            files = upload(layer, &mut job).await?;
            continue;
        }
        match outcome? {
            LandOutcome::Landed { version } => {
                landed(layer, job, &files, version);
                return Ok(());
            }
            LandOutcome::Refused { partitions } => refuse(layer, &job, &partitions),
        }
    }
}

/// How far each partition gets by these entries, which are sorted by partition and offset.
fn advances(entries: &[Entry]) -> BTreeMap<PartitionId, Advance> {
    let mut advances: BTreeMap<PartitionId, Advance> = BTreeMap::new();
    for entry in entries {
        let epoch = entry.state.epoch;
        let advance = advances.entry(entry.state.partition).or_insert(Advance {
            range: entry.range,
            epoch,
        });
        debug_assert!(
            advance.range == entry.range || advance.range.meets(&entry.range),
            "a landing has no gaps"
        );
        advance.range.end = entry.range.end;
    }
    advances
}

fn refuse(layer: &SourceLayer, job: &Job, partitions: &BTreeMap<PartitionId, Refusal>) {
    for (partition, refusal) in partitions {
        let reason = match refusal {
            Refusal::Epoch { ours, recorded } => {
                format!("another worker owns the partition: epoch {recorded} is recorded, ours is {ours}")
            }
            Refusal::Next { ours, recorded } => {
                format!("next offset {recorded} is recorded, but the landing starts at {ours}")
            }
        };
        tracing::error!(table = layer.name(), %partition, reason, "landing refused; the partition's unlanded events are discarded here");
        layer.note_refused(*partition, reason);
        for entry in job.entries.iter().filter(|entry| entry.state.partition == *partition) {
            match refusal {
                Refusal::Epoch { .. } => entry.state.give_up(),
                // Still ours: the spout resumes at what is recorded.
                Refusal::Next { .. } => entry.state.end(),
            }
        }
    }
}

fn landed(layer: &SourceLayer, job: Job, files: &[DataFile], version: u64) {
    let elapsed = layer.environment().elapsed(job.closed_at);
    let rows = |dead: bool| {
        files
            .iter()
            .filter(|file| file.dead == dead)
            .map(|file| file.rows)
            .sum::<u64>()
    };
    let file_bytes = files.iter().map(|file| file.bytes).sum();
    let table = layer.source.name.clone();
    metrics::counter!("anabranch_landed_events_total", "table" => table.clone()).increment(rows(false));
    metrics::counter!("anabranch_landed_dead_letters_total", "table" => table.clone()).increment(rows(true));
    metrics::counter!("anabranch_landed_bytes_total", "table" => table.clone()).increment(file_bytes);
    metrics::histogram!("anabranch_landing_seconds", "table" => table).record(elapsed.as_secs_f64());
    if let Some(mut span) = anabranch_trace::Span::of_own_accord("land", elapsed) {
        span.text("anabranch.table", layer.name());
        span.whole("anabranch.events", i64::try_from(rows(false)).unwrap_or(i64::MAX));
        span.whole("anabranch.version", i64::try_from(version).unwrap_or(i64::MAX));
    }
    layer.facts.landings.fetch_add(1, Ordering::Relaxed);
    *layer.facts.last_landing.lock() = Some(LastLanding {
        version,
        at: now_rfc3339(layer.environment()),
        events: rows(false),
        dead_letters: rows(true),
        file_bytes,
        elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
    });
    tracing::debug!(
        table = layer.name(),
        version,
        events = rows(false),
        file_bytes,
        ?elapsed,
        "landed"
    );
    for entry in job.entries {
        entry.state.set_landed(entry.range.end);
        entry.anchor.ack();
    }
}

/// Removes uploaded files that no commit names. A file that stays is never read.
async fn discard(layer: &SourceLayer, files: &[DataFile]) {
    for file in files {
        if let Err(error) = layer.store.objects().delete(&file.path).await {
            tracing::debug!(table = layer.name(), path = %file.path, %error, "an orphaned file stays");
        }
    }
}
