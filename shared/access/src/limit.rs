//! How often somebody may ask: token buckets, as many as there are askers, but never without bound.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::guard::network;

/// Askers that are remembered at most. Those who have not asked for long are forgotten first: their buckets are full again.
const MOST: usize = 10_000;

/// How often one address may show wrong credentials, over all that a process listens to. Clones count together.
#[derive(Clone, Debug)]
pub struct Failures(Arc<Limiter<IpAddr>>);

impl Failures {
    pub fn new(per_minute: u32) -> Self {
        let per_minute = f64::from(per_minute.max(1));
        Self(Arc::new(Limiter::new(per_minute / 60.0, per_minute)))
    }

    /// Counts one.
    ///
    /// # Errors
    /// When there were too many: how long the address is told to wait.
    pub fn count(&self, from: IpAddr) -> Result<(), Duration> {
        metrics::counter!("anabranch_access_denied_total", "reason" => "unknown").increment(1);
        self.0.take(&network(from), Instant::now())
    }

    pub(crate) fn take(&self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        self.0.take(&from, now)
    }
}

/// Lets each of many askers ask so often.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K: Eq + Hash + Clone> Limiter<K> {
    /// `per_second` on average, `burst` at once.
    pub(crate) fn new(per_second: f64, burst: f64) -> Self {
        Self {
            per_second,
            burst: burst.max(1.0),
            buckets: Mutex::default(),
        }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long to wait until there is one again.
    pub(crate) fn take(&self, who: &K, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock();
        if buckets.len() >= MOST && !buckets.contains_key(who) {
            self.forget(&mut buckets, now);
        }
        let bucket = buckets.entry(who.clone()).or_insert(Bucket {
            left: self.burst,
            at: now,
        });
        bucket.left = self.filled(bucket, now);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64(
            ((1.0 - bucket.left) / self.per_second).min(3600.0),
        ))
    }

    fn filled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + since * self.per_second).min(self.burst)
    }

    /// Makes room: whoever has a full bucket again; if nobody has, everybody (an attack with that many addresses is not one
    /// that this can stop).
    fn forget(&self, buckets: &mut HashMap<K, Bucket>, now: Instant) {
        buckets.retain(|_, bucket| self.filled(bucket, now) < self.burst);
        if buckets.len() >= MOST {
            buckets.clear();
        }
    }
}

#[cfg(test)]
mod tests;
