//! The audit log: every administrator's action, who did it, from where, and what came of it.

use std::path::PathBuf;

use anabranch_dataset::Store;
use chrono::{DateTime, NaiveDate, Utc};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use crate::error::Error;

const FOLDER: &str = "access/audit";

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
            let path = Path::from(format!("{FOLDER}/{}/{id}.json", record.at.format("%Y-%m-%d")));
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

/// Records in the object store from a day on, oldest first, the newest `limit` of them.
///
/// # Errors
/// When the store does not answer.
pub async fn audit_records(store: &Store, since: NaiveDate, limit: usize) -> Result<Vec<AuditRecord>, Error> {
    let listed = store.list(&Path::from(FOLDER)).await?;
    let since = format!("{FOLDER}/{}", since.format("%Y-%m-%d"));
    let mut paths: Vec<Path> = listed
        .into_iter()
        .map(|object| object.location)
        .filter(|path| path.as_ref() >= since.as_str())
        .collect();
    paths.sort();
    let newest = paths.split_off(paths.len().saturating_sub(limit));
    let mut records = Vec::with_capacity(newest.len());
    for path in newest {
        let Some(bytes) = store.read(&path).await? else {
            continue;
        };
        match serde_json::from_slice(&bytes) {
            Ok(record) => records.push(record),
            Err(error) => tracing::warn!(%path, %error, "this record of the audit log cannot be read"),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests;
