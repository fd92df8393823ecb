//! The batch lease: tells the speed layer which cuts a run is taking.

use std::sync::Arc;
use std::time::Duration;

use anabranch_dataset::{Lease, Leases};
use serde_json::json;
use tokio::sync::Mutex;

use crate::Error;
use crate::service::Shared;

pub(crate) const KIND: &str = "batch";
const TTL: Duration = Duration::from_secs(10);
const RENEW_EVERY: Duration = Duration::from_secs(2);

/// Writes this service's lease. One writer at a time, so that an older list of runs never replaces a newer one.
pub(crate) struct LeaseKeeper {
    leases: Leases,
    id: String,
    address: String,
    writing: Mutex<()>,
}

impl LeaseKeeper {
    pub(crate) fn new(leases: Leases, id: String, address: String) -> Self {
        Self {
            leases,
            id,
            address,
            writing: Mutex::new(()),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether a lease is that of this service, or of a former process of it: nobody else listens where we do.
    pub(crate) fn is_own(&self, lease: &Lease) -> bool {
        lease.id == self.id || lease.address == self.address
    }

    /// Writes the lease with the runs of this moment.
    pub(crate) async fn renew(&self, shared: &Shared) -> Result<(), Error> {
        let _writing = self.writing.lock().await;
        let board = shared.board.lock().await;
        let running: Vec<_> = board
            .running
            .iter()
            .map(|run| {
                let record = run.record();
                json!({"run_id": run.run_id, "cuts": record.cuts, "base": record.base})
            })
            // A held run may yet be published: its cuts stay boundaries, and its files stay.
            .chain(
                board
                    .held
                    .iter()
                    .map(|held| json!({"run_id": held.run_id, "cuts": held.cuts})),
            )
            .collect();
        let queued: Vec<_> = board.queued.iter().map(|run| run.run_id.clone()).collect();
        let rollback = board.intent.as_ref().map(|intent| intent.publication);
        drop(board);
        let lease = Lease {
            kind: KIND.to_owned(),
            id: self.id.clone(),
            address: self.address.clone(),
            facts: json!({
                "running": running,
                "queued": queued,
                "rollback": rollback,
                "leader": shared.leadership.is_leader(),
            }),
            ttl: TTL,
        };
        Ok(self.leases.renew(&lease).await?)
    }

    async fn release(&self) -> Result<(), Error> {
        let _writing = self.writing.lock().await;
        Ok(self.leases.release(KIND, &self.id).await?)
    }
}

/// Keeps the lease fresh until shutdown, then lets it go.
pub(crate) async fn keep(shared: Arc<Shared>) -> Result<(), Error> {
    while !shared.stopped.is_cancelled() {
        if let Err(error) = shared.lease.renew(&shared).await {
            // A store that is away for a while is no reason to stop; the next tick tries again.
            tracing::warn!(%error, "cannot renew the batch lease");
        }
        shared.save_progress().await;
        tokio::select! {
            biased;
            () = shared.stopped.cancelled() => {}
            () = shared.store.environment().sleep(RENEW_EVERY) => {}
        }
    }
    shared.lease.release().await
}
