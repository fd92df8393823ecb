//! What keeps the store small and quick to read: small files are merged, expired events let go, and what nobody can read any
//! more is removed.
//!
//! The batch service that runs the batch runs does it; should two do it for a moment, the commits of the master dataset settle
//! who was first. Every step may be cut off at any await: what it leaves behind is found by the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anabranch_access::forget_audit;
use anabranch_catalog::Source;
use anabranch_dataset::MasterDataset;
use anabranch_runtime::{HumanDuration, Shutdown};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Error;
use crate::runs::record::rfc3339;
use crate::site::Site;
use crate::standing::leader::Leadership;
use crate::standing::lease;

mod runs;
mod work;

use runs::RunsReport;
use work::{CompactionReport, RetentionReport, TableVacuum};

/// The maintenance of one process.
pub(crate) struct Maintenance {
    pub(crate) site: Arc<Site>,
    /// One piece of work at a time: the background's or a command's.
    working: tokio::sync::Mutex<()>,
    last: Mutex<Last>,
}

/// What was done last, for the status.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Last {
    /// Table → its last compaction that merged anything.
    compactions: BTreeMap<String, Done<CompactionReport>>,
    vacuum: Option<Done<VacuumReport>>,
    retention: BTreeMap<String, Done<RetentionReport>>,
    /// What failed last, and when.
    error: Option<Done<String>>,
}

/// Something done, and when.
#[derive(Clone, Debug, Serialize)]
struct Done<T> {
    /// RFC 3339.
    at: String,
    #[serde(flatten)]
    what: Told<T>,
}

#[derive(Clone, Debug, Serialize)]
struct Told<T> {
    report: T,
}

/// What a vacuum removed, or would.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct VacuumReport {
    pub(crate) tables: BTreeMap<String, TableVacuum>,
    pub(crate) runs: RunsReport,
    /// Records of the audit log that were older than they are kept.
    pub(crate) audit_records: u64,
}

impl Maintenance {
    pub(crate) fn new(site: &Arc<Site>) -> Self {
        Self {
            site: Arc::clone(site),
            working: tokio::sync::Mutex::default(),
            last: Mutex::default(),
        }
    }

    fn last(&self) -> Last {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What failed last.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.last().error.map(|error| error.what.report)
    }

