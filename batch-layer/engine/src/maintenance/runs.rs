//! Removes what batch runs left behind that no publication which may still be served refers to.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_dataset::{Publication, Publications, Runs};
use anabranch_model::crash_point;
use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::Serialize;

use super::Reading;
use crate::Error;
use crate::runs::record::is_run_id;
use crate::site::Site;

/// Records read, and objects deleted, at the same time.
const REQUESTS: usize = 8;

/// What was removed below `runs/`, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct RunsReport {
    pub(crate) state_files: u64,
    pub(crate) bytes: u64,
    /// Runs whose records went.
    pub(crate) records: u64,
}

/// What must stay.
#[derive(Debug, Default)]
struct Kept {
    /// State files of publications.
    files: BTreeSet<String>,
    /// Runs of which everything stays.
    runs: BTreeSet<String>,
    /// Runs whose record stays.
    records: BTreeSet<String>,
}

/// Removes superseded state files and old records.
pub(super) async fn clean(site: &Site, dry_run: bool) -> Result<RunsReport, Error> {
    let settings = &site.settings.maintenance;
    let now = site.leases.now().await?;
    let grace = TimeDelta::from_std(*settings.vacuum_after).unwrap_or(TimeDelta::MAX);
    // Listed first: what is written from now on is not looked at.
    let objects = site.store.list(&Path::from("runs")).await?;
    let before = now.checked_sub_signed(grace).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let kept = kept(site, &objects, before).await?;
    let superseded = superseded(&objects, &kept, before);
    let mut report = RunsReport::default();
    for object in &superseded {
        match object.location.extension() {
            Some("parquet") => {
                report.state_files += 1;
                report.bytes += object.size;
            }
            _ => report.records += u64::from(object.location.filename() == Some("run.json")),
        }
    }
    if !dry_run && !superseded.is_empty() {
        crash_point!("clean_runs.delete.before");
        let paths: Vec<Path> = superseded.iter().map(|object| object.location.clone()).collect();
        stream::iter(paths)
            .map(|path| site.store.remove(path))
            .buffer_unordered(REQUESTS)
            .try_collect::<()>()
            .await?;
        crash_point!("clean_runs.delete.after");
        tracing::info!(
            state_files = report.state_files,
            bytes = report.bytes,
            records = report.records,
            "superseded batch runs removed"
        );
    }
    Ok(report)
}

async fn kept(site: &Site, objects: &[ObjectMeta], before: DateTime<Utc>) -> Result<Kept, Error> {
    let settings = &site.settings.maintenance;
    let mut kept = Kept::default();
    let reading = Reading::now(site).await?;
    let serving = site.leases.list("serve").await?;
    let mut pinned = reading.publications;
    pinned.extend(
        serving
            .iter()
            .filter_map(|lease| lease.facts.get("publication")?.as_u64()),
    );
    for publication in may_be_served(&site.publications, &pinned, settings.keep_publications, before).await? {
        let files = publication.manifest.views.into_values().flat_map(|view| view.files);
        kept.files.extend(files.map(|file| file.path));
        kept.records.insert(publication.manifest.run_id);
    }
    kept.runs = reading.runs;
    let runs: BTreeSet<String> = objects
        .iter()
        .filter_map(|object| run_of(&object.location).map(str::to_owned))
        .collect();
    kept.records.extend(runs.iter().rev().take(settings.keep_runs).cloned());
    let unfinished: Vec<Option<String>> = stream::iter(runs)
        .map(|run| async move { Ok::<_, Error>(is_unfinished(site, &run).await?.then_some(run)) })
        .buffered(REQUESTS)
        .try_collect()
        .await?;
    kept.runs.extend(unfinished.into_iter().flatten());
    Ok(kept)
}

/// Whether something may still become of a run: it waits, runs, or is held to be decided about.
async fn is_unfinished(site: &Site, run: &str) -> Result<bool, Error> {
    Ok(site.runs.get(run).await?.is_some_and(|record| !record.state.is_final()))
}

/// Publications that are served, or that a rollback may go back to: those that are pinned, the newest, and the `keep` before
/// those that are younger than `before`. So one that leaves their number stays for as long as any file that is not needed
/// any more, and a rollback that has just found it there finds its files.
async fn may_be_served(
    publications: &Publications,
    pinned: &BTreeSet<u64>,
    keep: usize,
    before: DateTime<Utc>,
) -> Result<Vec<Publication>, Error> {
    let mut kept = BTreeMap::new();
    let mut old = 0;
    for number in publications.list().await?.into_iter().rev() {
        if old >= keep {
            break;
        }
        if let Some(publication) = publications.get(number).await? {
            let published_at = publication.published_at.parse::<DateTime<Utc>>();
            old += usize::from(published_at.is_ok_and(|at| at < before));
            kept.insert(number, publication);
        }
    }
    for number in pinned {
        if !kept.contains_key(number)
            && let Some(publication) = publications.get(*number).await?
        {
            kept.insert(*number, publication);
        }
    }
    Ok(kept.into_values().collect())
}

/// Objects that may go: written before `before`, and needed by nothing that is kept.
fn superseded<'o>(objects: &'o [ObjectMeta], kept: &Kept, before: DateTime<Utc>) -> Vec<&'o ObjectMeta> {
    let goes = |object: &&ObjectMeta| {
        let Some(run) = run_of(&object.location) else {
            return false;
        };
        if object.last_modified >= before || kept.runs.contains(run) {
            return false;
        }
        match object.location.extension() {
            Some("parquet") => !kept.files.contains(object.location.as_ref()),
            _ => !kept.records.contains(run),
        }
    };
    objects.iter().filter(goes).collect()
}

/// The run that an object belongs to.
fn run_of(path: &Path) -> Option<&str> {
    let rest = path.as_ref().strip_prefix(Runs::folder("").as_ref())?;
    let (run, _) = rest.trim_start_matches('/').split_once('/')?;
    is_run_id(run).then_some(run)
}
