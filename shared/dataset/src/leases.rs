//! Who is there: leases that their owners keep fresh.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anabranch_model::crash_point;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::Store;

/// How long the store's clock is carried forward by our own monotonic one before it is read again.
const CLOCK_TTL: Duration = Duration::from_secs(60);
/// A lease that expired this long ago is removed by whoever finds it.
const ABANDONED: Duration = Duration::from_secs(600);
/// Leases read at once.
const READS: usize = 8;

/// Who is there: `services/<kind>/<id>.json`, kept fresh by its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// `speed`, `batch` or `serve`.
    pub kind: String,
    pub id: String,
    /// `http://host:port` that others reach it by.
    pub address: String,
    /// Kind-specific facts: owned partitions and state bytes (speed), running cuts (batch), pinned publication (serve).
    pub facts: serde_json::Value,
    /// How long after its last write it is to be believed.
    pub ttl: Duration,
}

/// As it is written: with the version of the software that wrote it.
#[derive(Serialize)]
struct Written<'l> {
    #[serde(flatten)]
    lease: &'l Lease,
    version: &'static str,
}

/// A live lease, and the version of the software that wrote it; `None` from before versions were written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VersionedLease {
    #[serde(flatten)]
    pub lease: Lease,
    #[serde(default)]
    pub version: Option<String>,
}

/// Reads and writes leases. Expiry is judged by the store's clock (object's last-modified against a fresh write of ours),
/// so that clocks of machines need not agree.
#[derive(Clone, Debug)]
pub struct Leases {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Mutex<Option<Reading>>,
}

/// The store's clock as it was read, and when that was.
#[derive(Clone, Copy, Debug)]
struct Reading {
    time: DateTime<Utc>,
    at: Instant,
}

impl Leases {
    pub fn new(store: &Store) -> Self {
        Self {
            inner: Arc::new(Inner {
                store: store.clone(),
                clock: Mutex::new(None),
            }),
        }
    }

    /// Writes the lease; it is believed for its `ttl` from now.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn renew(&self, lease: &Lease) -> Result<()> {
        let path = lease_path(&lease.kind, &lease.id);
        let written = Written {
            lease,
            version: env!("CARGO_PKG_VERSION"),
        };
        let bytes = serde_json::to_vec(&written).map_err(|e| Error::corrupt(&path, e))?;
        crash_point!("lease.renew.before");
        self.inner.store.put(&path, bytes.into()).await?;
        crash_point!("lease.renew.after");
        Ok(())
    }

    /// Removes the lease; it need not be there.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn release(&self, kind: &str, id: &str) -> Result<()> {
        self.inner.store.remove(lease_path(kind, id)).await
    }

    /// Live leases of a kind, by id.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn list(&self, kind: &str) -> Result<Vec<Lease>> {
        let live = self.list_versioned(kind).await?;
        Ok(live.into_iter().map(|versioned| versioned.lease).collect())
    }

    /// As [`Leases::list`], with the version of the software behind each.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn list_versioned(&self, kind: &str) -> Result<Vec<VersionedLease>> {
        let now = self.now().await?;
        let folder = Path::from("services").join(kind);
        let objects = self.inner.store.list(&folder).await?;
        // Whatever was written after our reading shows that the clock has moved on.
        let now = objects
            .iter()
            .map(|object| object.last_modified)
            .max()
            .map_or(now, |newest| newest.max(now));
        let mut live: Vec<VersionedLease> = stream::iter(objects)
            .map(|object| self.live(object, now))
            .buffer_unordered(READS)
            .try_filter_map(async |lease| Ok(lease))
            .try_collect()
            .await?;
        live.sort_unstable_by(|a, b| a.lease.id.cmp(&b.lease.id));
        Ok(live)
    }

    /// The lease in an object, if it is to be believed.
    async fn live(&self, object: ObjectMeta, now: DateTime<Utc>) -> Result<Option<VersionedLease>> {
        let age = (now - object.last_modified).to_std().unwrap_or(Duration::ZERO);
        if age > ABANDONED {
            // Its owner, should it come back, writes it anew.
            let _ = self.inner.store.objects().delete(&object.location).await;
            return Ok(None);
        }
        // Released between listing and reading.
        let Some(bytes) = self.inner.store.read(&object.location).await? else {
            return Ok(None);
        };
        match serde_json::from_slice::<VersionedLease>(&bytes) {
            Ok(found) => Ok((age <= found.lease.ttl).then_some(found)),
            Err(error) => {
                tracing::warn!(path = %object.location, %error, "not a lease; ignored");
                Ok(None)
            }
        }
    }

    /// What the store's clock shows. Read by writing an object, then carried forward for a minute.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn now(&self) -> Result<DateTime<Utc>> {
        let known = *self.inner.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let environment = self.inner.store.environment();
        if let Some(reading) = known.filter(|reading| environment.elapsed(reading.at) < CLOCK_TTL) {
            return Ok(reading.time + environment.elapsed(reading.at));
        }
        let path = Path::from("services")
            .join("clock")
            .join(format!("{}.json", environment.ordered_id().simple()));
        let objects = self.inner.store.objects();
        self.inner.store.put(&path, bytes::Bytes::from_static(b"{}")).await?;
        let head = objects.head(&path).await.map_err(Error::store("read", &path));
        // Taken after the answer: an estimate that is a little early believes a lease a little longer.
        let at = environment.instant();
        let _ = objects.delete(&path).await;
        let time = head?.last_modified;
        *self.inner.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(Reading { time, at });
        Ok(time)
    }
}

fn lease_path(kind: &str, id: &str) -> Path {
    Path::from("services").join(kind).join(format!("{id}.json"))
}

#[cfg(test)]
mod tests;
