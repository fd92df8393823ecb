//! What holds for one connection: who asks, and its settings.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_access::Principal;
use anabranch_front::Demand;
use anabranch_model::TopicOffsets;

use crate::PgError;

/// What clients are told that this server is: they choose by it which catalog queries they send.
pub(crate) const SERVER_VERSION_NUMBER: &str = "160006";
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn server_version() -> String {
    format!("16.6 (Anabranch {})", env!("CARGO_PKG_VERSION"))
}

/// A setting that PostgreSQL has and clients ask for: its name, its value at first, and what can be done with it.
struct Known {
    name: &'static str,
    default: &'static str,
    change: Change,
    /// Whether clients are told its value when a connection begins, and when it changes.
    reported: bool,
}

#[derive(Clone, Copy)]
enum Change {
    /// Taken and told again; nothing follows from it.
    Any,
    /// Other values are refused.
    Only(fn(&str) -> bool),
    /// Other values are taken, with a warning that they change nothing.
    Ignored,
    Never,
}

const fn known(name: &'static str, default: &'static str, change: Change, reported: bool) -> Known {
    Known {
        name,
        default,
        change,
        reported,
    }
}

const KNOWN: [Known; 37] = [
    known("application_name", "", Change::Any, true),
    known("bytea_output", "hex", Change::Only(|value| value == "hex"), false),
    known("client_encoding", "UTF8", Change::Only(is_utf8), true),
    known("client_min_messages", "notice", Change::Any, false),
    known(
        "DateStyle",
        "ISO, MDY",
        Change::Only(|value| value.to_ascii_uppercase().starts_with("ISO")),
        true,
    ),
    known("default_table_access_method", "heap", Change::Any, false),
    known("default_text_search_config", "pg_catalog.simple", Change::Any, false),
    known("default_transaction_isolation", "read committed", Change::Any, false),
    known("default_transaction_read_only", "on", Change::Ignored, true),
    known("enable_seqscan", "on", Change::Any, false),
    known("escape_string_warning", "on", Change::Any, false),
    known("extra_float_digits", "1", Change::Any, false),
    known("geqo", "on", Change::Any, false),
    known("idle_in_transaction_session_timeout", "0", Change::Any, false),
    known("idle_session_timeout", "0", Change::Any, false),
    known("in_hot_standby", "off", Change::Never, true),
    known("integer_datetimes", "on", Change::Never, true),
    known(
        "IntervalStyle",
        "postgres",
        Change::Only(|value| value.eq_ignore_ascii_case("postgres")),
        true,
    ),
    known("is_superuser", "off", Change::Never, true),
    known("jit", "off", Change::Any, false),
    known("lc_collate", "C", Change::Never, false),
    known("lc_ctype", "C", Change::Never, false),
    known("lc_messages", "C", Change::Any, false),
    known("lock_timeout", "0", Change::Any, false),
    known("max_identifier_length", "63", Change::Never, false),
    known("max_index_keys", "32", Change::Never, false),
    known("row_security", "on", Change::Any, false),
    known("search_path", "\"$user\", public", Change::Any, false),
    known("server_encoding", "UTF8", Change::Never, true),
    known("server_version_num", SERVER_VERSION_NUMBER, Change::Never, false),
    known(
        "standard_conforming_strings",
        "on",
        Change::Only(|value| matches!(value, "on" | "true" | "1")),
        true,
    ),
    known("synchronize_seqscans", "on", Change::Any, false),
    known("TimeZone", "UTC", Change::Ignored, true),
    known("transaction_isolation", "read committed", Change::Any, false),
    known("transaction_read_only", "on", Change::Ignored, false),
    known("wal_level", "replica", Change::Never, false),
    known("work_mem", "4MB", Change::Any, false),
];

fn is_utf8(value: &str) -> bool {
    matches!(
        value.trim_matches('\'').to_ascii_uppercase().as_str(),
        "UTF8" | "UTF-8" | "UNICODE" | "SQL_ASCII" | "AUTO"
    )
}

