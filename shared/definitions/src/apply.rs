//! Writing the definitions log: by command, and by a service that starts with a file of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_catalog::Catalog;
use anabranch_dataset::{DefinitionEntry, DefinitionLog, MasterDataset, Store, text_hash};
use anabranch_model::ErrorKind;

use crate::follow::compiled;
use crate::{Change, Definitions, Error, Landed};

/// How [`apply`] applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Say what would happen, and write nothing.
    pub dry_run: bool,
    /// Go back to a text that was applied before.
    pub force: bool,
}

/// What was applied.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Applied {
    /// The entry that runs now; with `dry_run`, the one that ran before.
    pub number: u64,
    /// Whether an entry was written.
    pub written: bool,
    pub change: Change,
}

/// What a service that starts runs.
#[derive(Clone)]
pub struct Settled {
    pub definitions: Arc<Definitions>,
    /// The number of the entry that its own file equals, where a newer one has replaced it: the file is stale.
    pub stale: Option<u64>,
}

/// Makes `sql` the newest definitions.
///
/// # Errors
/// `Invalid` when it does not compile or contradicts what is landed; `Conflict` when it was replaced before, without
/// `force`; whatever keeps the store from answering.
pub async fn apply(store: &Store, sql: &str, by: &str, options: Options) -> Result<Applied, Error> {
    let log = DefinitionLog::new(store);
    let mut new = Definitions::compile(0, sql).map_err(|found| Error::Invalid { found })?;
    loop {
        let newest = log.newest().await?;
        let based_on = newest.as_ref().map_or(0, |entry| entry.number);
        let change = Change::between(&former(newest.as_ref())?, &new, &landed(store, &new.catalog).await?);
        if change.refused() && !options.dry_run {
            return Err(Error::Refused { change });
        }
        let same = newest.as_ref().is_some_and(|newest| newest.hash == text_hash(sql));
        if options.dry_run || same {
            return Ok(Applied {
                number: based_on,
                written: false,
                change,
            });
        }
        if !options.force
            && let Some(earlier) = earlier_number(&log, sql, based_on).await?
        {
            return Err(Error::Stale {
                earlier,
                newest: based_on,
            });
        }
        match log.append(based_on, sql, by).await {
            Ok(entry) => {
                new.number = entry.number;
                return Ok(Applied {
                    number: entry.number,
                    written: true,
                    change,
                });
            }
            // Somebody was first; what they applied is what ours now changes.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a service that starts with `sql` as its file is to run: a text that was never seen is applied, any other file gives
/// way to the newest entry.
///
/// # Errors
/// As [`apply`], but a stale file is none.
pub async fn settle(store: &Store, sql: &str, by: &str) -> Result<Settled, Error> {
    let stale = match apply(store, sql, by, Options::default()).await {
        Ok(applied) => {
            if applied.written {
                tracing::info!(number = applied.number, "these definitions are new, and were applied");
            }
            None
        }
        Err(Error::Stale { earlier, newest }) => {
            tracing::warn!(
                earlier,
                newest,
                "this views.sql was replaced by a newer one: the newer one runs. Update the file, or go back to it with \
                 `anabranch views apply --force`"
            );
            Some(earlier)
        }
        // A file that is replaced already need not fit what was landed since.
        Err(refused @ Error::Refused { .. }) => {
            let log = DefinitionLog::new(store);
            let newest = log.newest().await?.map_or(0, |entry| entry.number);
            match earlier_number(&log, sql, newest).await? {
                Some(earlier) => Some(earlier),
                None => return Err(refused),
            }
        }
        Err(error) => return Err(error),
    };
    let newest = DefinitionLog::new(store).newest().await?;
    let definitions = former(newest.as_ref())?;
    Ok(Settled {
        definitions: Arc::new(definitions),
        stale,
    })
}

/// What runs so far.
fn former(newest: Option<&DefinitionEntry>) -> Result<Definitions, Error> {
    match newest {
        Some(entry) => compiled(entry),
        None => Ok(Definitions::fixed(Arc::default(), Arc::default())),
    }
}

/// The newest entry before `newest` with this text.
async fn earlier_number(log: &DefinitionLog, sql: &str, newest: u64) -> Result<Option<u64>, Error> {
    let hash = text_hash(sql);
    for number in (1..newest).rev() {
        if log.get(number).await?.is_some_and(|entry| entry.hash == hash) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// What was landed of each table of `catalog`.
async fn landed(store: &Store, catalog: &Catalog) -> Result<BTreeMap<String, Landed>, Error> {
    let mut landed = BTreeMap::new();
    for (name, source) in &catalog.sources {
        let Some(dataset) = MasterDataset::open_existing(store, source).await? else {
            continue;
        };
        let refusal = match dataset.check_columns(source) {
            Ok(()) => None,
            Err(error) if error.kind() == ErrorKind::Invalid => Some(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        landed.insert(
            name.clone(),
            Landed {
                columns: dataset.columns()?.as_ref().clone(),
                refusal,
                has_events: dataset.snapshot(None).await?.files.iter().any(|file| !file.dead),
            },
        );
    }
    Ok(landed)
}

#[cfg(test)]
mod tests;
