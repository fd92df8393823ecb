//! What holds for one connection: who asks, and its settings.

mod known;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::Principal;
use anabranch_front::Demand;

use self::known::{Change, KNOWN, Known, is_default};
use self::value::{duration, offsets};
use crate::PgError;

/// What clients are told that this server is: they choose by it which catalog queries they send.
pub(crate) const SERVER_VERSION_NUMBER: &str = "160006";
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);
/// Savepoints of one transaction.
const MAX_SAVEPOINTS: usize = 1_000;

pub(crate) fn server_version() -> String {
    format!("16.6 (Anabranch {})", env!("CARGO_PKG_VERSION"))
}

/// Settings of a connection, and how they change in and with a transaction. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) principal: Principal,
    user: Arc<str>,
    now: Arc<Settings>,
    /// What RESET goes back to: the settings that came with the connection.
    began_with: Arc<Settings>,
    block: Option<Block>,
}

/// What is put back when a transaction ends.
#[derive(Clone, Debug)]
struct Block {
    /// After ROLLBACK: as if nothing had been set.
    before: Arc<Settings>,
    /// After COMMIT: without what was set for the transaction alone.
    kept: Arc<Settings>,
    savepoints: Vec<Savepoint>,
}

/// What ROLLBACK TO goes back to.
#[derive(Clone, Debug)]
struct Savepoint {
    name: String,
    now: Arc<Settings>,
    kept: Arc<Settings>,
    /// Savepoints of this name with nothing set between them: drivers make one before each statement.
    times: u64,
}

/// How long a setting lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// As long as the connection, unless its transaction is rolled back.
    Session,
    /// To the end of the transaction.
    Transaction,
}

/// What was set, and what follows from it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Settings {
    /// By names in lower case.
    set: BTreeMap<String, String>,
    demand: Demand,
    /// `None`: as long as the query engine allows.
    statement_timeout: Option<Duration>,
}

/// What follows from a setting that was changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// To be told to the client: name and value.
    pub(crate) report: Option<(&'static str, String)>,
    pub(crate) warning: Option<PgError>,
}

impl Session {
    pub(crate) fn new(principal: Principal, user: &str) -> Self {
        Self {
            principal,
            user: user.into(),
            now: Arc::default(),
            began_with: Arc::default(),
            block: None,
        }
    }

