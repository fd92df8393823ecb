use std::sync::Arc;

use anabranch_runtime::Shutdown;

use super::leader::{Leadership, Role};
use super::lease::{KIND, LeaseKeeper};
use super::recovery::Recovery;
use crate::Error;
use crate::runs::board::Board;
use crate::runs::{failures, held};
use crate::site::Site;

/// How this service comes to lead: whoever does first settles what the former leader left behind.
pub(crate) struct Succession {
    pub(crate) site: Arc<Site>,
    pub(crate) board: Arc<Board>,
    pub(crate) leadership: Arc<Leadership>,
    pub(crate) lease: Arc<LeaseKeeper>,
    pub(crate) recovery: Arc<Recovery>,
}

impl Succession {
    /// What a start needs of the store.
    ///
    /// # Errors
    /// When the store does not answer, or has no atomic create-if-absent.
    pub(crate) async fn begin(&self) -> Result<(), Error> {
        self.site.store.prove_create_if_absent().await?;
        // First the lease: who claims leadership must be seen to be alive.
        self.lease.renew().await?;
        self.settle(true).await
    }

    /// Looks who leads, and takes over what has no living leader. At the start of a process another lease with its address is
    /// that of a process that has died: it need not expire first. Later it is not, lest two services that advertise one address
    /// by mistake take turns.
    async fn settle(&self, at_start: bool) -> Result<(), Error> {
        let leases = self.site.leases.list(KIND).await?.into_iter();
        let alive = leases
            .filter(|lease| !(at_start && self.lease.is_own(lease)))
            .map(|lease| (lease.id, lease.address))
            .collect();
        let role = self.leadership.look(&alive).await?;
        if role == Role::Leader && !self.leadership.is_leader() {
            self.recovery.settle_interrupted().await?;
            held::recall(&self.site, &self.board).await?;
        }
        if role != Role::Leader {
            failures::forget();
        }
        self.leadership.take(role);
        Ok(())
    }
}

/// Looks who leads until shutdown.
pub(crate) async fn watch(succession: Arc<Succession>, shutdown: Shutdown) -> Result<(), Error> {
    let site = &succession.site;
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = site.environment().sleep(*site.settings.batch.poll) => {
                if let Err(error) = succession.settle(false).await {
                    tracing::warn!(%error, "cannot tell which service runs the batch runs");
                }
            }
        }
    }
    Ok(())
}
