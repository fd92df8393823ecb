//! The batch lease: tells the speed layer which cuts a run is taking.

use std::sync::Arc;
use std::time::Duration;

use anabranch_dataset::{Lease, Leases};
use anabranch_runtime::Shutdown;
use serde_json::json;
use tokio::sync::Mutex;

use super::leader::Leadership;
use crate::Error;
use crate::runs::board::Board;
use crate::site::Site;

pub(crate) const KIND: &str = "batch";
const TTL: Duration = Duration::from_secs(10);
const RENEW_EVERY: Duration = Duration::from_secs(2);

/// Writes this service's lease. One writer at a time, so that an older list of runs never replaces a newer one.
pub(crate) struct LeaseKeeper {
    leases: Leases,
    id: String,
    address: String,
    board: Arc<Board>,
    leadership: Arc<Leadership>,
    writing: Mutex<()>,
}

impl LeaseKeeper {
    pub(crate) fn new(
        leases: Leases,
        (id, address): (String, String),
        board: Arc<Board>,
        leadership: Arc<Leadership>,
    ) -> Self {
        Self {
            leases,
            id,
            address,
            board,
            leadership,
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
    pub(crate) async fn renew(&self) -> Result<(), Error> {
        let _writing = self.writing.lock().await;
        let (running, queued, rollback) = self
            .board
            .show(|listed| {
                let running = listed.running.iter().map(|run| {
                    let record = run.record();
                    json!({"run_id": run.run_id, "cuts": record.cuts, "base": record.base})
                });
                // A held run may yet be published: its cuts stay boundaries, and its files stay.
                let held = listed.held.iter();
                let held = held.map(|held| json!({"run_id": held.run_id, "cuts": held.cuts}));
                let running: Vec<_> = running.chain(held).collect();
                let queued: Vec<_> = listed.queued.iter().map(|run| run.run_id.clone()).collect();
                (running, queued, listed.rollback)
            })
            .await;
        let lease = Lease {
            kind: KIND.to_owned(),
            id: self.id.clone(),
            address: self.address.clone(),
            facts: json!({
                "running": running,
                "queued": queued,
                "rollback": rollback,
                "leader": self.leadership.is_leader(),
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

/// Keeps the lease fresh until the last run has `stopped`, then lets it go.
pub(crate) async fn keep(lease: Arc<LeaseKeeper>, site: Arc<Site>, stopped: Shutdown) -> Result<(), Error> {
    while !stopped.is_cancelled() {
        if let Err(error) = lease.renew().await {
            // A store that is away for a while is no reason to stop; the next tick tries again.
            tracing::warn!(%error, "cannot renew the batch lease");
        }
        // The record shows readers in other processes how far the run is.
        if let Some(run) = lease.board.running().await {
            run.save(&site.runs).await;
        }
        tokio::select! {
            biased;
            () = stopped.cancelled() => {}
            () = site.environment().sleep(RENEW_EVERY) => {}
        }
    }
    lease.release().await
}
