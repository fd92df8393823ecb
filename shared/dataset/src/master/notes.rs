//! What is known about the events of a table beside the events: which of them are excluded, lost or expired.
//!
//! Notes are table properties, so a Delta version names them as it names files and offsets: who reads a snapshot reads the
//! notes of the same moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_model::{OffsetRange, OffsetVector, PartitionId, RangeSet};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::commit::{Decision, Outcome, now_ms};
use super::log::{Commit, Mark, TableState};
use super::{Advance, LandOutcome, MasterDataset, refusal};
use crate::error::{Error, Result};

/// Table property: [`Notes::exclusions`].
const EXCLUSIONS: &str = "anabranch.exclusions";
/// Table property: [`Notes::gaps`].
const GAPS: &str = "anabranch.gaps";
/// Table property: [`Notes::since`].
const SINCE: &str = "anabranch.since";
/// More exclusions than this are refused: every reader of the log reads all of them.
const MAX_EXCLUSIONS: usize = 10_000;

/// What is excluded, lost or expired, at one version of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    /// By id, ascending.
    pub exclusions: Vec<Exclusion>,
    /// Positions that the log had lost before they were landed, and that an operator chose to go on without.
    pub gaps: BTreeMap<PartitionId, RangeSet>,
    /// Events before these offsets have expired.
    pub since: OffsetVector,
}

/// Events that an operator took out of every answer. They stay in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusion {
    /// The version of the table that recorded it.
    pub id: u64,
    pub partition: PartitionId,
    pub range: OffsetRange,
    pub reason: String,
    /// Who asked for it.
    pub by: String,
    /// When it was recorded, RFC 3339 in UTC.
    pub at: String,
}

impl Notes {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.exclusions.is_empty() && self.gaps.is_empty() && self.since.is_empty()
    }

    /// What is excluded, per partition.
    pub fn excluded(&self) -> BTreeMap<PartitionId, RangeSet> {
        let mut ranges: BTreeMap<PartitionId, Vec<OffsetRange>> = BTreeMap::new();
        for exclusion in &self.exclusions {
            ranges.entry(exclusion.partition).or_default().push(exclusion.range);
        }
        ranges
            .into_iter()
            .map(|(partition, ranges)| (partition, ranges.into_iter().collect()))
            .collect()
    }

    /// What is excluded of one partition.
    pub fn excluded_of(&self, partition: PartitionId) -> RangeSet {
        let of = self
            .exclusions
            .iter()
            .filter(|exclusion| exclusion.partition == partition);
        of.map(|exclusion| exclusion.range).collect()
    }

    /// # Errors
    /// What is wrong with the table properties.
    pub(super) fn read(configuration: &BTreeMap<String, String>) -> Result<Self, String> {
        fn property<T: Default + for<'de> Deserialize<'de>>(
            configuration: &BTreeMap<String, String>,
            key: &str,
        ) -> Result<T, String> {
            match configuration.get(key) {
                None => Ok(T::default()),
                Some(json) => serde_json::from_str(json)
                    .map_err(|error| format!("table property `{key}` cannot be read: {error}")),
            }
        }
        Ok(Self {
            exclusions: property(configuration, EXCLUSIONS)?,
            gaps: property(configuration, GAPS)?,
            since: property(configuration, SINCE)?,
        })
    }

    pub(super) fn write(&self, configuration: &mut BTreeMap<String, String>) {
        let properties = [
            (EXCLUSIONS, self.exclusions.is_empty(), json!(self.exclusions)),
            (GAPS, self.gaps.is_empty(), json!(self.gaps)),
            (SINCE, self.since.is_empty(), json!(self.since)),
        ];
        for (key, empty, value) in properties {
            if empty {
                configuration.remove(key);
            } else {
                configuration.insert(key.to_owned(), value.to_string());
            }
        }
    }

    /// Moves `since` forward; it never moves back.
    ///
    /// Returns whether that changed anything.
    pub(super) fn advance(&mut self, since: &OffsetVector) -> bool {
        let mut changed = false;
        for (partition, offset) in since.iter() {
            if self.since.get(partition).is_none_or(|known| known < offset) {
                self.since.set(partition, offset);
                changed = true;
            }
        }
        changed
    }
}

