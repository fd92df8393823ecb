//! All tokens of a site, as the object store has them.
//!
//! ```text
//! access/tokens/<id>.json    a token's record; written once, never changed
//! access/revoked/<id>.json   says that the token, or the session, counts no more, since when and through whom
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anabranch_dataset::{Environment, Store};
use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::{Denied, Error};
use crate::limit::Limiter;
use crate::token::{NewToken, TokenRecord, id_of};

const TOKENS: &str = "access/tokens";
/// Objects read at once: at the start, all tokens that there are.
const READS: usize = 16;
const REVOKED: &str = "access/revoked";
/// A token that is not known makes us look again, so often per second on average and at once: strangers can name any token.
const LOOKS_PER_SECOND: f64 = 1.0;
const LOOKS_AT_ONCE: f64 = 10.0;
/// Clocks differ: a session that has ended by itself is remembered as revoked for so long.
const SPENT: chrono::Duration = chrono::Duration::hours(1);

/// That a token, or a session, counts no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    pub at: DateTime<Utc>,
    pub by: String,
    /// When a session would have ended by itself: after that there is nothing left to revoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

/// A token as a list shows it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub record: Arc<TokenRecord>,
    pub revoked: Option<Revocation>,
}

#[derive(Debug, Default, PartialEq)]
struct Known {
    tokens: HashMap<String, Arc<TokenRecord>>,
    revoked: HashMap<String, Revocation>,
}

/// The tokens of a site. Remembers what it has read, and goes on with that while the store does not answer.
#[derive(Debug)]
pub struct Tokens {
    store: Store,
    known: ArcSwap<Known>,
    looks: Limiter<()>,
    refreshing: tokio::sync::Mutex<()>,
    /// Told whenever something else is known than before.
    changes: watch::Sender<()>,
}

