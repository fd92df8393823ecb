//! The rows of each system table.

use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_dataset::{Diff, Lease, RunRecord, Runs};
use anabranch_realtime::Services;
use anabranch_view::View;
use chrono::DateTime;
use datafusion::scalar::ScalarValue;
use serde::Serialize;
use serde_json::Value;

use super::{System, Table};
use crate::Error;
use crate::follow::adoption::Published;
use crate::follow::reports::{Reports, partition_status};
use crate::snapshot::consistency::Demand;
use crate::tables::letters;

/// Rows that `runs` shows at most, newest first.
const RUNS: usize = 1_000;
/// Dead letters of one source that are shown at most, newest first.
const DEAD_LETTERS: usize = 1_000;

type Row = Vec<ScalarValue>;

fn text(value: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(value.into()))
}

fn some_text(value: Option<impl Into<String>>) -> ScalarValue {
    ScalarValue::Utf8(value.map(Into::into))
}

/// Counts and offsets; what no BIGINT holds is not among them.
fn bigint(value: Option<impl TryInto<i64>>) -> ScalarValue {
    ScalarValue::Int64(value.and_then(|value| value.try_into().ok()))
}

fn flag(value: bool) -> ScalarValue {
    ScalarValue::Boolean(Some(value))
}

fn instant(rfc3339: Option<&str>) -> ScalarValue {
    let at = rfc3339.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    ScalarValue::TimestampMicrosecond(at.map(|at| at.timestamp_micros()), None)
}

/// The word that a value is spelled with in JSON.
fn word(value: &impl Serialize) -> ScalarValue {
    let value = serde_json::to_value(value).ok();
    some_text(value.and_then(|value| value.as_str().map(str::to_owned)))
}

impl System {
    /// The rows of a table, as `principal` may see them.
    ///
    /// # Errors
    /// When what they are read from does not answer.
    pub(super) async fn rows(&self, table: Table, principal: &Principal) -> Result<Vec<Row>, Error> {
        let published = self.adoption.pin();
        match table {
            Table::Views => Ok(readable(&published, principal)
                .map(|view| view_row(view, &published))
                .collect()),
            Table::Runs => self.runs().await,
            Table::Partitions => Ok(self.partitions(&published, principal).await),
            Table::Workers => Ok(self.workers(&published, principal).await),
            Table::DeadLetters => self.dead_letters(&published).await,
            Table::Coverage => self.coverage(&published, principal).await,
        }
    }

    async fn runs(&self) -> Result<Vec<Row>, Error> {
        let records = Runs::new(self.adoption.store()).list(RUNS).await?;
        let row = |run: &RunRecord| {
            vec![
                text(&run.run_id),
                word(&run.state),
                word(&run.kind),
                text(&run.trigger),
                word(&run.mode),
                some_text(run.reason.as_deref()),
                instant(Some(&run.created_at)),
                instant(run.started_at.as_deref()),
                instant(run.finished_at.as_deref()),
                bigint(Some(run.rows)),
                bigint(Some(run.groups)),
                bigint(run.publication),
                ScalarValue::Boolean(run.diff.as_ref().map(Diff::differs)),
                some_text(run.error.as_deref()),
            ]
        };
        Ok(records.iter().map(row).collect())
    }

    async fn reports(&self, published: &Published) -> (Arc<Services>, Reports) {
        let services = self.directory.services();
        let reports = Reports::gather(&self.forwarder, &services, published.catalog(), &self.masters).await;
        (services, reports)
    }

    /// Partitions of the sources of which the principal may read a view.
    async fn partitions(&self, published: &Published, principal: &Principal) -> Vec<Row> {
        let (services, reports) = self.reports(published).await;
        let mut rows = Vec::new();
        for (name, source) in &published.catalog().sources {
            let mut views = published.served.iter().filter(|view| &view.source().name == name);
            if !views.any(|view| principal.may_read(view.name())) && !principal.may_administer() {
                continue;
            }
            for (partition, owner) in &services.owners(name) {
                let Some(status) = partition_status(name, *partition, owner, &services, &reports) else {
                    continue;
                };
                let number = |field: &str| bigint(status[field].as_i64());
                rows.push(vec![
                    text(name),
                    text(&source.topic),
                    ScalarValue::Int32(Some(partition.0)),
                    text(&owner.worker),
                    bigint(Some(owner.epoch)),
                    number("next_consumed"),
                    number("next_landed"),
                    number("end"),
                    number("lag"),
                    number("not_landed"),
                    number("open_segments"),
                    number("sealed_segments"),
                ]);
            }
        }
        rows
    }

