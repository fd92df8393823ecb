use std::future::Future;

use anabranch_access::{Denied, Principal};
use tokio_util::sync::CancellationToken;

use crate::PgError;

/// What ends a statement from outside.
pub(super) struct Guard {
    pub(super) cancelled: CancellationToken,
    pub(super) gone: CancellationToken,
    pub(super) ended: CancellationToken,
    pub(super) principal: Principal,
    pub(super) deadline: Option<tokio::time::Instant>,
}

impl Guard {
    /// Waits for work, unless the statement is ended before.
    pub(super) async fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, PgError> {
        let late = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.gone.cancelled() => Err(PgError::fatal("08006", "the client has hung up")),
            () = self.ended.cancelled() => Err(shutting_down()),
            denied = self.principal.ended() => Err(sent_away(&denied)),
            () = self.cancelled.cancelled() => Err(PgError::new("57014", "canceling statement due to user request")),
            () = late => Err(PgError::new("57014", "canceling statement due to statement timeout")
                .with_hint("narrow the query, or raise statement_timeout")),
            done = work => Ok(done),
        }
    }
}

/// To somebody who was let in, and counts no more.
pub(super) fn sent_away(denied: &Denied) -> PgError {
    PgError::fatal("28000", format!("terminating connection: {denied}"))
}

pub(super) fn shutting_down() -> PgError {
    PgError::fatal("57P01", "terminating connection due to administrator command")
}
