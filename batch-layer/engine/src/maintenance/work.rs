//! The work on one table.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_dataset::{
    CleanedLog, Compaction, DataFile, Expirable, LogCleaning, MasterDataset, Vacuum, Vacuumed, plan_compaction,
};
use anabranch_model::topic_partition;
use anabranch_runtime::Compression;
use chrono::{DateTime, SecondsFormat};
use parquet::basic;
use serde::Serialize;

use super::{Reading, cutoff_us};
use crate::Error;
use crate::site::Site;

/// A merge takes this share of the memory that batch runs may use.
const MEMORY_SHARE: u64 = 4;

/// What compaction did to a table, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct CompactionReport {
    pub(crate) merges: u64,
    /// Files that were merged, and what they held. A file that was merged twice counts twice.
    pub(crate) files: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Files of the table before and after.
    pub(crate) files_before: u64,
    pub(crate) files_after: u64,
}

/// What vacuum removed from a table and from its log, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct TableVacuum {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Of the files, those that no landing ever committed.
    pub(crate) left_behind: u64,
    /// Files that stay because a batch run reads them, or because they are too young.
    pub(crate) pinned: u64,
    pub(crate) waiting: u64,
    /// Commits and checkpoints of the log.
    pub(crate) commits: u64,
    pub(crate) checkpoints: u64,
}

/// What expires of a table, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct RetentionReport {
    /// Events that the log received before this expire. RFC 3339.
    pub(crate) before: String,
    pub(crate) rows: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Files that stay because only some of their rows expire.
    pub(crate) straddling_files: u64,
    /// `topic/partition` → what expires of it.
    pub(crate) partitions: BTreeMap<String, PartitionReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PartitionReport {
    /// Offsets `[from, since)` expire.
    pub(crate) from: i64,
    pub(crate) since: i64,
    pub(crate) rows: u64,
    /// When the log received the oldest and the newest of them. RFC 3339.
    pub(crate) oldest: Option<String>,
    pub(crate) newest: Option<String>,
}

impl RetentionReport {
    pub(crate) fn expires(&self) -> bool {
        self.files > 0 || !self.partitions.is_empty()
    }
}

fn compaction(site: &Site) -> Compaction {
    let settings = &site.settings.maintenance;
    Compaction {
        min_files: settings.compact_min_files,
        target_file_bytes: settings.target_file_bytes.get(),
        memory_bytes: site.settings.batch.memory_budget.get() / MEMORY_SHARE,
        compression: match site.settings.landing.compression {
            Compression::Lz4 => basic::Compression::LZ4_RAW,
            Compression::Zstd => basic::Compression::ZSTD(basic::ZstdLevel::default()),
            Compression::Snappy => basic::Compression::SNAPPY,
        },
    }
}

/// Merges small files until none are worth it.
pub(super) async fn compact(site: &Site, dataset: &MasterDataset, dry_run: bool) -> Result<CompactionReport, Error> {
    let compaction = compaction(site);
    let before = dataset.snapshot(None).await?.files;
    let mut report = CompactionReport {
        files_before: before.len() as u64,
        ..CompactionReport::default()
    };
    if dry_run {
        foresee(before, &compaction, &mut report);
        return Ok(report);
    }
    let table = dataset.source().name.as_str();
    metrics::counter!("anabranch_compacted_bytes_total", "table" => table.to_owned()).increment(0);
    let environment = site.environment();
    loop {
        let begun = environment.instant();
        let Some(compacted) = dataset.compact(&compaction).await? else {
            break;
        };
        report.add(&compacted.inputs);
        let elapsed = environment.elapsed(begun);
        let (files, bytes) = (compacted.inputs.len() as u64, compacted.output.bytes);
        metrics::counter!("anabranch_compactions_total", "table" => table.to_owned()).increment(1);
        metrics::counter!("anabranch_compacted_files_total", "table" => table.to_owned()).increment(files);
        metrics::counter!("anabranch_compacted_bytes_total", "table" => table.to_owned()).increment(bytes);
        metrics::histogram!("anabranch_compaction_seconds", "table" => table.to_owned()).record(elapsed.as_secs_f64());
        tracing::info!(
            table,
            version = compacted.version,
            files,
            bytes,
            rows = compacted.output.rows,
            ?elapsed,
            "small files merged"
        );
    }
    let files = dataset.snapshot(None).await?.files.len();
    report.files_after = files as u64;
    metrics::gauge!("anabranch_table_files", "table" => table.to_owned()).set(files as f64);
    Ok(report)
}

impl CompactionReport {
    fn add(&mut self, inputs: &[DataFile]) {
        self.merges += 1;
        self.files += inputs.len() as u64;
        self.rows += inputs.iter().map(|file| file.rows).sum::<u64>();
        self.bytes += inputs.iter().map(|file| file.bytes).sum::<u64>();
    }
}

