//! The object store that holds everything durable.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, ClientConfigKey, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig,
};
use serde::de::DeserializeOwned;

use crate::environment::Environment;
use crate::error::{Error, Result};

mod durable_local;

pub use durable_local::DurableLocal;

/// Puts that race in [`Store::prove_create_if_absent`].
const RACING_PUTS: usize = 16;
/// Probes in which nobody seems to win before the store is refused.
const PROBES: usize = 3;
/// Longest wait of the S3 client between two attempts at one request. Whoever asks tries again on his own account, and is to
/// hear soon that the store is back.
const LONGEST_S3_WAIT: Duration = Duration::from_secs(2);
/// Attempts of [`Store::create`] before an unclear outcome is given up on.
const CREATE_ATTEMPTS: u32 = 6;

/// The object store that holds everything durable, and the prefix under which it lies. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    url: String,
    objects: Arc<dyn ObjectStore>,
    environment: Environment,
}

impl Store {
    /// Opens `file:///…` (the folder is created), `s3://bucket/prefix` or `memory://` (for tests; gone with the last
    /// clone). `options` are object_store's configuration keys (`aws_endpoint`, `aws_access_key_id`, `allow_http`, …),
    /// merged over the environment's `AWS_*`. Makes no request.
    ///
    /// # Errors
    /// `Invalid`: the URL or an option is not understood, or the folder cannot be created.
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let fail = |reason: String| Error::Url {
            url: url.to_owned(),
            reason,
        };
        let objects: Arc<dyn ObjectStore> = match url.split_once("://") {
            Some(("file", path)) => {
                let folder = percent_decode(path).filter(|p| p.starts_with('/')).ok_or_else(|| {
                    fail(
                        "write a local folder as an absolute path with three slashes, `file:///var/lib/anabranch`"
                            .into(),
                    )
                })?;
                Arc::new(DurableLocal::open(folder.as_ref()).map_err(|e| fail(e.to_string()))?)
            }
            Some(("s3", rest)) => s3(rest, options).map_err(fail)?,
            Some(("memory", _)) => Arc::new(InMemory::new()),
            _ => {
                return Err(fail(
                    "write `file:///folder`, `s3://bucket/prefix` or `memory://`".into(),
                ));
            }
        };
        Ok(Self::with_objects(url, objects))
    }

    /// A store around objects that were opened elsewhere, e.g. with faults injected. It must be able to create if absent.
    pub fn with_objects(url: impl Into<String>, objects: Arc<dyn ObjectStore>) -> Self {
        Self::simulated(url, objects, Environment::default())
    }

    /// As [`Self::with_objects`], for a process whose time, chance and threads are simulated too.
    pub fn simulated(url: impl Into<String>, objects: Arc<dyn ObjectStore>, environment: Environment) -> Self {
        Self {
            inner: Arc::new(Inner {
                url: url.into(),
                objects,
                environment,
            }),
        }
    }

    /// Time, chance and threads of the process that uses this store.
    pub fn environment(&self) -> &Environment {
        &self.inner.environment
    }

    /// Proves atomic create-if-absent: 16 racing puts of one new object must have one winner, the object must hold the
    /// winner's bytes, and a later put must be refused (ARCHITECTURE.md, rule 11).
    ///
    /// # Errors
    /// `Invalid` when the store failed the proof and must not be used, refuses the credentials or has no such bucket;
    /// otherwise whatever kept it from answering.
    pub async fn prove_create_if_absent(&self) -> Result<()> {
        for _ in 0..PROBES {
            if self.probe().await.map_err(|error| self.explained(error))? {
                return Ok(());
            }
        }
        Err(self.not_atomic(format!("none of {RACING_PUTS} racing puts won")))
    }

    /// One race. False when nobody seems to have won it: the client may have repeated the winner's put, because the answer
    /// was lost, and then it was refused.
    async fn probe(&self) -> Result<bool> {
        let path = Path::from(format!("probe/{}", self.environment().ordered_id().simple()));
        let puts = (0..RACING_PUTS).map(|writer| {
            let (store, path) = (self.clone(), path.clone());
            tokio::spawn(async move { (writer, store.put_if_absent(&path, probe_bytes(writer)).await) })
        });
        let mut winners = Vec::new();
        let mut unclear = None;
        for put in futures::future::join_all(puts).await {
            match put.map_err(|source| Error::Task {
                task: "probing the store",
                source,
            })? {
                (writer, Ok(true)) => winners.push(writer),
                (_, Ok(false)) => {}
                (_, Err(error)) => unclear = Some(error),
            }
        }
        let verdict = match (unclear, winners.as_slice()) {
            (Some(error), _) => Err(error),
            (None, []) => Ok(false),
            (None, [winner]) => self.judge_probe(&path, *winner).await.map(|()| true),
            (None, winners) => Err(self.not_atomic(format!("{} of {RACING_PUTS} racing puts won", winners.len()))),
        };
        match self.objects().delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => tracing::warn!(%path, %error, "the probe object could not be removed"),
        }
        verdict
    }

    async fn judge_probe(&self, path: &Path, winner: usize) -> Result<()> {
        if self.read(path).await?.as_deref() != Some(&*probe_bytes(winner)) {
            return Err(self.not_atomic("the object does not hold the winner's bytes".into()));
        }
        if self.put_if_absent(path, probe_bytes(RACING_PUTS)).await? {
            return Err(self.not_atomic("an object that was there was created once more".into()));
        }
        Ok(())
    }

    /// What waiting does not mend, in words that say what to change.
    fn explained(&self, error: Error) -> Error {
        use object_store::Error as E;
        let url = self.url().to_owned();
        match error {
            Error::Store { source, .. } if url.starts_with("s3://") => match source {
                E::NotFound { .. } => Error::NoBucket {
                    url,
                    answer: answer_of(&source.to_string()),
                },
                E::PermissionDenied { .. } | E::Unauthenticated { .. } => Error::Credentials {
                    url,
                    answer: answer_of(&source.to_string()),
                },
                source => Error::Store {
                    operation: "probe",
                    path: url,
                    source,
                },
            },
            error => error,
        }
    }

    fn not_atomic(&self, reason: String) -> Error {
        Error::NotAtomic {
            url: self.url().to_owned(),
            reason,
        }
    }

    /// The store, rooted at the prefix: paths below are relative to it.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.objects
    }

    /// The URL it was opened with.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// Creates the object only if it does not exist. `Ok(false)`: somebody else's object with other bytes is there.
    /// `Ok(true)`: created, or an earlier unclear attempt of ours had (same bytes). So the bytes must tell writers
    /// apart wherever that matters.
    ///
    /// # Errors
    /// When it stays unclear, after some attempts, whether the object is there.
    pub async fn create(&self, path: &Path, bytes: Bytes) -> Result<bool> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let unclear = match self.put_if_absent(path, bytes.clone()).await {
                Ok(true) => return Ok(true),
                Ok(false) => None,
                Err(error) if attempt == CREATE_ATTEMPTS || !worth_retrying(&error) => return Err(error),
                Err(error) => Some(error),
            };
            // What is there decides, whatever the put said: the client may have retried a put that had succeeded.
            match self.read(path).await {
                Ok(Some(found)) => return Ok(found == bytes),
                Ok(None) => {}
                Err(error) if attempt == CREATE_ATTEMPTS => return Err(error),
                Err(_) => {}
            }
            if let Some(error) = unclear {
                tracing::warn!(%path, %error, attempt, "the store did not say whether the object was created; trying again");
            }
            backoff(self.environment(), attempt).await;
        }
    }

    /// Writes or replaces an object.
    pub(crate) async fn put(&self, path: &Path, bytes: Bytes) -> Result<()> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.objects().put(path, PutPayload::from_bytes(bytes.clone())).await {
                Ok(_) => return Ok(()),
                // Nothing was asked of what is there: the store's "conflict" is with another request at the same moment, in
                // stores that keep folders with one that removed the last object beside this one.
                Err(object_store::Error::AlreadyExists { .. }) if attempt < CREATE_ATTEMPTS => {
                    backoff(self.environment(), attempt).await;
                }
                Err(error) => return Err(Error::store("write", path)(error)),
            }
        }
    }

    /// Removes an object; it need not be there.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn remove(&self, path: Path) -> Result<()> {
        match self.objects().delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::store("delete", &path)(error)),
        }
    }

    /// The object's bytes, `None` if it does not exist.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn read(&self, path: &Path) -> Result<Option<Bytes>> {
        let result = match self.objects().get(path).await {
            Ok(object) => object.bytes().await.map(Some),
            Err(error) => Err(error),
        };
        match result {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            other => other.map_err(Error::store("read", path)),
        }
    }

    /// What the JSON object says, `None` if it does not exist.
    pub(crate) async fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let bytes = self.read(path).await?;
        bytes
            .map(|bytes| serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(path, e)))
            .transpose()
    }

    /// All objects of a folder and those below it.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>> {
        let objects = self.objects().list(Some(folder)).try_collect().await;
        objects.map_err(Error::store("list", folder))
    }

    /// Names of the folders directly below `folder`, ascending. Costs nothing for what lies in them.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn list_folders(&self, folder: &Path) -> Result<Vec<String>> {
        let listed = self.objects().list_with_delimiter(Some(folder)).await;
        let folders = listed.map_err(Error::store("list", folder))?.common_prefixes;
        let mut names: Vec<String> = folders
            .iter()
            .filter_map(|path| path.filename().map(str::to_owned))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The numbers of a folder's objects named `<number>.json`, ascending.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn list_numbers(&self, folder: &Path) -> Result<Vec<u64>> {
        let number = |object: &ObjectMeta| object.location.filename()?.strip_suffix(".json")?.parse().ok();
        let mut numbers: Vec<u64> = self.list(folder).await?.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// One conditional put. `Ok(false)`: something is there, perhaps by an earlier attempt that the client repeated.
    pub(crate) async fn put_if_absent(&self, path: &Path, bytes: Bytes) -> Result<bool> {
        let options = PutOptions::from(PutMode::Create);
        match self
            .objects()
            .put_opts(path, PutPayload::from_bytes(bytes), options)
            .await
        {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(source) => Err(Error::store("create", path)(source)),
        }
    }
}

