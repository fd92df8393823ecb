//! What others learn of a worker: its lease, renewed while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anabranch_dataset::{Lease, Leases, Store};
use anabranch_model::PartitionId;
use anabranch_runtime::Shutdown;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::snapshots::Snapshots;
use crate::source::SourceLayer;
use crate::sources::Sources;

/// How long a lease is believed after its last renewal.
const TTL: Duration = Duration::from_secs(10);
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How often state is measured.
const MEASURE_EVERY: Duration = Duration::from_millis(100);

/// Keeps the lease fresh and measures state against its budget, until shutdown. It waits for nobody but the store: a lease
/// that expires because a broker is slow would take a healthy worker out of every answer.
pub(crate) struct Keeper {
    pub(crate) sources: Arc<Sources>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) store: Store,
    pub(crate) worker_id: String,
    pub(crate) address: String,
    pub(crate) state_budget_bytes: u64,
    pub(crate) paused: Arc<AtomicBool>,
}

impl Keeper {
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        let leases = Leases::new(&self.store);
        let environment = self.store.environment();
        let mut renewed: Option<Instant> = None;
        let mut told = (Vec::new(), None);
        loop {
            let memory = self.measure();
            // Readers look for owners here, and a rollback waits for what is held, so a change is told at once.
            let owned = (self.owned(), self.sources.holds());
            if owned != told || renewed.is_none_or(|at| environment.elapsed(at) >= RENEW_EVERY) {
                match leases.renew(&self.lease(memory)).await {
                    Ok(()) => (renewed, told) = (Some(environment.instant()), owned),
                    Err(error) => tracing::warn!(%error, "cannot renew the lease; trying again"),
                }
            }
            tokio::select! {
                biased;
                () = environment.sleep(MEASURE_EVERY) => {}
                () = shutdown.cancelled() => break,
            }
        }
        Ok(())
    }

    /// Sources of which readers may hear. Without the number of its partitions a reader could not tell that some of a source
    /// are missing.
    fn known(&self) -> Vec<Arc<SourceLayer>> {
        let mut layers = self.sources.layers();
        layers.retain(|layer| !layer.facts.log_ends.lock().is_empty());
        layers
    }

    /// What is owned, per source: partition and epoch.
    fn owned(&self) -> Vec<(String, Vec<(PartitionId, i64)>)> {
        let owned = |layer: &Arc<SourceLayer>| {
            let partitions = layer.partitions();
            let owned = partitions.iter().map(|state| (state.partition, state.epoch));
            (layer.source.name.clone(), owned.collect())
        };
        self.known().iter().map(owned).collect()
    }

    /// Measures what is held, and decides whether spouts must wait.
    fn measure(&self) -> Memory {
        let layers = self.sources.layers();
        let memory = Memory {
            state_bytes: layers.iter().map(|layer| layer.state_bytes()).sum(),
            landing_bytes: layers.iter().map(|layer| layer.landing_bytes()).sum(),
        };
        let paused = memory.total() >= self.state_budget_bytes.saturating_mul(2);
        self.paused.store(paused, Ordering::Relaxed);
        metrics::gauge!("anabranch_speed_state_bytes").set(memory.state_bytes as f64);
        metrics::gauge!("anabranch_speed_landing_bytes").set(memory.landing_bytes as f64);
        metrics::gauge!("anabranch_speed_paused").set(f64::from(u8::from(paused)));
        self.snapshots.expire(self.store.environment().instant());
        memory
    }

    fn lease(&self, memory: Memory) -> Lease {
        let sources: Map<String, Value> = self
            .known()
            .iter()
            .map(|layer| (layer.source.name.clone(), source_facts(layer)))
            .collect();
        Lease {
            kind: "speed".into(),
            id: self.worker_id.clone(),
            address: self.address.clone(),
            facts: json!({
                "sources": sources,
                "state_bytes": memory.state_bytes,
                "holds": Vec::from_iter(self.sources.holds()),
            }),
            ttl: TTL,
        }
    }
}

/// What is held in memory, in bytes.
#[derive(Clone, Copy, Debug)]
struct Memory {
    /// Realtime state. A batch run makes it smaller.
    state_bytes: usize,
    /// Decoded events that wait to be landed. The store makes them fewer.
    landing_bytes: usize,
}

impl Memory {
    fn total(self) -> u64 {
        self.state_bytes.saturating_add(self.landing_bytes) as u64
    }
}

fn source_facts(layer: &SourceLayer) -> Value {
    let ends = layer.facts.log_ends.lock().clone();
    let owned: Map<String, Value> = layer
        .partitions()
        .iter()
        .map(|state| {
            let facts = json!({
                "epoch": state.epoch,
                "next_consumed": state.consumed(),
                "next_landed": state.landed(),
                "end": ends.get(state.partition).unwrap_or(state.consumed()),
            });
            (state.partition.to_string(), facts)
        })
        .collect();
    json!({"topic": layer.log.topic(), "partitions_total": ends.len(), "owned": owned})
}
