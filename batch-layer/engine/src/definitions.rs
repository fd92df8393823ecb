//! The definitions that runs compute, as of now.

use std::sync::Arc;

use anabranch_dataset::Store;
use anabranch_definitions::{Definitions, Follower};
use tokio::sync::{Mutex, watch};

use crate::Error;

/// Follows the definitions log.
pub(crate) struct Current {
    follower: Mutex<Follower>,
    newest: watch::Sender<Arc<Definitions>>,
}

impl Current {
    pub(crate) fn new(store: &Store, definitions: Arc<Definitions>) -> Self {
        Self {
            follower: Mutex::new(Follower::new(store, Arc::clone(&definitions))),
            newest: watch::Sender::new(definitions),
        }
    }

    /// As they were known when last looked.
    pub(crate) fn known(&self) -> Arc<Definitions> {
        Arc::clone(&self.newest.borrow())
    }

    /// Looks into the log first.
    ///
    /// # Errors
    /// When it cannot be read; a run that went by older definitions would publish what was replaced.
    pub(crate) async fn newest(&self) -> Result<Arc<Definitions>, Error> {
        let mut follower = self.follower.lock().await;
        if follower.poll().await? {
            self.newest.send_replace(Arc::clone(follower.newest()));
        }
        Ok(Arc::clone(follower.newest()))
    }
}
