use std::sync::Arc;

use anabranch_dataset::{DefinitionEntry, DefinitionLog, Store};

use crate::{Definitions, Error};

/// Entries before the newest that are kept compiled: how far back an old version of a view is looked for.
const HISTORY: u64 = 16;

/// Follows the definitions log for one service.
pub struct Follower {
    log: DefinitionLog,
    newest: Arc<Definitions>,
    /// Newest first.
    earlier: Vec<Arc<Definitions>>,
}

impl Follower {
    /// Follows on from what the service started with. Definitions that are in no log (number 0) are never followed.
    pub fn new(store: &Store, newest: Arc<Definitions>) -> Self {
        Self {
            log: DefinitionLog::new(store),
            newest,
            earlier: Vec::new(),
        }
    }

    pub fn newest(&self) -> &Arc<Definitions> {
        &self.newest
    }

    /// Definitions before the newest, newest first. Empty until [`Self::poll`] has looked.
    pub fn earlier(&self) -> &[Arc<Definitions>] {
        &self.earlier
    }

    /// Looks for newer definitions; says whether there are any.
    ///
    /// # Errors
    /// When the log cannot be read, or this version of Anabranch cannot compile what it says. What was known stays.
    pub async fn poll(&mut self) -> Result<bool, Error> {
        if self.newest.number == 0 {
            return Ok(false);
        }
        self.load_earlier().await?;
        let Some(entry) = self.log.newest().await? else {
            return Ok(false);
        };
        if entry.number <= self.newest.number {
            return Ok(false);
        }
        // Everything that can fail comes first: what fails is polled again and again.
        let next = compiled(&entry)?;
        let mut earlier = vec![Arc::clone(&self.newest)];
        // Entries in between were adopted by nobody here, but an older publication may still be of one of them.
        for number in self.newest.number + 1..entry.number {
            if let Some(between) = self.log.get(number).await?.and_then(|entry| compiled(&entry).ok()) {
                earlier.insert(0, Arc::new(between));
            }
        }
        self.earlier.splice(..0, earlier);
        self.earlier.truncate(HISTORY as usize);
        self.newest = Arc::new(next);
        tracing::info!(
            number = entry.number,
            by = entry.by,
            applied_at = entry.applied_at,
            "definitions were applied"
        );
        Ok(true)
    }

    async fn load_earlier(&mut self) -> Result<(), Error> {
        if !self.earlier.is_empty() || self.newest.number <= 1 {
            return Ok(());
        }
        let mut earlier = Vec::new();
        for number in (1..self.newest.number).rev().take(HISTORY as usize) {
            // A gap, or a text that this version cannot compile, ends what can be gone back to.
            let Some(Ok(definitions)) = self.log.get(number).await?.map(|entry| compiled(&entry)) else {
                break;
            };
            earlier.push(Arc::new(definitions));
        }
        self.earlier = earlier;
        Ok(())
    }
}

pub(crate) fn compiled(entry: &DefinitionEntry) -> Result<Definitions, Error> {
    Definitions::compile(entry.number, &entry.sql).map_err(|found| Error::Entry {
        number: entry.number,
        reason: found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    })
}

#[cfg(test)]
mod tests;