    /// Where services are, and what goes wrong with them, is for administrators, as in `/v1/status`.
    async fn workers(&self, published: &Published, principal: &Principal) -> Vec<Row> {
        let (services, reports) = self.reports(published).await;
        let speed = services.speed.iter().map(|worker| {
            let report = reports.of_speed(&worker.id);
            worker_row("speed", &worker.id, &worker.address, report, None)
        });
        let batch = services.batch.iter().map(|lease| {
            let report = reports.of_batch(&lease.id);
            worker_row("batch", &lease.id, &lease.address, report, None)
        });
        // Their leases are fresh: they were not asked.
        let serve = services
            .serve
            .iter()
            .map(|lease| worker_row("serve", &lease.id, &lease.address, None, Some(lease)));
        let mut rows: Vec<Row> = speed.chain(batch).chain(serve).collect();
        if !principal.may_administer() {
            for row in &mut rows {
                row[WORKER_ADDRESS] = some_text(None::<String>);
                row[WORKER_ERROR] = some_text(None::<String>);
            }
        }
        rows
    }

    async fn dead_letters(&self, published: &Published) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for (name, source) in &published.catalog().sources {
            let Some(dataset) = self.masters.dataset(source).await? else {
                continue;
            };
            for shown in letters::newest(&dataset, DEAD_LETTERS).await? {
                let letter = &shown.letter;
                rows.push(vec![
                    text(name),
                    ScalarValue::Int32(Some(letter.partition.0)),
                    bigint(Some(letter.offset.0)),
                    ScalarValue::TimestampMicrosecond(letter.timestamp_us, None),
                    text(&letter.reason),
                    bigint(shown.bytes),
                    some_text(letter.record.payload.as_deref().map(String::from_utf8_lossy)),
                ]);
            }
        }
        Ok(rows)
    }

    /// What an answer over all readable views would cover at this moment.
    async fn coverage(&self, published: &Published, principal: &Principal) -> Result<Vec<Row>, Error> {
        let views: Vec<View> = readable(published, principal).cloned().collect();
        let frozen = self.consistency.freeze(&views, &Demand::default()).await?;
        let mut rows = Vec::new();
        for (view, coverage) in frozen.coverage() {
            let mut partitions: Vec<&String> = coverage.served_through.keys().collect();
            partitions.extend(coverage.batch_cut.keys());
            partitions.extend(&coverage.missing);
            partitions.sort();
            partitions.dedup();
            for partition in partitions {
                rows.push(vec![
                    text(&view),
                    text(partition),
                    bigint(coverage.publication),
                    bigint(coverage.batch_version),
                    bigint(coverage.batch_cut.get(partition).copied()),
                    bigint(coverage.served_through.get(partition).copied()),
                    bigint(coverage.since.get(partition).copied()),
                    flag(coverage.missing.contains(partition)),
                    flag(coverage.exact),
                ]);
            }
        }
        Ok(rows)
    }
}

fn readable<'p>(published: &'p Published, principal: &Principal) -> impl Iterator<Item = &'p View> {
    let principal = principal.clone();
    published
        .served
        .iter()
        .filter(move |view| principal.may_read(view.name()))
}

fn view_row(view: &View, published: &Published) -> Row {
    let batch = published.views.get(view.name());
    let definition = published.catalog().views.get(view.name());
    let newest = published.definitions.view(view.name());
    vec![
        text(view.name()),
        text(&view.source().name),
        text(&view.source().topic),
        some_text(definition.map(|definition| definition.query.clone())),
        word(view.hash()),
        flag(newest.is_some_and(|newest| newest.hash() != view.hash())),
        bigint(batch.map(|_| published.number)),
        bigint(batch.map(|batch| batch.state.rows())),
        bigint(batch.map(|batch| batch.events)),
    ]
}

/// Columns of a worker's row.
const WORKER_ADDRESS: usize = 2;
const WORKER_ERROR: usize = 4;

fn worker_row(
    kind: &str,
    id: &str,
    address: &str,
    report: Option<&Result<Value, String>>,
    lease: Option<&Lease>,
) -> Row {
    let error = report.and_then(|report| report.as_ref().err());
    let publication = lease.and_then(|lease| lease.facts.get("publication")?.as_i64());
    vec![
        text(kind),
        text(id),
        text(address),
        flag(error.is_none()),
        some_text(error.map(String::as_str)),
        bigint(publication),
    ]
}
