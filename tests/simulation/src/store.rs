//! The simulated object store: one server, and for each process a client whose requests take time and fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::oneshot;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use serde_json::Value;

use crate::audit::Audit;
use crate::environment::wall_clock;
use crate::faults::{Counts, Faults};
use crate::mutation::Mutation;
use crate::scheduler::{Micros, ProcessId, Scheduler, WORLD};

/// How old a listing may be, at most.
const STALE_FOR: Range<Micros> = 50_000..8_000_000;
/// When a late write arrives.
const LATE_BY: Range<Micros> = 20_000..6_000_000;
/// How long a slow request takes.
const SLOW_FOR: Range<Micros> = 300_000..5_000_000;

/// What the store holds.
pub struct Server {
    scheduler: Arc<Scheduler>,
    objects: InMemory,
    /// Lives of each path, the last of which may go on.
    history: Mutex<BTreeMap<Path, Vec<Life>>>,
    pub audit: Mutex<Audit>,
    pub counts: Mutex<Counts>,
    /// All zero once the run is to come to rest.
    pub faults: Mutex<Faults>,
    pub mutation: Option<Mutation>,
}

/// When an object came and went; what listings show.
struct Life {
    size: u64,
    created: Micros,
    modified: Micros,
    deleted: Option<Micros>,
}

impl Server {
    pub fn new(scheduler: &Arc<Scheduler>, faults: Faults, mutation: Option<Mutation>, audit: Audit) -> Arc<Self> {
        Arc::new(Self {
            scheduler: Arc::clone(scheduler),
            objects: InMemory::new(),
            history: Mutex::default(),
            audit: Mutex::new(audit),
            counts: Mutex::default(),
            faults: Mutex::new(faults),
            mutation,
        })
    }

    fn fault(&self, what: &'static str) {
        self.counts.lock().fault(what);
    }

    fn put(
        &self,
        process: ProcessId,
        path: &Path,
        mut payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        let lost = self.mutate(path, &mut payload, &mut options);
        let create = matches!(options.mode, PutMode::Create);
        let bytes = Bytes::from(payload.clone());
        let result = self.objects.put_opts(path, payload, options).now_or_never();
        let result = result.expect("a store in memory answers at once");
        if lost {
            let gone = self.objects.delete(path).now_or_never();
            gone.expect("a store in memory answers at once")?;
        }
        let now = self.scheduler.now();
        self.trace(
            process,
            if create { "create" } else { "put" },
            path,
            result.is_ok(),
            &bytes,
        );
        if result.is_ok() {
            let mut history = self.history.lock();
            let lives = history.entry(path.clone()).or_default();
            match lives.last_mut().filter(|life| life.deleted.is_none()) {
                Some(life) => (life.modified, life.size) = (now, bytes.len() as u64),
                None => lives.push(Life {
                    size: bytes.len() as u64,
                    created: now,
                    modified: now,
                    deleted: None,
                }),
            }
            drop(history);
            self.audit.lock().written(now, process, path, &bytes);
        }
        result
    }

    /// Does to a write what a defect would; says whether it is to be lost.
    fn mutate(&self, path: &Path, payload: &mut PutPayload, options: &mut PutOptions) -> bool {
        match self.mutation {
            Some(Mutation::CreatesOverOthers) => options.mode = PutMode::Overwrite,
            Some(Mutation::PublishesTooFar) if path.as_ref().starts_with("publications/") => {
                if let Some(further) = one_further(&Bytes::from(payload.clone())) {
                    *payload = further.into();
                }
            }
            Some(Mutation::HidesExpiry) if path.as_ref().starts_with("publications/") => {
                if let Some(silent) = without_expiry(&Bytes::from(payload.clone())) {
                    *payload = silent.into();
                }
            }
            Some(Mutation::LosesWrites) if path.extension() == Some("parquet") => {
                return self.scheduler.draw(|random| random.chance(50));
            }
            _ => {}
        }
        false
    }

    fn get(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self.objects.get_opts(path, options).now_or_never();
        let mut result = result.expect("a store in memory answers at once")?;
        let history = self.history.lock();
        if let Some(life) = history.get(path).and_then(|lives| lives.last()) {
            result.meta.last_modified = wall_clock(life.modified);
        }
        Ok(result)
    }

    fn delete(&self, process: ProcessId, path: &Path) -> Result<()> {
        let result = self.objects.delete(path).now_or_never();
        result.expect("a store in memory answers at once")?;
        self.trace(process, "delete", path, true, &[]);
        let now = self.scheduler.now();
        let mut history = self.history.lock();
        if let Some(life) = history.get_mut(path).and_then(|lives| lives.last_mut()) {
            life.deleted.get_or_insert(now);
        }
        drop(history);
        self.audit.lock().deleted(process, path);
        Ok(())
    }