    fn note(&self, change: impl FnOnce(&mut Last)) {
        change(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The tables to look after, whether or not a view reads them: all that are declared now, or the one that is named.
    fn declared(&self, name: Option<&str>) -> Result<Vec<Arc<Source>>, Error> {
        let definitions = self.site.definitions.known();
        let sources = &definitions.catalog.sources;
        let Some(name) = name else {
            return Ok(sources.values().cloned().collect());
        };
        match sources.get(name) {
            Some(source) => Ok(vec![source.clone()]),
            None => Err(Error::UnknownTable {
                table: name.to_owned(),
                tables: sources.keys().cloned().collect(),
            }),
        }
    }

    fn done<T>(&self, report: T) -> Done<T> {
        Done {
            at: rfc3339(self.site.environment().now()),
            what: Told { report },
        }
    }

    /// Merges small files of the tables until none are worth it.
    pub(crate) async fn compact(
        &self,
        table: Option<&str>,
        dry_run: bool,
    ) -> Result<BTreeMap<String, CompactionReport>, Error> {
        let _working = self.working.lock().await;
        let mut reports = BTreeMap::new();
        for source in self.declared(table)? {
            let Some(dataset) = self.site.dataset(&source).await? else {
                continue;
            };
            let report = work::compact(&self.site, &dataset, dry_run).await?;
            if !dry_run && report.merges > 0 {
                let noted = self.done(report.clone());
                self.note(|last| drop(last.compactions.insert(source.name.clone(), noted)));
            }
            reports.insert(source.name.clone(), report);
        }
        Ok(reports)
    }

    /// Lets events of the tables expire that are older than their tables keep them.
    pub(crate) async fn expire(
        &self,
        table: Option<&str>,
        dry_run: bool,
    ) -> Result<BTreeMap<String, RetentionReport>, Error> {
        let _working = self.working.lock().await;
        let mut reports = BTreeMap::new();
        for source in self.declared(table)? {
            let (Some(keep_for), Some(dataset)) = (source.keep_for, self.site.dataset(&source).await?) else {
                continue;
            };
            let report = work::expire(&self.site, &dataset, keep_for, dry_run).await?;
            if !dry_run && report.expires() {
                let noted = self.done(report.clone());
                self.note(|last| drop(last.retention.insert(source.name.clone(), noted)));
            }
            reports.insert(source.name.clone(), report);
        }
        Ok(reports)
    }

    /// Removes what nobody can read any more: of the tables, of their logs, and of batch runs.
    pub(crate) async fn vacuum_all(&self, table: Option<&str>, dry_run: bool) -> Result<VacuumReport, Error> {
        let _working = self.working.lock().await;
        let mut report = VacuumReport::default();
        for source in self.declared(table)? {
            if let Some(dataset) = self.site.dataset(&source).await? {
                let vacuumed = work::vacuum(&self.site, &dataset, dry_run).await?;
                report.tables.insert(source.name.clone(), vacuumed);
            }
        }
        if table.is_none() {
            report.runs = runs::clean(&self.site, dry_run).await?;
            if let Some(keep) = self.site.settings.access.audit_retention {
                let now = self.site.leases.now().await?;
                report.audit_records = forget_audit(&self.site.store, now, *keep, dry_run).await?;
            }
        }
        if !dry_run {
            let noted = self.done(report.clone());
            self.note(|last| last.vacuum = Some(noted));
        }
        Ok(report)
    }

    /// What a person wants to know. `done_by`: the service that looks after the store, if it is this one.
    pub(crate) async fn status(&self, done_by: Option<&str>) -> Result<Value, Error> {
        let settings = &self.site.settings.maintenance;
        let mut tables = serde_json::Map::new();
        for source in &self.declared(None)? {
            let Some(dataset) = self.site.dataset(source).await? else {
                continue;
            };
            let snapshot = dataset.snapshot(None).await?;
            let small = |file: &&anabranch_dataset::DataFile| file.bytes * 2 <= settings.target_file_bytes.get();
            tables.insert(
                source.name.clone(),
                json!({
                    "version": snapshot.version,
                    "files": snapshot.files.len(),
                    "small_files": snapshot.files.iter().filter(small).count(),
                    "bytes": snapshot.files.iter().map(|file| file.bytes).sum::<u64>(),
                    "rows": snapshot.rows().0,
                    "dead_letters": snapshot.rows().1,
                    "retention": source.keep_for.map(|keep| HumanDuration(keep).to_string()),
                    "since": snapshot.notes.since,
                }),
            );
        }
        Ok(json!({
            "enabled": settings.enabled,
            "done_by": done_by,
            "tables": tables,
            "last": self.last(),
        }))
    }
}

/// Looks after the store until shutdown.
pub(crate) async fn look_after(
    maintenance: Arc<Maintenance>,
    leadership: Arc<Leadership>,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let site = &maintenance.site;
    let settings = &site.settings.maintenance;
    if !settings.enabled {
        return Ok(());
    }
    let work = async {
        // The first vacuum comes soon, so that a process that is often restarted gets there too.
        let (mut vacuum, mut expiry) = (Due::default(), Due::default());
        loop {
            site.environment().sleep(*settings.every).await;
            if !leadership.is_leader() {
                continue;
            }
            let now = site.environment().instant();
            let looked = async {
                maintenance.compact(None, false).await?;
                if expiry.is_due(now, *settings.expire_every) {
                    maintenance.expire(None, false).await?;
                }
                if vacuum.is_due(now, *settings.vacuum_every) {
                    maintenance.vacuum_all(None, false).await?;
                }
                Ok::<_, Error>(())
            };
            if let Err(error) = looked.await {
                // The store may be away, or another may have been first: the next look tries again.
                tracing::warn!(%error, "maintenance was interrupted");
                metrics::counter!("anabranch_maintenance_errors_total").increment(1);
                let noted = maintenance.done(error.to_string());
                maintenance.note(|last| last.error = Some(noted));
            }
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = work => {}
    }
    Ok(())
}

/// Something that is done from time to time.
#[derive(Default)]
struct Due(Option<Instant>);

impl Due {
    /// Whether it is time; if so, the next time is `every` from now.
    fn is_due(&mut self, now: Instant, every: Duration) -> bool {
        let due = self.0.is_none_or(|last| now.saturating_duration_since(last) >= every);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

/// What batch runs under way read.
#[derive(Debug, Default)]
struct Reading {
    /// Source → versions.
    versions: BTreeMap<String, BTreeSet<u64>>,
    /// Runs: their own, and those whose state they build on.
    runs: BTreeSet<String>,
    /// Publications that are about to be published again.
    publications: BTreeSet<u64>,
}

impl Reading {
    async fn now(site: &Site) -> Result<Self, Error> {
        let leases = site.leases.list(lease::KIND).await?;
        Ok(Self::of(leases.iter().map(|lease| &lease.facts)))
    }

    fn of<'f>(facts: impl Iterator<Item = &'f Value>) -> Self {
        let mut reading = Self::default();
        for facts in facts {
            let list = |key: &str| facts.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            for run in list("running") {
                let ids = ["run_id", "base"].map(|key| run[key].as_str().map(str::to_owned));
                reading.runs.extend(ids.into_iter().flatten());
                for (source, cut) in run["cuts"].as_object().into_iter().flatten() {
                    if let Some(version) = cut["version"].as_u64() {
                        reading.versions.entry(source.clone()).or_default().insert(version);
                    }
                }
            }
            reading.publications.extend(facts["rollback"].as_u64());
            let queued = list("queued");
            reading
                .runs
                .extend(queued.iter().filter_map(|run| Some(run.as_str()?.to_owned())));
        }
        reading
    }

    fn of_table(&self, dataset: &MasterDataset) -> BTreeSet<u64> {
        self.versions.get(&dataset.source().name).cloned().unwrap_or_default()
    }
}

/// A moment as microseconds since the epoch, `age` before `now`.
fn cutoff_us(now: DateTime<Utc>, age: Duration) -> i64 {
    let age_us = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    now.timestamp_micros().saturating_sub(age_us)
}

#[cfg(test)]
mod tests;