    /// Settings that came with the connection: they are what RESET goes back to.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub(crate) fn begin_with(&mut self, settings: &[(String, String)]) -> Result<(), PgError> {
        for (name, value) in settings {
            Arc::make_mut(&mut self.now).set(name, Some(value))?;
        }
        self.began_with = Arc::clone(&self.now);
        Ok(())
    }

    pub(crate) fn demand(&self) -> &Demand {
        &self.now.demand
    }

    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        self.now.statement_timeout
    }

    /// A transaction begins, unless one is open.
    pub(crate) fn begin(&mut self) {
        self.block.get_or_insert_with(|| Block {
            before: Arc::clone(&self.now),
            kept: Arc::clone(&self.now),
            savepoints: Vec::new(),
        });
    }

    /// The transaction ends, if one is open; returns the settings that clients are told because they changed by that.
    pub(crate) fn end(&mut self, committed: bool) -> Vec<(&'static str, String)> {
        let Some(Block { before, kept, .. }) = self.block.take() else {
            return Vec::new();
        };
        self.put_back(if committed { kept } else { before })
    }

    /// Whether a transaction is open, be it that of a script.
    pub(crate) fn is_in_block(&self) -> bool {
        self.block.is_some()
    }

    /// Remembers the settings under a name.
    ///
    /// # Errors
    /// 25P01 outside of a transaction, 53400 for too many.
    pub(crate) fn save(&mut self, name: &str) -> Result<(), PgError> {
        let block = self.block.as_mut().ok_or_else(|| outside("SAVEPOINT"))?;
        if let Some(last) = block.savepoints.last_mut()
            && last.name == name
            && Arc::ptr_eq(&last.now, &self.now)
            && Arc::ptr_eq(&last.kept, &block.kept)
        {
            last.times += 1;
            return Ok(());
        }
        if block.savepoints.len() >= MAX_SAVEPOINTS {
            let error = PgError::new(
                "53400",
                format!("a transaction cannot have more than {MAX_SAVEPOINTS} savepoints"),
            );
            return Err(error.with_hint("release some"));
        }
        block.savepoints.push(Savepoint {
            name: name.to_owned(),
            now: Arc::clone(&self.now),
            kept: Arc::clone(&block.kept),
            times: 1,
        });
        Ok(())
    }

    /// Forgets a savepoint and those after it; what was set stays.
    ///
    /// # Errors
    /// 25P01 outside of a transaction, 3B001 for a name that is none.
    pub(crate) fn release(&mut self, name: &str) -> Result<(), PgError> {
        let block = self.block.as_mut().ok_or_else(|| outside("RELEASE SAVEPOINT"))?;
        let at = block.find(name)?;
        block.savepoints.truncate(at + 1);
        block.savepoints[at].times -= 1;
        if block.savepoints[at].times == 0 {
            block.savepoints.pop();
        }
        Ok(())
    }

    /// Goes back to a savepoint, which stays; returns the settings that clients are told because they changed by that.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub(crate) fn roll_back_to(&mut self, name: &str) -> Result<Vec<(&'static str, String)>, PgError> {
        let block = self.block.as_mut().ok_or_else(|| outside("ROLLBACK TO SAVEPOINT"))?;
        let at = block.find(name)?;
        block.savepoints.truncate(at + 1);
        let Savepoint { now, kept, .. } = &block.savepoints[at];
        block.kept = Arc::clone(kept);
        let now = Arc::clone(now);
        Ok(self.put_back(now))
    }

    /// Returns what clients are told because it is otherwise than before.
    fn put_back(&mut self, settings: Arc<Settings>) -> Vec<(&'static str, String)> {
        let ended = std::mem::replace(&mut self.now, settings);
        let reported = KNOWN.iter().filter(|known| known.reported);
        reported
            .map(|known| (known.name, ended.value_of(known), self.now.value_of(known)))
            .filter(|(_, ended, now)| ended != now)
            .map(|(name, _, now)| (name, now))
            .collect()
    }

    /// Changes a setting; `None` sets it back to what the connection began with.
    ///
    /// # Errors
    /// 42704 for a setting that is not known, 22023 for a value it cannot have, 55P02 for one that cannot be changed.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>, lasting: Lasting) -> Result<Changed, PgError> {
        let began_with = Arc::clone(&self.began_with);
        let value = value.or_else(|| began_with.set.get(&name.to_ascii_lowercase()).map(String::as_str));
        match (&mut self.block, lasting) {
            (None, Lasting::Transaction) => {
                // Refused if it cannot be; else without effect, as its transaction is this statement.
                Settings::clone(&self.now).set(name, value)?;
                let warning = PgError::new("25P01", "SET LOCAL can only be used in transaction blocks");
                return Ok(Changed {
                    report: None,
                    warning: Some(warning),
                });
            }
            (Some(block), Lasting::Session) => {
                Arc::make_mut(&mut block.kept).set(name, value)?;
            }
            (Some(_), Lasting::Transaction) | (None, Lasting::Session) => {}
        }
        Arc::make_mut(&mut self.now).set(name, value)
    }

    /// Sets everything back to what the connection began with.
    pub(crate) fn reset(&mut self) {
        self.now = Arc::clone(&self.began_with);
        if let Some(block) = &mut self.block {
            block.kept = Arc::clone(&self.began_with);
        }
    }

    /// All that clients are told when a connection begins.
    pub(crate) fn reported(&self) -> Vec<(&'static str, String)> {
        let mut reported: Vec<_> = KNOWN
            .iter()
            .filter(|known| known.reported)
            .map(|known| (known.name, self.now.value_of(known)))
            .collect();
        reported.push(("server_version", server_version()));
        reported.push(("session_authorization", self.user.to_string()));
        reported
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// 42704 for one that is not known.
    pub(crate) fn show(&self, name: &str) -> Result<String, PgError> {
        match name.to_ascii_lowercase().as_str() {
            "session_authorization" | "role" => Ok(self.user.to_string()),
            key => self.now.show(key).ok_or_else(|| unknown(name)),
        }
    }

    /// All settings and their values, by name.
    pub(crate) fn all(&self) -> BTreeMap<String, String> {
        self.now.all()
    }

    /// All settings: name, value, and what RESET makes of it.
    pub(crate) fn settings(&self) -> Vec<(String, String, String)> {
        let began_with = &self.began_with;
        let settings = self.now.all().into_iter().map(|(name, value)| {
            let reset = began_with.show(&name.to_ascii_lowercase()).unwrap_or_default();
            (name, value, reset)
        });
        settings.collect()
    }
}

impl Block {
    /// The newest savepoint of this name.
    fn find(&self, name: &str) -> Result<usize, PgError> {
        let found = self.savepoints.iter().rposition(|savepoint| savepoint.name == name);
        found.ok_or_else(|| PgError::new("3B001", format!("savepoint \"{name}\" does not exist")))
    }
}

fn outside(command: &str) -> PgError {
    PgError::new("25P01", format!("{command} can only be used in transaction blocks"))
}

