//! What queries may hold in memory: each its own limit, all of them together another.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anabranch_runtime::Serving;
use arrow::array::RecordBatch;
use datafusion::common::resources_datafusion_err;
use datafusion::error::Result as QueryResult;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

use crate::Error;

/// The memory of all queries of this process.
pub(crate) struct Memory {
    used: AtomicUsize,
    limit: usize,
    query_limit: usize,
}

impl Memory {
    pub(crate) fn new(settings: &Serving) -> Arc<Self> {
        let bytes = |size: anabranch_runtime::ByteSize| usize::try_from(size.get()).unwrap_or(usize::MAX);
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit: bytes(settings.total_query_memory),
            query_limit: bytes(settings.query_memory),
        })
    }

    /// What one query takes its memory from.
    pub(crate) fn of_a_query(self: &Arc<Self>) -> Arc<dyn MemoryPool> {
        Arc::new(QueryPool {
            used: AtomicUsize::new(0),
            shared: Arc::clone(self),
        })
    }

    fn add(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        metrics::gauge!("anabranch_serving_query_memory_bytes").set(used as f64);
    }

    fn give_back(&self, bytes: usize) {
        let used = self.used.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        metrics::gauge!("anabranch_serving_query_memory_bytes").set(used as f64);
    }

    fn try_add(&self, bytes: usize) -> bool {
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.limit)
        });
        taken.is_ok()
    }
}

/// Where one query runs: with memory of its own, without files.
pub(crate) fn environment(pool: Arc<dyn MemoryPool>) -> Result<Arc<RuntimeEnv>, Error> {
    RuntimeEnvBuilder::new()
        .with_memory_pool(pool)
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()
        .map_err(Error::from_query)
}

/// One query's part. What it still holds when it is dropped goes back to all.
#[derive(Debug)]
struct QueryPool {
    used: AtomicUsize,
    shared: Arc<Memory>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("used", &self.used)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.shared.add(additional);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.shared.give_back(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> QueryResult<()> {
        let limit = self.shared.query_limit;
        let grown = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(additional).filter(|used| *used <= limit)
        });
        if grown.is_err() {
            return Err(resources_datafusion_err!(
                "{} needs {additional} bytes more, and a query may use {limit}",
                reservation.consumer().name()
            ));
        }
        if !self.shared.try_add(additional) {
            self.used.fetch_sub(additional, Ordering::Relaxed);
            return Err(Error::MemoryBusy {
                limit_bytes: self.shared.limit,
            }
            .into());
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.shared.query_limit)
    }
}

impl Drop for QueryPool {
    fn drop(&mut self) {
        self.shared.give_back(*self.used.get_mut());
    }
}

/// Memory of one query that is not DataFusion's: state and rows that were read, an answer that is put together. Given back when
/// it is dropped.
#[derive(Debug)]
pub(crate) struct QueryMemory(MemoryReservation);

impl QueryMemory {
    pub(crate) fn new(pool: &Arc<dyn MemoryPool>, what: &str) -> Self {
        Self(MemoryConsumer::new(what).register(pool))
    }

    /// Takes `bytes` more.
    ///
    /// # Errors
    /// When the query may not have as much, or all queries together use too much at the moment.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Error> {
        self.0.try_grow(bytes).map_err(Error::from_query)
    }

    /// Holds `bytes` in all, in the place of what was taken before.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), Error> {
        self.0.try_resize(bytes).map_err(Error::from_query)
    }
}

/// Bytes of a batch. Batches may be slices of one buffer, which counts once.
pub(crate) fn slice_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or(0))
        .sum()
}

#[cfg(test)]
mod tests;
