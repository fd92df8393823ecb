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
use crate::source::{LandedRows, SourceLayer};

/// How long a lease is believed after its last renewal.
const TTL: Duration = Duration::from_secs(10);
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How often state is measured.
const MEASURE_EVERY: Duration = Duration::from_millis(100);
/// How often the ends of the log and the totals of the master dataset are read.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Keeps the lease fresh, measures state against its budget, and reads log ends, until shutdown.
pub(crate) struct Keeper {
    pub(crate) layers: Vec<Arc<SourceLayer>>,
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
        let (mut renewed, mut looked): (Option<Instant>, Option<Instant>) = (None, None);
        let mut told = Vec::new();
        loop {
            let state_bytes = self.measure();
            if looked.is_none_or(|at| environment.elapsed(at) >= LOOK_EVERY) {
                self.look().await;
                looked = Some(environment.instant());
            }
            // Without the number of partitions a reader could not tell that some are missing.
            let partitions_known = self.layers.iter().all(|layer| !layer.facts.log_ends.lock().is_empty());
            // Readers look for owners here, so a change is told at once.
            let owned = self.owned();
            if partitions_known && (owned != told || renewed.is_none_or(|at| environment.elapsed(at) >= RENEW_EVERY)) {
                match leases.renew(&self.lease(state_bytes)).await {
                    Ok(()) => (renewed, told) = (Some(environment.instant()), owned),
                    Err(error) => tracing::warn!(%error, "cannot renew the lease; trying again"),
                }
            }
            tokio::select! {
                () = environment.sleep(MEASURE_EVERY) => {}
                () = shutdown.cancelled() => break,
            }
        }
        Ok(())
    }

    /// What is owned, per source: partition and epoch.
    fn owned(&self) -> Vec<Vec<(PartitionId, i64)>> {
        let owned = |layer: &Arc<SourceLayer>| {
            layer
                .partitions()
                .iter()
                .map(|state| (state.partition, state.epoch))
                .collect()
        };
        self.layers.iter().map(owned).collect()
    }

    fn measure(&self) -> usize {
        let state_bytes: usize = self.layers.iter().map(|layer| layer.state_bytes()).sum();
        self.paused.store(
            state_bytes as u64 >= self.state_budget_bytes.saturating_mul(2),
            Ordering::Relaxed,
        );
        metrics::gauge!("anabranch_speed_state_bytes").set(state_bytes as f64);
        metrics::gauge!("anabranch_speed_paused").set(f64::from(u8::from(self.paused.load(Ordering::Relaxed))));
        self.snapshots.expire(self.store.environment().instant());
        state_bytes
    }

    /// Reads what status pages show of the log and of the master dataset.
    async fn look(&self) {
        for layer in &self.layers {
            match layer.log.ends().await {
                Ok(ends) => *layer.facts.log_ends.lock() = ends,
                Err(error) => tracing::warn!(table = layer.name(), %error, "cannot read the log's ends"),
            }
            if let Err(error) = look_at_dataset(layer).await {
                tracing::debug!(table = layer.name(), %error, "cannot read the master dataset");
            }
        }
    }

    fn lease(&self, state_bytes: usize) -> Lease {
        let sources: Map<String, Value> = self
            .layers
            .iter()
            .map(|layer| (layer.source.name.clone(), source_facts(layer)))
            .collect();
        Lease {
            kind: "speed".into(),
            id: self.worker_id.clone(),
            address: self.address.clone(),
            facts: json!({"sources": sources, "state_bytes": state_bytes}),
            ttl: TTL,
        }
    }
}

async fn look_at_dataset(layer: &SourceLayer) -> Result<(), Error> {
    // The cut is cheap; the list of files is not where history is long.
    let version = layer.dataset.cut().await?.version;
    let seen = *layer.facts.landed_rows.lock();
    if seen.is_none_or(|seen| seen.version != version) {
        let (events, dead_letters) = layer.dataset.snapshot(None).await?.rows();
        *layer.facts.landed_rows.lock() = Some(LandedRows {
            version,
            events,
            dead_letters,
        });
    }
    Ok(())
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
