//! What keeps the store small and quick to read: small files are merged, expired events let go, and what nobody can read any
//! more is removed.
//!
//! The batch service that runs the batch runs does it; should two do it for a moment, the commits of the master dataset settle
//! who was first. Every step may be cut off at any await: what it leaves behind is found by the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anabranch_catalog::Source;
use anabranch_dataset::{MasterDataset, Notes, Publication};
use anabranch_runtime::HumanDuration;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use crate::service::Shared;
use crate::{Error, Trigger, lease, watch};

pub(crate) mod http;
mod runs;
mod work;

use runs::RunsReport;
use work::{CompactionReport, RetentionReport, TableVacuum};

/// How soon a run for the same expiry is asked for again when the one before was not published.
const RETENTION_PAUSE: Duration = Duration::from_secs(60);

/// What the maintenance of one process knows.
#[derive(Default)]
pub(crate) struct Maintenance {
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
}

impl Maintenance {
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
}

/// The tables to look after, whether or not a view reads them: all that are declared now, or the one that is named.
fn declared(shared: &Shared, name: Option<&str>) -> Result<Vec<Arc<Source>>, Error> {
    let definitions = shared.definitions.known();
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

fn done<T>(shared: &Shared, report: T) -> Done<T> {
    Done {
        at: crate::record::rfc3339(shared.store.environment().now()),
        what: Told { report },
    }
}

/// Looks after the store until shutdown.
pub(crate) async fn look_after(shared: Arc<Shared>) -> Result<(), Error> {
    let settings = &shared.settings.maintenance;
    if !settings.enabled {
        return Ok(());
    }
    let work = async {
        // The first vacuum comes soon, so that a process that is often restarted gets there too.
        let (mut vacuum, mut expiry) = (Due::default(), Due::default());
        loop {
            shared.store.environment().sleep(*settings.every).await;
            if !shared.leadership.is_leader() {
                continue;
            }
            let now = shared.store.environment().instant();
            let looked = async {
                compact(&shared, None, false).await?;
                if expiry.is_due(now, *settings.expire_every) {
                    expire(&shared, None, false).await?;
                }
                if vacuum.is_due(now, *settings.vacuum_every) {
                    vacuum_all(&shared, None, false).await?;
                }
                Ok::<_, Error>(())
            };
            if let Err(error) = looked.await {
                // The store may be away, or another may have been first: the next look tries again.
                tracing::warn!(%error, "maintenance was interrupted");
                metrics::counter!("anabranch_maintenance_errors_total").increment(1);
                shared
                    .maintenance
                    .note(|last| last.error = Some(done(&shared, error.to_string())));
            }
        }
    };
    tokio::select! {
        biased;
        () = shared.shutdown.cancelled() => {}
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

/// Merges small files of the tables until none are worth it.
pub(crate) async fn compact(
    shared: &Shared,
    table: Option<&str>,
    dry_run: bool,
) -> Result<BTreeMap<String, CompactionReport>, Error> {
    let _working = shared.maintenance.working.lock().await;
    let mut reports = BTreeMap::new();
    for source in declared(shared, table)? {
        let Some(dataset) = shared.dataset(&source).await? else {
            continue;
        };
        let report = work::compact(shared, &dataset, dry_run).await?;
        if !dry_run && report.merges > 0 {
            let noted = done(shared, report.clone());
            shared
                .maintenance
                .note(|last| drop(last.compactions.insert(source.name.clone(), noted)));
        }
        reports.insert(source.name.clone(), report);
    }
    Ok(reports)
}

/// Lets events of the tables expire that are older than their tables keep them.
pub(crate) async fn expire(
    shared: &Shared,
    table: Option<&str>,
    dry_run: bool,
) -> Result<BTreeMap<String, RetentionReport>, Error> {
    let _working = shared.maintenance.working.lock().await;
    let mut reports = BTreeMap::new();
    for source in declared(shared, table)? {
        let (Some(keep_for), Some(dataset)) = (source.keep_for, shared.dataset(&source).await?) else {
            continue;
        };
        let report = work::expire(shared, &dataset, keep_for, dry_run).await?;
        if !dry_run && report.expires() {
            let noted = done(shared, report.clone());
            shared
                .maintenance
                .note(|last| drop(last.retention.insert(source.name.clone(), noted)));
        }
        reports.insert(source.name.clone(), report);
    }
    Ok(reports)
}

/// Removes what nobody can read any more: of the tables, of their logs, and of batch runs.
pub(crate) async fn vacuum_all(shared: &Shared, table: Option<&str>, dry_run: bool) -> Result<VacuumReport, Error> {
    let _working = shared.maintenance.working.lock().await;
    let mut report = VacuumReport::default();
    for source in declared(shared, table)? {
        if let Some(dataset) = shared.dataset(&source).await? {
            let vacuumed = work::vacuum(shared, &dataset, dry_run).await?;
            report.tables.insert(source.name.clone(), vacuumed);
        }
    }
    if table.is_none() {
        report.runs = runs::clean(shared, dry_run).await?;
    }
    if !dry_run {
        let noted = done(shared, report.clone());
        shared.maintenance.note(|last| last.vacuum = Some(noted));
    }
    Ok(report)
}

/// What a person wants to know.
pub(crate) async fn status(shared: &Shared) -> Result<Value, Error> {
    let settings = &shared.settings.maintenance;
    let mut tables = serde_json::Map::new();
    for source in &declared(shared, None)? {
        let Some(dataset) = shared.dataset(source).await? else {
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
    let done_by = shared.leadership.is_leader().then(|| shared.lease.id());
    Ok(json!({
        "enabled": settings.enabled,
        "done_by": done_by,
        "tables": tables,
        "last": shared.maintenance.last(),
    }))
}

/// Watches for expired events that the latest publication still counts, and asks for the run that drops them.
pub(crate) async fn watch_retention(shared: Arc<Shared>) -> Result<(), Error> {
    let environment = shared.store.environment().clone();
    let mut asked: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => return Ok(()),
            () = environment.sleep(*shared.settings.batch.poll) => {}
        }
        if !shared.leadership.is_leader()
            || shared.is_busy().await
            || asked.is_some_and(|at| environment.elapsed(at) < RETENTION_PAUSE)
        {
            continue;
        }
        match counts_expired(&shared).await {
            Ok(None) => {}
            Ok(Some(table)) => {
                tracing::info!(table, "events that are served have expired");
                watch::ask(&shared, Trigger::Retention).await;
                asked = Some(environment.instant());
            }
            Err(error) => tracing::warn!(%error, "cannot compare retention with the latest publication"),
        }
    }
}

/// A table of which the latest publication counts events that have expired since.
async fn counts_expired(shared: &Shared) -> Result<Option<String>, Error> {
    let Some(publication) = shared.publications.latest().await? else {
        return Ok(None);
    };
    for source in &declared(shared, None)? {
        if let Some(dataset) = shared.dataset(source).await? {
            let notes = dataset.notes().await?;
            if still_counted(&publication, &source.name, &notes) {
                return Ok(Some(source.name.clone()));
            }
        }
    }
    Ok(None)
}

/// Whether a publication counts events of `source` that have expired by these notes.
fn still_counted(publication: &Publication, source: &str, notes: &Notes) -> bool {
    let manifest = &publication.manifest;
    let Some(cut) = manifest.cuts.get(source) else {
        return false;
    };
    let nothing = Notes::default();
    let applied = manifest.notes.get(source).unwrap_or(&nothing);
    notes.since.iter().any(|(partition, since)| {
        // Of a partition that the cut does not reach, nothing is counted.
        let counted_from = applied.since.get(partition);
        cut.next.get(partition).is_some() && counted_from.is_none_or(|from| from < since)
    })
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
    async fn now(shared: &Shared) -> Result<Self, Error> {
        let leases = shared.leases.list(lease::KIND).await?;
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