    /// What was there at `then`, by path, with the times of now.
    fn list(&self, prefix: Option<&Path>, then: Micros) -> Vec<ObjectMeta> {
        let below =
            |path: &Path| prefix.is_none_or(|prefix| path.prefix_match(prefix).is_some_and(|rest| rest.count() > 0));
        let there = |life: &&Life| life.created <= then && life.deleted.is_none_or(|deleted| deleted > then);
        let history = self.history.lock();
        // Names that go on after the prefix without a new part lie in between, and are left out.
        let from = history.range(prefix.cloned().unwrap_or_default()..);
        from.take_while(|(path, _)| prefix.is_none_or(|prefix| path.as_ref().starts_with(prefix.as_ref())))
            .filter(|(path, _)| below(path))
            .filter_map(|(path, lives)| {
                let life = lives.iter().find(there)?;
                Some(ObjectMeta {
                    location: path.clone(),
                    last_modified: wall_clock(life.modified),
                    size: life.size,
                    e_tag: None,
                    version: None,
                })
            })
            .collect()
    }

    fn trace(&self, process: ProcessId, what: &str, path: &Path, done: bool, bytes: &[u8]) {
        tracing::trace!(at = self.scheduler.now(), process = process.0, what, %path, done);
        self.scheduler.trace(&process.0.to_le_bytes());
        self.scheduler.trace(what.as_bytes());
        self.scheduler.trace(path.as_ref().as_bytes());
        self.scheduler.trace(&[u8::from(done)]);
        self.scheduler.trace(bytes);
    }
}

/// A publication whose cuts are one offset further than what it holds.
fn one_further(publication: &[u8]) -> Option<Vec<u8>> {
    let mut publication: Value = serde_json::from_slice(publication).ok()?;
    let cuts = publication.pointer_mut("/manifest/cuts")?.as_object_mut()?;
    for next in cuts.values_mut().filter_map(|cut| cut.get_mut("next")?.as_object_mut()) {
        for offset in next.values_mut() {
            *offset = Value::from(offset.as_i64()? + 1);
        }
    }
    serde_json::to_vec(&publication).ok()
}

/// A publication that says nothing of what has expired.
fn without_expiry(publication: &[u8]) -> Option<Vec<u8>> {
    let mut publication: Value = serde_json::from_slice(publication).ok()?;
    let notes = publication.pointer_mut("/manifest/notes/clicks")?.as_object_mut()?;
    notes.remove("since");
    serde_json::to_vec(&publication).ok()
}

/// One process's way to the server.
#[derive(Clone)]
pub struct Client {
    server: Arc<Server>,
    process: ProcessId,
    /// Requests until the process is killed in the middle of one.
    crash_in: Arc<Mutex<Option<u64>>>,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Refused,
    LostAnswer,
    Late,
    Repeated,
}

impl Client {
    pub fn new(server: &Arc<Server>, process: ProcessId) -> Self {
        Self {
            server: Arc::clone(server),
            process,
            crash_in: Arc::default(),
        }
    }

    /// Kills the process at its `requests`-th request from now.
    pub fn crash_in(&self, requests: u64) {
        *self.crash_in.lock() = Some(requests);
    }

    /// The process is not killed any more.
    pub fn spare(&self) {
        *self.crash_in.lock() = None;
    }

    /// Whether a request is answered at once, and without faults: the world's own, and those of work that blocks.
    fn is_exempt(&self) -> bool {
        self.process == WORLD || self.server.scheduler.is_offloaded()
    }

    /// Whether the process dies here.
    fn dies(&self) -> bool {
        let mut left = self.crash_in.lock();
        match &mut *left {
            Some(0) => {
                *left = None;
                drop(left);
                self.server.fault("crashes at a request");
                tracing::debug!(process = self.process.0, "crashes at a request");
                self.server.scheduler.kill(self.process);
                true
            }
            Some(requests) => {
                *requests -= 1;
                false
            }
            None => false,
        }
    }

    fn fate(&self, write: bool) -> Fate {
        let faults = self.server.faults.lock().clone();
        let mut fates = vec![(faults.refused, Fate::Refused, "requests refused")];
        if write {
            fates.push((faults.lost_answer, Fate::LostAnswer, "answers lost after a write"));
            fates.push((faults.late_write, Fate::Late, "writes that arrived late"));
            fates.push((faults.repeated, Fate::Repeated, "writes repeated by the client"));
        }
        for (chance, fate, name) in fates {
            if self.server.scheduler.draw(|random| random.chance(chance)) {
                self.server.fault(name);
                return fate;
            }
        }
        Fate::Fine
    }

    fn wait(&self) -> Micros {
        let slow = self.server.faults.lock().slow;
        let (slow, wait) = self.server.scheduler.draw(|random| {
            let slow = random.chance(slow);
            (slow, random.within(if slow { SLOW_FOR } else { 100..4_000 }))
        });
        if slow {
            self.server.fault("slow requests");
        }
        wait
    }