/// Settings that follow other rules than those of [`KNOWN`].
const OWN: [&str; 5] = [
    "anabranch.at_least",
    "anabranch.require",
    "anabranch.timeout",
    "server_version",
    "statement_timeout",
];

impl Settings {
    fn all(&self) -> BTreeMap<String, String> {
        let known = KNOWN.iter().map(|known| (known.name.to_owned(), self.value_of(known)));
        let own = OWN
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.show(name)?)));
        let others = self.set.iter().filter(|(name, _)| name.contains('.'));
        let others = others.map(|(name, value)| (name.clone(), value.clone()));
        others.chain(known).chain(own).collect()
    }

    /// Changes a setting; `None` sets it to its default. Nothing has changed after an error.
    fn set(&mut self, name: &str, value: Option<&str>) -> Result<Changed, PgError> {
        let key = name.to_ascii_lowercase();
        match key.as_str() {
            "anabranch.require" => {
                self.demand.exact = match value.map(str::trim) {
                    None | Some("" | "none" | "off") => false,
                    Some("exact" | "on") => true,
                    Some(other) => return Err(bad_value(name, other, "the only demand is 'exact'; '' takes it back")),
                };
            }
            "anabranch.at_least" => self.demand.at_least = offsets(name, value.unwrap_or_default())?,
            "anabranch.timeout" => {
                self.demand.patience = match value {
                    None => Demand::default().patience,
                    Some(value) => duration(name, value)?.unwrap_or_default().min(LONGEST_PATIENCE),
                };
            }
            "statement_timeout" => {
                self.statement_timeout = value.map(|value| duration(name, value)).transpose()?.flatten();
            }
            other if other.starts_with("anabranch.") => {
                return Err(unknown(name).with_hint(
                    "there are anabranch.require ('exact'), anabranch.at_least ('topic/partition=offset, …') and \
                     anabranch.timeout ('5s')",
                ));
            }
            _ => return self.set_known(&key, name, value),
        }
        match value {
            Some(value) => self.set.insert(key, value.to_owned()),
            None => self.set.remove(&key),
        };
        Ok(Changed::default())
    }

    fn set_known(&mut self, key: &str, name: &str, value: Option<&str>) -> Result<Changed, PgError> {
        let Some(known) = KNOWN.iter().find(|known| known.name.eq_ignore_ascii_case(key)) else {
            // Settings with a dot are other programs' own, and anybody may have them.
            if !key.contains('.') {
                return Err(unknown(name));
            }
            match value {
                Some(value) => self.set.insert(key.to_owned(), value.to_owned()),
                None => self.set.remove(key),
            };
            return Ok(Changed::default());
        };
        let mut changed = Changed::default();
        match (known.change, value) {
            (Change::Never, Some(value)) if value != known.default => {
                return Err(PgError::new(
                    "55P02",
                    format!("parameter \"{}\" cannot be changed", known.name),
                ));
            }
            (Change::Only(allowed), Some(value)) if !allowed(value) => {
                return Err(bad_value(known.name, value, &format!("it is always {}", known.default)));
            }
            (Change::Ignored, Some(value)) if !is_default(known, value) => {
                changed.warning = Some(PgError::new("01000", format!("{} stays {}", known.name, known.default)));
            }
            (Change::Any, Some(value)) => {
                self.set.insert(key.to_owned(), value.to_owned());
            }
            (Change::Any, None) => {
                self.set.remove(key);
            }
            _ => {}
        }
        changed.report = known.reported.then(|| (known.name, self.value_of(known)));
        Ok(changed)
    }

    /// The value of a setting by its name in lower case, if it is known.
    fn show(&self, key: &str) -> Option<String> {
        let of = |default: &str| Some(self.set.get(key).cloned().unwrap_or_else(|| default.to_owned()));
        match key {
            "server_version" => Some(server_version()),
            "statement_timeout" => of("0"),
            "anabranch.require" | "anabranch.at_least" => of(""),
            "anabranch.timeout" => Some(format!("{}ms", self.demand.patience.as_millis())),
            _ => match KNOWN.iter().find(|known| known.name.eq_ignore_ascii_case(key)) {
                Some(known) => Some(self.value_of(known)),
                None => self.set.get(key).cloned(),
            },
        }
    }

    fn value_of(&self, known: &Known) -> String {
        let set = self.set.get(&known.name.to_ascii_lowercase());
        set.cloned().unwrap_or_else(|| known.default.to_owned())
    }
}

fn unknown(name: &str) -> PgError {
    PgError::new("42704", format!("unrecognized configuration parameter \"{name}\""))
}

fn bad_value(name: &str, value: &str, hint: &str) -> PgError {
    PgError::new("22023", format!("invalid value for parameter \"{name}\": \"{value}\"")).with_hint(hint)
}

#[cfg(test)]
mod tests;