/// Says what would be merged, if merged files were as large as what they are made of.
fn foresee(mut files: Vec<DataFile>, compaction: &Compaction, report: &mut CompactionReport) {
    while let Some(plan) = plan_compaction(&files, compaction) {
        report.add(&plan.files);
        let merged = DataFile {
            bytes: plan.files.iter().map(|file| file.bytes).sum(),
            rows: plan.files.iter().map(|file| file.rows).sum(),
            ..plan.files[0].clone()
        };
        let gone: std::collections::BTreeSet<_> = plan.files.iter().map(|file| &file.path).collect();
        files.retain(|file| !gone.contains(&file.path));
        let at = files.partition_point(|file| file.path < merged.path);
        files.insert(at, merged);
    }
    report.files_after = files.len() as u64;
}

/// Removes files that nobody can read any more, and what the log does not need.
pub(super) async fn vacuum(site: &Site, dataset: &MasterDataset, dry_run: bool) -> Result<TableVacuum, Error> {
    let settings = &site.settings.maintenance;
    let now = site.leases.now().await?;
    let pinned = Reading::now(site).await?.of_table(dataset);
    let Vacuumed {
        files,
        bytes,
        left_behind,
        pinned: kept_pinned,
        waiting,
    } = dataset
        .vacuum(&Vacuum {
            now,
            grace: *settings.vacuum_after,
            pinned: pinned.clone(),
            dry_run,
        })
        .await?;
    let CleanedLog { commits, checkpoints } = dataset
        .clean_log(&LogCleaning {
            now,
            keep: *settings.log_retention,
            pinned,
            dry_run,
        })
        .await?;
    if !dry_run && files + commits > 0 {
        let table = dataset.source().name.as_str();
        metrics::counter!("anabranch_vacuumed_files_total", "table" => table.to_owned()).increment(files);
        metrics::counter!("anabranch_vacuumed_bytes_total", "table" => table.to_owned()).increment(bytes);
        tracing::info!(
            table,
            files,
            bytes,
            left_behind,
            commits,
            "what nobody reads was removed"
        );
    }
    Ok(TableVacuum {
        files,
        bytes,
        left_behind,
        pinned: kept_pinned,
        waiting,
        commits,
        checkpoints,
    })
}

/// Lets events expire that the log received longer than `keep_for` ago and that batch views hold: those beyond the cut may
/// still have to be folded into realtime state, which would begin behind a hole without them.
pub(super) async fn expire(
    site: &Site,
    dataset: &MasterDataset,
    keep_for: Duration,
    dry_run: bool,
) -> Result<RetentionReport, Error> {
    let cutoff_us = cutoff_us(site.leases.now().await?, keep_for);
    let source = dataset.source();
    let views = site.definitions.newest().await?.views.clone();
    let published = if views.iter().any(|view| view.source().name == source.name) {
        let latest = site.publications.latest().await?;
        let cut = latest.and_then(|latest| latest.manifest.cuts.get(&source.name).cloned());
        Some(cut.unwrap_or_default().next)
    } else {
        None
    };
    let expirable = dataset.expirable(cutoff_us, published.as_ref()).await?;
    let report = retention_report(dataset, &expirable, cutoff_us);
    if dry_run || expirable.is_empty() {
        return Ok(report);
    }
    if let Some(version) = dataset.expire(&expirable.since()).await? {
        let (table, rows, files) = (dataset.source().name.as_str(), report.rows, report.files);
        metrics::counter!("anabranch_expired_rows_total", "table" => table.to_owned()).increment(rows);
        tracing::info!(table, version, rows, files, before = report.before, "events expired");
    }
    Ok(report)
}

fn retention_report(dataset: &MasterDataset, expirable: &Expirable, cutoff_us: i64) -> RetentionReport {
    let partitions = expirable.partitions.iter().map(|(partition, expiring)| {
        let report = PartitionReport {
            from: expiring.range.start.0,
            since: expiring.range.end.0,
            rows: expiring.rows,
            oldest: expiring.times.map(|times| rfc3339(times.first_us)),
            newest: expiring.times.map(|times| rfc3339(times.last_us)),
        };
        (topic_partition(&dataset.source().topic, *partition), report)
    });
    RetentionReport {
        before: rfc3339(cutoff_us),
        rows: expirable.rows(),
        files: expirable.files,
        bytes: expirable.bytes,
        straddling_files: expirable.straddling_files,
        partitions: partitions.collect(),
    }
}

fn rfc3339(us: i64) -> String {
    DateTime::from_timestamp_micros(us)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}