/// Whether the same request may succeed later.
pub(crate) fn worth_retrying(error: &Error) -> bool {
    error.kind() == anabranch_model::ErrorKind::Unavailable
}

/// Waits a random time, up to 5 ms after the first attempt and up to half a second after many.
pub(crate) async fn backoff(environment: &Environment, attempt: u32) {
    let ceiling_us = 5_000_u64.saturating_mul(1 << attempt.min(7)).min(500_000);
    let wait = environment.random_up_to(ceiling_us);
    environment.sleep(Duration::from_micros(wait)).await;
}

fn probe_bytes(writer: usize) -> Bytes {
    Bytes::from(format!("writer {writer}"))
}

fn s3(rest: &str, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err("write `s3://bucket/prefix`".into());
    }
    let retry = RetryConfig {
        backoff: BackoffConfig {
            max_backoff: LONGEST_S3_WAIT,
            ..BackoffConfig::default()
        },
        ..RetryConfig::default()
    };
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
    for (key, value) in options {
        let key = AmazonS3ConfigKey::from_str(key)
            .map_err(|_| format!("`{key}` is not an option of S3 storage; see object_store's AmazonS3ConfigKey"))?;
        builder = builder.with_config(key, value);
    }
    // An endpoint that says http:// means it; object_store would refuse it without a second setting.
    let allow_http = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);
    let plain = builder
        .get_config_value(&AmazonS3ConfigKey::Endpoint)
        .is_some_and(|url| url.starts_with("http://"));
    if plain && !options.contains_key("allow_http") && !options.contains_key("aws_allow_http") {
        builder = builder.with_config(allow_http, "true");
    }
    let bucket = builder.build().map_err(|e| e.to_string())?;
    let prefix = percent_decode(prefix).ok_or("the prefix is not valid UTF-8")?;
    let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|e| e.to_string())?;
    Ok(if prefix.as_ref().is_empty() {
        Arc::new(bucket)
    } else {
        Arc::new(PrefixStore::new(bucket, prefix))
    })
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|h| u8::from_str_radix(h, 16).ok()),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).ok()
}

/// What an S3 server said, of the text of an error that holds its whole answer: some tell all that they signed, over pages.
fn answer_of(error: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = error.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.trim())
    };
    let Some(code) = element("Code") else {
        return error.to_owned();
    };
    let status = error
        .split_once("status code: ")
        .and_then(|(_, rest)| rest.split_once(':'));
    let parts = [status.map(|(status, _)| status), Some(code), element("Message")];
    let parts: Vec<&str> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    parts.join(": ")
}

#[cfg(test)]
mod tests;