/// Settings of a connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) principal: Principal,
    user: String,
    /// What was set, by its name in lower case.
    set: BTreeMap<String, String>,
    demand: Demand,
    /// `None`: as long as the query engine allows.
    statement_timeout: Option<Duration>,
    defaults: Vec<(String, String)>,
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
            user: user.to_owned(),
            set: BTreeMap::new(),
            demand: Demand::default(),
            statement_timeout: None,
            defaults: Vec::new(),
        }
    }

    /// Settings that came with the connection: they are what RESET goes back to.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub(crate) fn begin_with(&mut self, settings: &[(String, String)]) -> Result<(), PgError> {
        for (name, value) in settings {
            self.set(name, Some(value))?;
        }
        self.defaults = settings.to_vec();
        Ok(())
    }

    pub(crate) fn demand(&self) -> &Demand {
        &self.demand
    }

    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        self.statement_timeout
    }

    /// All that clients are told when a connection begins.
    pub(crate) fn reported(&self) -> Vec<(&'static str, String)> {
        let mut reported: Vec<_> = KNOWN
            .iter()
            .filter(|known| known.reported)
            .map(|known| (known.name, self.value_of(known)))
            .collect();
        reported.push(("server_version", server_version()));
        reported.push(("session_authorization", self.user.clone()));
        reported
    }

    /// Changes a setting; `None` sets it back.
    ///
    /// # Errors
    /// 42704 for a setting that is not known, 22023 for a value it cannot have, 55P02 for one that cannot be changed.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> Result<Changed, PgError> {
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

    /// Sets everything back to what the connection began with.
    pub(crate) fn reset(&mut self) {
        let defaults = std::mem::take(&mut self.defaults);
        *self = Self::new(self.principal.clone(), &self.user);
        self.begin_with(&defaults).expect("these settings were taken before");
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// 42704 for one that is not known.
    pub(crate) fn show(&self, name: &str) -> Result<String, PgError> {
        let key = name.to_ascii_lowercase();
        match key.as_str() {
            "server_version" => return Ok(server_version()),
            "session_authorization" | "role" => return Ok(self.user.clone()),
            "statement_timeout" | "anabranch.require" | "anabranch.at_least" => {
                let default = if key == "statement_timeout" { "0" } else { "" };
                return Ok(self.set.get(&key).cloned().unwrap_or_else(|| default.to_owned()));
            }
            "anabranch.timeout" => return Ok(format!("{}ms", self.demand.patience.as_millis())),
            _ => {}
        }
        if let Some(known) = KNOWN.iter().find(|known| known.name.eq_ignore_ascii_case(&key)) {
            return Ok(self.value_of(known));
        }
        self.set.get(&key).cloned().ok_or_else(|| unknown(name))
    }

    /// All settings and their values, by name.
    pub(crate) fn all(&self) -> BTreeMap<String, String> {
        let known = KNOWN.iter().map(|known| (known.name.to_owned(), self.value_of(known)));
        let mut all: BTreeMap<String, String> = known.collect();
        for name in [
            "anabranch.at_least",
            "anabranch.require",
            "anabranch.timeout",
            "server_version",
            "statement_timeout",
        ] {
            all.insert(name.to_owned(), self.show(name).expect("these settings are known"));
        }
        all.extend(
            self.set
                .iter()
                .filter(|(name, _)| name.contains('.'))
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        all
    }

    fn value_of(&self, known: &Known) -> String {
        let set = self.set.get(&known.name.to_ascii_lowercase());
        set.cloned().unwrap_or_else(|| known.default.to_owned())
    }
}

/// The settings that every connection begins with: names and values, for `pg_settings`.
pub(crate) fn defaults() -> impl Iterator<Item = (&'static str, String)> {
    let known = KNOWN.iter().map(|known| (known.name, known.default.to_owned()));
    known.chain([
        ("server_version", server_version()),
        ("statement_timeout", "0".to_owned()),
    ])
}

fn is_default(known: &Known, value: &str) -> bool {
    match known.name {
        "TimeZone" => {
            let zone = value.trim_matches('\'').to_ascii_uppercase();
            matches!(
                zone.as_str(),
                "UTC" | "GMT" | "ETC/UTC" | "ZULU" | "Z" | "0" | "UCT" | "GMT+0" | "+00:00" | "ETC/GMT"
            )
        }
        _ => matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "1" | "yes"),
    }
}

fn unknown(name: &str) -> PgError {
    PgError::new("42704", format!("unrecognized configuration parameter \"{name}\""))
}

fn bad_value(name: &str, value: &str, hint: &str) -> PgError {
    PgError::new("22023", format!("invalid value for parameter \"{name}\": \"{value}\"")).with_hint(hint)
}

/// `wikipedia/0=1200, wikipedia/1=50`, or the same as JSON: the `through` of an ingest answer.
fn offsets(name: &str, text: &str) -> Result<TopicOffsets, PgError> {
    let bad = || {
        bad_value(
            name,
            text,
            "write topic/partition=offset, …, or the \"through\" of an ingest answer",
        )
    };
    let text_trimmed = text.trim();
    if text_trimmed.is_empty() {
        return Ok(TopicOffsets::default());
    }
    if text_trimmed.starts_with('{') {
        return serde_json::from_str(text_trimmed).map_err(|_| bad());
    }
    let pair = |pair: &str| {
        let (partition, offset) = pair.split_once('=')?;
        Some((partition.trim().to_owned(), offset.trim().parse().ok()?))
    };
    text_trimmed.split(',').map(|part| pair(part).ok_or_else(bad)).collect()
}

/// A number of milliseconds, or one with a unit; `None` for 0, which means no limit.
fn duration(name: &str, text: &str) -> Result<Option<Duration>, PgError> {
    let bad = || bad_value(name, text, "write milliseconds, or a number with us, ms, s, min or h");
    let text_trimmed = text.trim();
    let digits = text_trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text_trimmed.len());
    let (number, unit) = text_trimmed.split_at(digits);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let milliseconds = match unit.trim() {
        "" | "ms" => number,
        "us" => number / 1e3,
        "s" => number * 1e3,
        "min" => number * 60e3,
        "h" => number * 3600e3,
        _ => return Err(bad()),
    };
    let duration = Duration::try_from_secs_f64(milliseconds / 1e3).map_err(|_| bad())?;
    Ok((!duration.is_zero()).then_some(duration))
}

#[cfg(test)]
mod tests;