impl MasterDataset {
    /// The newest notes. Cheap when nothing was committed since somebody looked.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn notes(&self) -> Result<Arc<Notes>> {
        self.refresh().await?;
        Ok(self.known_notes())
    }

    /// The newest notes that this process has read, without I/O. The same notes are the same object.
    pub fn known_notes(&self) -> Arc<Notes> {
        self.with_state(|state| Arc::clone(&state.notes))
    }

    /// Takes events out of every later answer. They need not have been landed yet.
    ///
    /// # Errors
    /// `Invalid` when the range is empty or there are too many exclusions; `Unavailable` when it stays unclear whether the
    /// commit exists.
    pub async fn exclude(
        &self,
        partition: PartitionId,
        range: OffsetRange,
        reason: &str,
        by: &str,
    ) -> Result<Exclusion> {
        if partition.0 < 0 || range.start.0 < 0 || range.is_empty() {
            return Err(Error::Invalid(format!(
                "{range} of partition {partition} names no events: offsets run from 0, and A..B leaves out B"
            )));
        }
        let id = self.environment().ordered_id();
        let exclude = |state: &TableState| {
            let mut notes = Notes::clone(&state.notes);
            if notes.exclusions.len() >= MAX_EXCLUSIONS {
                return Ok(Decision::Stop(None));
            }
            let exclusion = Exclusion {
                id: state.version + 1,
                partition,
                range,
                reason: reason.to_owned(),
                by: by.to_owned(),
                at: rfc3339(now_ms(self.inner.store.environment())),
            };
            notes.exclusions.push(exclusion.clone());
            let parameters = json!({"partition": partition.to_string(), "offsets": range.to_string(), "by": by});
            let commit = commit(id, "EXCLUDE", parameters, vec![state.noted(&notes)?]);
            Ok(Decision::Commit(commit, Some(exclusion)))
        };
        let (Outcome::Committed { result, .. } | Outcome::Stopped(result)) = self.commit(id, exclude).await?;
        let exclusion = result.ok_or_else(|| {
            Error::Invalid(format!(
                "table `{}` has {MAX_EXCLUSIONS} exclusions already: include some again, or exclude longer ranges",
                self.table()
            ))
        })?;
        tracing::info!(table = %self.inner.source.name, id = exclusion.id, %partition, %range, by, reason, "events excluded");
        Ok(exclusion)
    }

    /// Undoes an exclusion, and returns it.
    ///
    /// # Errors
    /// `NotFound` when there is no exclusion of this id.
    pub async fn include(&self, exclusion: u64, by: &str) -> Result<Exclusion> {
        let id = self.environment().ordered_id();
        let include = |state: &TableState| {
            let mut notes = Notes::clone(&state.notes);
            let Some(index) = notes.exclusions.iter().position(|known| known.id == exclusion) else {
                return Ok(Decision::Stop(None));
            };
            let undone = notes.exclusions.remove(index);
            let parameters = json!({"exclusion": exclusion.to_string(), "by": by});
            let commit = commit(id, "INCLUDE", parameters, vec![state.noted(&notes)?]);
            Ok(Decision::Commit(commit, Some(undone)))
        };
        let (Outcome::Committed { result, .. } | Outcome::Stopped(result)) = self.commit(id, include).await?;
        let undone = result.ok_or_else(|| Error::NoExclusion {
            table: self.table(),
            id: exclusion,
        })?;
        tracing::info!(table = %self.inner.source.name, id = exclusion, by, "events included again");
        Ok(undone)
    }

    /// Records that the log has lost `range`, and moves the recorded next offset over it, under the checks of a landing
    /// (ARCHITECTURE.md, rule 7): `range` starts at the recorded next offset, and `epoch` is the recorded one.
    ///
    /// # Errors
    /// `Invalid` when the range is empty; `Unavailable` when it stays unclear whether the commit exists.
    pub async fn record_gap(&self, partition: PartitionId, range: OffsetRange, epoch: i64) -> Result<LandOutcome> {
        if range.is_empty() {
            return Err(Error::Invalid(format!("{range} of partition {partition} is no gap")));
        }
        let id = self.environment().ordered_id();
        let advance = Advance { range, epoch };
        let record = |state: &TableState| {
            if let Some(refusal) = refusal(self.environment(), state, partition, &advance) {
                return Ok(Decision::Stop(Some(refusal)));
            }
            let mut notes = Notes::clone(&state.notes);
            notes.gaps.entry(partition).or_default().extend([range]);
            let next = Mark::Next.action(
                &self.inner.source.name,
                partition,
                range.end.0,
                now_ms(self.inner.store.environment()),
            );
            let parameters = json!({"partition": partition.to_string(), "offsets": range.to_string()});
            let commit = commit(id, "RECORD GAP", parameters, vec![next, state.noted(&notes)?]);
            Ok(Decision::Commit(commit, None))
        };
        match self.commit(id, record).await? {
            Outcome::Committed { version, .. } => {
                tracing::warn!(table = %self.inner.source.name, version, %partition, %range, "gap recorded: the log has lost these events");
                Ok(LandOutcome::Landed { version })
            }
            Outcome::Stopped(refusal) => Ok(LandOutcome::Refused {
                partitions: refusal.map(|refusal| (partition, refusal)).into_iter().collect(),
            }),
        }
    }

    /// Declares events before these offsets expired. An offset that lies before the recorded one changes nothing.
    ///
    /// # Errors
    /// `Unavailable` when it stays unclear whether the commit exists.
    pub async fn advance_since(&self, since: &OffsetVector) -> Result<Arc<Notes>> {
        let id = self.environment().ordered_id();
        let advance = |state: &TableState| {
            let mut notes = Notes::clone(&state.notes);
            if !notes.advance(since) {
                return Ok(Decision::Stop(Arc::clone(&state.notes)));
            }
            let commit = commit(
                id,
                "ADVANCE SINCE",
                json!({"since": json!(since).to_string()}),
                vec![state.noted(&notes)?],
            );
            Ok(Decision::Commit(commit, Arc::new(notes)))
        };
        let (Outcome::Committed { result, .. } | Outcome::Stopped(result)) = self.commit(id, advance).await?;
        Ok(result)
    }
}

fn commit(id: Uuid, operation: &'static str, parameters: Value, actions: Vec<Value>) -> Commit {
    Commit {
        id,
        operation,
        parameters,
        actions,
    }
}

fn rfc3339(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests;