impl Tokens {
    /// Knows no token before the first [`refresh`](Self::refresh).
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            known: ArcSwap::default(),
            looks: Limiter::new(LOOKS_PER_SECOND, LOOKS_AT_ONCE),
            refreshing: tokio::sync::Mutex::default(),
            changes: watch::Sender::default(),
        }
    }

    /// Reads what is new: tokens, and revocations.
    ///
    /// # Errors
    /// When the store does not answer; what was known stays.
    pub async fn refresh(&self) -> Result<(), Error> {
        let _refreshing = self.refreshing.lock().await;
        let known = self.known.load_full();
        let (tokens, revoked) = tokio::try_join!(
            self.read_all(TOKENS, |id| known.tokens.get(id).cloned()),
            self.read_all(REVOKED, |id| known.revoked.get(id).cloned()),
        )?;
        let now = Known { tokens, revoked };
        if now != *known {
            self.remove_spent(&now).await;
            self.known.store(Arc::new(now));
            self.changes.send_replace(());
        }
        Ok(())
    }

    /// Removes what says that sessions count no more that have expired since.
    async fn remove_spent(&self, known: &Known) {
        let spent = |revocation: &Revocation| revocation.until.is_some_and(|until| until + SPENT < self.now());
        for (id, _) in known.revoked.iter().filter(|(_, revocation)| spent(revocation)) {
            let path = Path::from(format!("{REVOKED}/{id}.json"));
            if let Err(error) = self.store.remove(path).await {
                tracing::debug!(%error, "an old revocation stays for now");
            }
        }
    }

    /// Hears of whatever may have changed who counts.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(crate) fn environment(&self) -> &Environment {
        self.store.environment()
    }

    pub(crate) fn is_revoked(&self, id: &str) -> bool {
        self.known.load().revoked.contains_key(id)
    }

    /// Ends a session of this id, in all services.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn end_session(&self, id: &str, by: &str, until: DateTime<Utc>) -> Result<(), Error> {
        let revocation = Revocation {
            at: self.now(),
            by: by.to_owned(),
            until: Some(until),
        };
        self.write_revocation(id, &revocation).await?;
        self.refresh().await
    }

    async fn write_revocation(&self, id: &str, revocation: &Revocation) -> Result<(), Error> {
        let path = Path::from(format!("{REVOKED}/{id}.json"));
        let bytes = serde_json::to_vec(revocation).expect("a revocation is plain data");
        // Revoked before, by somebody else: so it is revoked.
        self.store.create(&path, bytes.into()).await?;
        Ok(())
    }

    /// Every object below `folder`, by the name of its file; those that are known already are not read again.
    async fn read_all<T: for<'de> Deserialize<'de>>(
        &self,
        folder: &str,
        known: impl Fn(&str) -> Option<T>,
    ) -> Result<HashMap<String, T>, Error> {
        let listed = self.store.list(&Path::from(folder)).await?;
        let mut found = HashMap::with_capacity(listed.len());
        let mut new = Vec::new();
        for object in listed {
            let Some(id) = object.location.filename().and_then(|name| name.strip_suffix(".json")) else {
                continue;
            };
            match known(id) {
                Some(known) => drop(found.insert(id.to_owned(), known)),
                None => new.push((id.to_owned(), object.location)),
            }
        }
        let mut reads = stream::iter(new)
            .map(|(id, path)| async move { Ok::<_, Error>((id, self.store.read(&path).await?, path)) })
            .buffer_unordered(READS);
        while let Some((id, bytes, path)) = reads.try_next().await? {
            // Gone since it was listed: as good as never there.
            let Some(bytes) = bytes else { continue };
            match serde_json::from_slice(&bytes) {
                Ok(value) => drop(found.insert(id, value)),
                Err(error) => tracing::error!(%path, %error, "this object of access control cannot be read"),
            }
        }
        Ok(found)
    }

    /// Makes a token and writes its record. Returns the record and the token's text, which is kept nowhere.
    ///
    /// # Errors
    /// When the name is another living token's, or the store does not answer.
    pub async fn create(&self, new: NewToken) -> Result<(TokenRecord, String), Error> {
        self.refresh().await?;
        if let Some(name) = &new.name
            && self.by_name(name).is_some()
        {
            return Err(Error::NameTaken { name: name.clone() });
        }
        let (record, text) = TokenRecord::create(new, self.now())?;
        let path = Path::from(format!("{TOKENS}/{}.json", record.id));
        let bytes = serde_json::to_vec(&record).expect("a token record is plain data");
        if !self.store.create(&path, bytes.into()).await? {
            return Err(Error::IdTaken { id: record.id });
        }
        self.refresh().await?;
        Ok((record, text))
    }

    /// Revokes a token, by its id or its name.
    ///
    /// # Errors
    /// When there is none that counts, or the store does not answer.
    pub async fn revoke(&self, which: &str, by: &str) -> Result<Arc<TokenRecord>, Error> {
        self.refresh().await?;
        let known = self.known.load_full();
        let found = self.by_name(which).or_else(|| known.tokens.get(which).cloned());
        let record = found.ok_or_else(|| Error::NoToken {
            which: which.to_owned(),
        })?;
        let revocation = Revocation {
            at: self.now(),
            by: by.to_owned(),
            until: None,
        };
        self.write_revocation(&record.id, &revocation).await?;
        self.refresh().await?;
        Ok(record)
    }

    /// All tokens, the oldest first.
    pub fn list(&self) -> Vec<Listed> {
        let known = self.known.load();
        let by_age: BTreeMap<_, _> = known
            .tokens
            .values()
            .map(|record| ((record.created_at, &record.id), record))
            .collect();
        by_age
            .into_values()
            .map(|record| Listed {
                record: Arc::clone(record),
                revoked: known.revoked.get(&record.id).cloned(),
            })
            .collect()
    }

    /// Who bears this token.
    ///
    /// # Errors
    /// When it is none of ours, or counts no more.
    pub(crate) async fn authenticate(&self, text: &str) -> Result<Arc<TokenRecord>, Denied> {
        let id = id_of(text).ok_or(Denied::Unknown)?;
        let known = self.known.load().tokens.get(id).cloned();
        let record = match known {
            Some(record) => record,
            // It may have been made a moment ago.
            None => {
                self.look_again().await?;
                self.known.load().tokens.get(id).cloned().ok_or(Denied::Unknown)?
            }
        };
        if !record.is(text) {
            return Err(Denied::Unknown);
        }
        self.counts(&record)?;
        Ok(record)
    }

    /// The token of this id, if it still counts.
    pub(crate) fn living(&self, id: &str) -> Result<Arc<TokenRecord>, Denied> {
        let record = self.known.load().tokens.get(id).cloned().ok_or(Denied::Unknown)?;
        self.counts(&record)?;
        Ok(record)
    }

    /// The living token of this name or id; of several of one name, the oldest.
    pub(crate) fn of_user(&self, user: &str) -> Option<Arc<TokenRecord>> {
        self.by_name(user).or_else(|| self.living(user).ok())
    }

    fn by_name(&self, name: &str) -> Option<Arc<TokenRecord>> {
        let known = self.known.load();
        let named = known.tokens.values().filter(|record| record.name == name);
        named
            .filter(|record| self.counts(record).is_ok())
            .min_by_key(|record| (record.created_at, record.id.clone()))
            .cloned()
    }

    fn counts(&self, record: &TokenRecord) -> Result<(), Denied> {
        if self.is_revoked(&record.id) {
            return Err(Denied::Revoked);
        }
        if record.has_expired(self.now()) {
            return Err(Denied::Expired);
        }
        Ok(())
    }

    async fn look_again(&self) -> Result<(), Denied> {
        if self.looks.take(&(), self.store.environment().instant()).is_err() {
            // The next look of all is seconds away.
            return Ok(());
        }
        self.refresh().await.map_err(|error| Denied::Unavailable {
            reason: error.to_string(),
        })
    }

    fn now(&self) -> DateTime<Utc> {
        self.store.environment().now()
    }
}

#[cfg(test)]
mod tests;
