//! Which of several batch services runs batch runs: the one that holds the newest term.
//!
//! A term is an object that is created once, `services/batch-leader/<20 digits>.json`, and never changed. Its holder leads as
//! long as its lease is alive; when that has expired, whoever creates the next term leads. A former leader that was only asleep
//! finds the newer term and steps down; should it publish before it looks, the publication log refuses it (ARCHITECTURE.md,
//! rule 12).

use std::collections::BTreeMap;

use anabranch_dataset::Store;
use anabranch_model::crash_point;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::Error;

/// One term of leadership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Term {
    /// Id of the holder's lease.
    pub(crate) holder: String,
    /// Names the holder's process: one that comes back under the same id is another.
    pub(crate) incarnation: String,
}

/// What this service is among its equals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Leader,
    /// The leader's address, if it is known.
    Follower(Option<String>),
}

/// What to do about the newest term.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Lead,
    Follow(String),
    /// Create this term.
    Claim(u64),
}

/// Decides, given the newest term, the leases that are alive (id → address), and who we are.
fn decide(newest: Option<&(u64, Term)>, alive: &BTreeMap<String, String>, me: &Term) -> Step {
    match newest {
        None => Step::Claim(1),
        Some((_, term)) if term.incarnation == me.incarnation => Step::Lead,
        // Our own former process: nobody knows better that it is gone.
        Some((number, term)) if term.holder == me.holder => Step::Claim(number + 1),
        Some((number, term)) => match alive.get(&term.holder) {
            Some(address) => Step::Follow(address.clone()),
            None => Step::Claim(number + 1),
        },
    }
}

/// This service's place.
pub(crate) struct Leadership {
    store: Store,
    me: Term,
    role: watch::Sender<Role>,
}

impl Leadership {
    /// A follower, until it [takes](Self::take) another role.
    pub(crate) fn new(store: &Store, lease_id: &str) -> Self {
        Self {
            store: store.clone(),
            me: Term {
                holder: lease_id.to_owned(),
                incarnation: store.environment().random_id().simple().to_string(),
            },
            role: watch::Sender::new(Role::Follower(None)),
        }
    }

    /// Leads without asking: where there is one service by construction.
    pub(crate) fn alone(store: &Store, lease_id: &str) -> Self {
        let leadership = Self::new(store, lease_id);
        leadership.role.send_replace(Role::Leader);
        leadership
    }

    pub(crate) fn role(&self) -> Role {
        self.role.borrow().clone()
    }

    pub(crate) fn is_leader(&self) -> bool {
        *self.role.borrow() == Role::Leader
    }

    /// Waits until this service does not lead.
    pub(crate) async fn lost(&self) {
        // An error would mean that the sender is gone, which is a part of `self`.
        let _ = self.role.subscribe().wait_for(|role| *role != Role::Leader).await;
    }

    /// What this service is by the newest term, which it claims if its holder is not among those `alive` (id → address).
    pub(crate) async fn look(&self, alive: &BTreeMap<String, String>) -> Result<Role, Error> {
        let newest = self.newest().await?;
        Ok(match decide(newest.as_ref(), alive, &self.me) {
            Step::Lead => Role::Leader,
            Step::Follow(address) => Role::Follower(Some(address)),
            // If another was faster, the next look tells who it is.
            Step::Claim(number) => match self.claim(number).await? {
                true => {
                    tracing::info!(term = number, "this service runs the batch runs from now on");
                    Role::Leader
                }
                false => Role::Follower(None),
            },
        })
    }

    /// Is this from now on.
    pub(crate) fn take(&self, role: Role) {
        metrics::gauge!("anabranch_batch_leader").set(f64::from(u8::from(role == Role::Leader)));
        let changed = self.role.send_if_modified(|known| {
            let changed = *known != role;
            known.clone_from(&role);
            changed
        });
        if changed && let Role::Follower(Some(address)) = &role {
            tracing::info!(leader = address, "another service runs the batch runs");
        }
    }

    async fn newest(&self) -> Result<Option<(u64, Term)>, Error> {
        let Some(number) = self.numbers().await?.last().copied() else {
            return Ok(None);
        };
        let path = path(number);
        let Some(bytes) = self.store.read(&path).await? else {
            return Ok(None);
        };
        // What cannot be read has no living holder.
        let term = serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(%path, %error, "not a term of leadership");
            Term {
                holder: String::new(),
                incarnation: String::new(),
            }
        });
        Ok(Some((number, term)))
    }

    async fn numbers(&self) -> Result<Vec<u64>, Error> {
        Ok(self.store.list_numbers(&folder()).await?)
    }

    /// Whether the term is ours now.
    async fn claim(&self, number: u64) -> Result<bool, Error> {
        let body = serde_json::to_vec_pretty(&self.me).expect("a term is plain data");
        crash_point!("leader.claim.before");
        let won = self.store.create(&path(number), body.into()).await?;
        crash_point!("leader.claim.after");
        if won {
            for old in self.numbers().await?.into_iter().filter(|old| old + 1 < number) {
                // Left over at worst: only the newest counts.
                let _ = self.store.remove(path(old)).await;
            }
        }
        Ok(won)
    }
}

fn folder() -> Path {
    Path::from("services").join("batch-leader")
}

fn path(number: u64) -> Path {
    folder().join(format!("{number:020}.json"))
}

#[cfg(test)]
mod tests;
