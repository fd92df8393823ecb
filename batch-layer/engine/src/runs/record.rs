//! A run while it lives in this process: its record, and the counters that fill in its progress.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_compute::Control;
use anabranch_dataset::{Environment, RunProgress, RunRecord, RunState, Runs};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::task::Task;
use crate::Trigger;

/// A run that is queued or running.
#[derive(Debug)]
pub(crate) struct LiveRun {
    pub(crate) run_id: String,
    pub(crate) task: Task,
    /// Somebody wants all of history folded.
    full: AtomicBool,
    record: Mutex<RunRecord>,
    /// Held while the record is written, so that an older one never replaces a newer one.
    saving: tokio::sync::Mutex<()>,
    /// Cancels the fold, and counts its rows.
    pub(crate) control: Control,
    /// Bytes of files that are wholly folded.
    pub(crate) folded_bytes: Arc<AtomicU64>,
}

impl LiveRun {
    pub(crate) fn new(trigger: Trigger, task: Task, now: DateTime<Utc>, environment: &Environment) -> Self {
        let run_id = new_run_id(now, environment);
        let record = RunRecord {
            run_id: run_id.clone(),
            state: RunState::Queued,
            kind: task.kind(),
            trigger: trigger.as_str().to_owned(),
            created_at: rfc3339(now),
            ..RunRecord::default()
        };
        Self {
            run_id,
            task,
            full: AtomicBool::new(false),
            record: Mutex::new(record),
            saving: tokio::sync::Mutex::new(()),
            control: Control::new(),
            folded_bytes: Arc::default(),
        }
    }

    /// Asks for all of history, if the run has not begun.
    pub(crate) fn request_full(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_full_requested(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// The record as it stands, with the progress of this moment.
    pub(crate) fn record(&self) -> RunRecord {
        let mut record = self.lock().clone();
        record.progress.rows_done = self.control.progress().snapshot().rows;
        record.progress.bytes_done = self.folded_bytes.load(Ordering::Relaxed);
        record
    }

    /// Changes the record; returns what [`record`](Self::record) would.
    pub(crate) fn update(&self, change: impl FnOnce(&mut RunRecord)) -> RunRecord {
        change(&mut self.lock());
        self.record()
    }

    /// Writes the record. The run itself matters more than its record, so a failure is only logged.
    pub(crate) async fn save(&self, runs: &Runs) {
        let _saving = self.saving.lock().await;
        if let Err(error) = runs.put(&self.record()).await {
            tracing::warn!(run_id = self.run_id, %error, "cannot write the run's record");
        }
    }

    /// Notes how long a stage took.
    pub(crate) fn timed(&self, stage: &str, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        *self.lock().timings_ms.entry(stage.to_owned()).or_default() += ms;
    }

    /// A change of a record cannot leave it half done, so a poisoned one is whole.
    fn lock(&self) -> MutexGuard<'_, RunRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sorts by time of creation: `20260131T235959Z-1f3a9c44`, where the last part is milliseconds (three hex digits) and chance.
pub(crate) fn new_run_id(now: DateTime<Utc>, environment: &Environment) -> String {
    let random = environment.random_id().simple().to_string();
    let millis = now.timestamp_subsec_millis().min(999);
    format!("{}-{millis:03x}{}", now.format("%Y%m%dT%H%M%SZ"), &random[..5])
}

/// Whether a process must be there for the run to go on.
pub(crate) fn is_under_way(record: &RunRecord) -> bool {
    !record.state.is_final() && record.state != RunState::Held
}

/// Whether a path segment can be a run id; anything else is not looked up.
pub(crate) fn is_run_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

pub(crate) fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A record as HTTP answers spell it: with `eta_seconds` in its progress while it runs.
pub(crate) fn to_json(record: &RunRecord, now: DateTime<Utc>) -> Value {
    let mut value = serde_json::to_value(record).unwrap_or_else(|error| json!({"error": error.to_string()}));
    if let Some(progress) = value.get_mut("progress").and_then(Value::as_object_mut) {
        progress.insert("eta_seconds".to_owned(), json!(eta_seconds(record, now)));
    }
    value
}

/// Seconds until all rows are folded, at the pace so far; `None` unless the run is running and has folded something.
pub(crate) fn eta_seconds(record: &RunRecord, now: DateTime<Utc>) -> Option<f64> {
    if record.state != RunState::Running {
        return None;
    }
    let started: DateTime<Utc> = record.started_at.as_deref()?.parse().ok()?;
    let elapsed_seconds = (now - started).to_std().ok()?.as_secs_f64();
    let RunProgress {
        rows_done, rows_total, ..
    } = record.progress;
    if rows_done == 0 {
        return None;
    }
    let left = rows_total.saturating_sub(rows_done) as f64;
    Some((elapsed_seconds * left / rows_done as f64 * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests;
