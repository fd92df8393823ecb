//! Partitions that the log's group has taken away, because it has not heard of this worker for too long, and that nobody
//! else is known to own: while a broker is away, that is all of them.
//!
//! ```text
//!   reading ─► lost ─► kept ─┬─ somebody else has claimed it ─► forgotten
//!      ▲                     └─ the group gives it back ─► Claiming ─┬─ nobody has claimed it ─► reading, from where it was left
//!      └─────────────── claimed anew, and rebuilt ◄──────────────────┘
//! ```
//!
//! What is held of a kept partition is right, whoever owns it by now: it is a prefix of the log, and says through which offset.
//! As soon as there is an owner of a higher epoch, that one's state counts. What was read goes on being landed, as far as
//! the recorded epoch allows (ARCHITECTURE.md, rule 7).

use std::sync::Arc;

use anabranch_log::Error as LogError;
use anabranch_model::{ErrorKind, PartitionId};

use super::{Ending, LogSpout, Reading, unless_revoked};
use crate::Error;
use crate::ownership;
use crate::source::now_rfc3339;

impl LogSpout {
    /// A partition that was lost, and is still served.
    pub(super) fn kept(&mut self, partition: PartitionId) -> Option<&mut Reading> {
        let kept = |reading: &&mut Reading| reading.ending == Some(Ending::Keep) && reading.state.is_live();
        self.reading.get_mut(&partition).filter(kept)
    }

    /// Looks in the background whether a lost partition that has come back can be read on.
    pub(super) fn ask_to_read_on(&mut self, partition: PartitionId, epoch: i64) {
        let wanted = self.wait_for(partition);
        let look = ownership::read_on(Arc::clone(&self.layer), wanted, epoch, self.answers.clone());
        self.layer.spawn(look);
    }

    /// Reads a partition that was lost on from where it was left.
    pub(super) fn read_on(&mut self, partition: PartitionId) -> Result<(), Error> {
        let Some((next, epoch)) = self.kept(partition).map(|kept| (kept.next, kept.state.epoch)) else {
            // Its state has ended meanwhile.
            self.forget(partition);
            self.claim(vec![partition]);
            return Ok(());
        };
        match self.subscription.start(partition, next) {
            Ok(()) => {}
            // It stays as it is: the event that says so is still to come.
            Err(LogError::NotAssigned { .. }) => return Ok(()),
            // Retention has passed it meanwhile: once what was read of it is landed, what is recorded and what is held is
            // looked at.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                tracing::warn!(table = self.layer.name(), %partition, %error, "a partition could not be read on");
                if let Some(kept) = self.kept(partition) {
                    kept.ending = Some(Ending::Look);
                    kept.state.set_lost(None);
                    if kept.pending == 0 {
                        self.end(partition, Ending::Look);
                    }
                }
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::warn!(table = self.layer.name(), %partition, %error, "a partition could not be read on");
                self.ask_to_read_on(partition, epoch);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        if self.paused {
            unless_revoked(self.subscription.pause(partition))?;
        }
        tracing::info!(table = self.layer.name(), %partition, epoch, %next, "reading on what was lost for a while");
        if let Some(kept) = self.kept(partition) {
            kept.ending = None;
            kept.state.set_lost(None);
        }
        Ok(())
    }

    /// Keeps a lost partition served, as long as nobody else has claimed it.
    pub(super) fn keep(&mut self, partition: PartitionId) {
        let since = now_rfc3339(self.layer.environment());
        if let Some(reading) = self.reading.get_mut(&partition) {
            reading.ending = Some(Ending::Keep);
            reading.state.set_lost(Some(since));
        }
    }

    /// Forgets lost partitions whose state has ended: somebody else has claimed them.
    pub(super) fn forget_claimed(&mut self) {
        let ended = |reading: &Reading| reading.ending == Some(Ending::Keep) && !reading.state.is_live();
        self.reading.retain(|_, reading| !ended(reading));
    }
}
