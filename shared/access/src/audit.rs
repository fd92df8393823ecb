//! The audit log: every administrator's action, who did it, from where, and what came of it.

use std::path::PathBuf;
use std::time::Duration;

use anabranch_dataset::Store;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use crate::error::Error;

/// A folder for each day, by UTC, so that what is old is neither listed nor read.
const FOLDER: &str = "access/audit";
/// Records read, or removed, at the same time.
const REQUESTS: usize = 16;

/// One action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    pub at: DateTime<Utc>,
    /// Name of the principal.
    pub who: String,
    /// `read`, `ingest`, `admin`; empty for somebody who was not let in.
    pub role: String,
    /// Address of the client; `cli` for a command that works on the object store itself.
    pub from: String,
    /// The service that was asked, by its id.
    pub service: String,
    /// `POST /v1/batch/runs`, or the command.
    pub action: String,
    /// `ok`, `denied` or `failed`, and for HTTP the status.
    pub outcome: String,
}

/// Where records go. Each is a line of the log (target `audit`) in any case.
#[derive(Debug)]
pub struct Audit {
    store: Option<Store>,
    file: Option<PathBuf>,
    /// Lines of one file are written one after the other.
    writing: tokio::sync::Mutex<()>,
}

impl Audit {
    /// `store`: keep records in the object store; `file`: append them to a local file.
    pub fn new(store: Option<&Store>, file: Option<PathBuf>) -> Self {
        Self {
            store: store.cloned(),
            file,
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// Writes a record down. What was done is done: a place that does not take the record is logged.
    pub async fn record(&self, record: &AuditRecord) {
        let AuditRecord {
            who,
            role,
            from,
            service,
            action,
            outcome,
            ..
        } = record;
        tracing::info!(target: "audit", who, role, from, service, action, outcome, "administration");
        metrics::counter!("anabranch_audit_records_total").increment(1);
        if let Err(error) = self.keep(record).await {
            metrics::counter!("anabranch_audit_failures_total").increment(1);
            tracing::error!(%error, who, action, "a record of the audit log is in this log only");
        }
    }

    async fn keep(&self, record: &AuditRecord) -> Result<(), Error> {
        let mut line = serde_json::to_vec(record).expect("an audit record is plain data");
        if let Some(store) = &self.store {
            let id = store.environment().ordered_id().simple().to_string();
            let path = folder(record.at.date_naive()).join(format!("{id}.json"));
            store.create(&path, line.clone().into()).await?;
        }
        if let Some(path) = &self.file {
            line.push(b'\n');
            let _writing = self.writing.lock().await;
            let refuse = |error: std::io::Error| Error::Audit(format!("{}: {error}", path.display()));
            let file = tokio::fs::OpenOptions::new().create(true).append(true).open(path).await;
            let mut file = file.map_err(refuse)?;
            file.write_all(&line).await.map_err(refuse)?;
            file.flush().await.map_err(refuse)?;
        }
        Ok(())
    }
}

/// Records in the object store from a day on, oldest first, the newest `limit` of them. Lists the newest days until there are
/// enough, and reads no others.
///
/// # Errors
/// When the store does not answer.
pub async fn audit_records(store: &Store, since: NaiveDate, limit: usize) -> Result<Vec<AuditRecord>, Error> {
    let days = days(store).await?;
    let mut newest: Vec<Path> = Vec::new();
    for day in days.into_iter().rev().take_while(|day| *day >= since) {
        if newest.len() >= limit {
            break;
        }
        let mut of_day = paths(store, day).await?;
        // Ids are in the order of time.
        of_day.sort_unstable_by(|a, b| b.cmp(a));
        newest.extend(of_day.into_iter().take(limit - newest.len()));
    }
    stream::iter(newest.into_iter().rev())
        .map(|path| read(store, path))
        .buffered(REQUESTS)
        .try_filter_map(async |record| Ok(record))
        .try_collect()
        .await
}

/// Removes the records of days that ended longer than `keep` before `now`; says how many, and with `dry_run` does no more.
///
/// # Errors
/// When the store does not answer; what is left goes the next time.
pub async fn forget_audit(store: &Store, now: DateTime<Utc>, keep: Duration, dry_run: bool) -> Result<u64, Error> {
    let kept_from = TimeDelta::from_std(keep)
        .ok()
        .and_then(|keep| now.checked_sub_signed(keep));
    let Some(kept_from) = kept_from.map(|from| from.date_naive()) else {
        return Ok(0);
    };
    let mut removed = 0;
    for day in days(store).await?.into_iter().take_while(|day| *day < kept_from) {
        let paths = paths(store, day).await?;
        removed += paths.len() as u64;
        if !dry_run {
            stream::iter(paths)
                .map(|path| store.remove(path))
                .buffer_unordered(REQUESTS)
                .try_collect::<()>()
                .await?;
        }
    }
    Ok(removed)
}

/// Days of which there are records, ascending.
async fn days(store: &Store) -> Result<Vec<NaiveDate>, Error> {
    let folders = store.list_folders(&Path::from(FOLDER)).await?;
    let mut days: Vec<NaiveDate> = folders.iter().filter_map(|day| day.parse().ok()).collect();
    days.sort_unstable();
    Ok(days)
}

fn folder(day: NaiveDate) -> Path {
    Path::from(FOLDER).join(day.to_string())
}

async fn paths(store: &Store, day: NaiveDate) -> Result<Vec<Path>, Error> {
    let listed = store.list(&folder(day)).await?;
    Ok(listed.into_iter().map(|object| object.location).collect())
}

async fn read(store: &Store, path: Path) -> Result<Option<AuditRecord>, Error> {
    let Some(bytes) = store.read(&path).await? else {
        return Ok(None);
    };
    match serde_json::from_slice(&bytes) {
        Ok(record) => Ok(Some(record)),
        Err(error) => {
            tracing::warn!(%path, %error, "this record of the audit log cannot be read");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests;