    /// The way there. A process that is to die here never gets an answer.
    async fn travel(&self) {
        if self.dies() {
            futures::future::pending::<()>().await;
        }
        let wait = self.wait();
        self.server.scheduler.sleep_micros(wait).await;
    }

    async fn way_back(&self) {
        let wait = self.wait();
        self.server.scheduler.sleep_micros(wait).await;
    }

    /// Carries a write out after `wait`, whether or not whoever asked for it is still there.
    fn write<R: Send + 'static>(
        &self,
        wait: Micros,
        write: impl FnOnce(&Server) -> R + Send + 'static,
    ) -> oneshot::Receiver<R> {
        let (done, answer) = oneshot::channel();
        let server = Arc::clone(&self.server);
        self.server.scheduler.after(wait, move || {
            // The process may be gone.
            let _ = done.send(write(&server));
        });
        answer
    }

    /// A write with its fate.
    async fn fated<R: Send + 'static>(
        &self,
        write: impl Fn(&Server) -> Result<R> + Clone + Send + 'static,
    ) -> Result<R> {
        if self.dies() {
            // It was on its way when the process died, or it was not.
            if self.server.scheduler.draw(|random| random.chance(500)) {
                let wait = self.wait();
                drop(self.write(wait, write.clone()));
            }
            futures::future::pending::<()>().await;
        }
        let (fate, wait) = (self.fate(true), self.wait());
        match fate {
            Fate::Refused => {
                self.server.scheduler.sleep_micros(wait).await;
                return Err(failed("503 Service Unavailable"));
            }
            Fate::Late => {
                let late = self.server.scheduler.draw(|random| random.within(LATE_BY));
                drop(self.write(wait + late, write.clone()));
                self.server.scheduler.sleep_micros(wait).await;
                return Err(failed("the connection timed out"));
            }
            Fate::Fine | Fate::LostAnswer | Fate::Repeated => {}
        }
        let answer = self.write(wait, move |server| match fate {
            Fate::Repeated => {
                let _ = write(server);
                write(server)
            }
            _ => write(server),
        });
        let result = answer.await.map_err(|_| failed("the server is gone"))?;
        self.way_back().await;
        match fate {
            Fate::LostAnswer => Err(failed("500 Internal Server Error")),
            _ => result,
        }
    }
}

fn failed(what: &str) -> object_store::Error {
    object_store::Error::Generic {
        store: "simulated",
        source: what.to_owned().into(),
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.process.0)
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated({})", self.process.0)
    }
}

#[async_trait]
impl ObjectStore for Client {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if self.is_exempt() {
            return self.server.put(self.process, path, payload, options);
        }
        let (process, path) = (self.process, path.clone());
        self.fated(move |server| server.put(process, &path, payload.clone(), options.clone()))
            .await
    }

    async fn put_multipart_opts(&self, path: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(failed(&format!("{path} is too large for a simulation")))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        if self.is_exempt() {
            return self.server.get(path, options);
        }
        self.travel().await;
        let fate = self.fate(false);
        let result = self.server.get(path, options);
        self.way_back().await;
        match fate {
            Fate::Fine => result,
            _ => Err(failed("503 Service Unavailable")),
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let client = self.clone();
        paths
            .and_then(move |path| {
                let client = client.clone();
                async move {
                    if client.is_exempt() {
                        client.server.delete(client.process, &path)?;
                    } else {
                        let (process, gone) = (client.process, path.clone());
                        client.fated(move |server| server.delete(process, &gone)).await?;
                    }
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (client, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            let now = client.server.scheduler.now();
            if client.is_exempt() {
                return Ok(client.server.list(prefix.as_ref(), now));
            }
            client.travel().await;
            let fate = client.fate(false);
            let now = client.server.scheduler.now();
            let stale = client.server.faults.lock().stale_listing;
            let age = client.server.scheduler.draw(|random| {
                if random.chance(stale) {
                    random.within(STALE_FOR)
                } else {
                    0
                }
            });
            if age > 0 {
                client.server.fault("stale listings");
            }
            let found = client.server.list(prefix.as_ref(), now.saturating_sub(age));
            client.way_back().await;
            match fate {
                Fate::Fine => Ok(found),
                _ => Err(failed("503 Service Unavailable")),
            }
        };
        stream::once(listing)
            .map_ok(|found| stream::iter(found.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let objects: Vec<ObjectMeta> = self.list(prefix).try_collect().await?;
        let depth = prefix.map_or(0, |prefix| prefix.parts().count());
        let (mut here, mut folders) = (Vec::new(), BTreeSet::new());
        for object in objects {
            let parts: Vec<_> = object.location.parts().collect();
            if parts.len() == depth + 1 {
                here.push(object);
            } else {
                folders.insert(parts.into_iter().take(depth + 1).collect::<Path>());
            }
        }
        Ok(ListResult {
            common_prefixes: folders.into_iter().collect(),
            objects: here,
        })
    }

    async fn copy_opts(&self, from: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(failed(&format!("{from} is not to be copied")))
    }
}
