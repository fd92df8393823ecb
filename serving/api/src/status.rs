mod visible;

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_catalog::Catalog;
use anabranch_dataset::{Lease, TableSize};
use anabranch_model::realtime::Owner;
use anabranch_model::{PartitionId, topic_partition};
use anabranch_realtime::Services;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::adoption::Published;
use crate::forward::Forwarder;
use crate::masters::Masters;
pub(crate) use visible::visible;

/// A service that takes longer to tell its status is reported as not answering.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What every live service says of itself, and what the master datasets hold.
pub(crate) struct Reports {
    speed: BTreeMap<String, Result<Value, String>>,
    batch: BTreeMap<String, Result<Value, String>>,
    masters: BTreeMap<String, Value>,
}

impl Reports {
    /// Asks all of them at once.
    pub(crate) async fn gather(
        forwarder: &Forwarder,
        services: &Services,
        catalog: &Catalog,
        masters: &Masters,
    ) -> Self {
        let ask = async |id: &str, address: &str, path: &str| {
            let url = format!("{}{path}", address.trim_end_matches('/'));
            (id.to_owned(), forwarder.json(url, TIMEOUT).await)
        };
        let speed = join_all(
            services
                .speed
                .iter()
                .map(|worker| ask(&worker.id, &worker.address, "/v1/status")),
        );
        let batch = join_all(
            services
                .batch
                .iter()
                .map(|lease| ask(&lease.id, &lease.address, "/v1/batch/status")),
        );
        let masters = join_all(catalog.sources.iter().map(async |(name, source)| {
            let landed = tokio::time::timeout(TIMEOUT, masters.size(source)).await;
            (
                name.clone(),
                landed_status(landed.unwrap_or_else(|_| Err(Error::Timeout { after: TIMEOUT }))),
            )
        }));
        let (speed, batch, masters) = tokio::join!(speed, batch, masters);
        Self {
            speed: speed.into_iter().collect(),
            batch: batch.into_iter().collect(),
            masters: masters.into_iter().collect(),
        }
    }
}

impl Reports {
    /// What a speed worker said of itself, or why it did not; `None` when it was not asked.
    pub(crate) fn of_speed(&self, id: &str) -> Option<&Result<Value, String>> {
        self.speed.get(id)
    }

    /// The same of a batch service.
    pub(crate) fn of_batch(&self, id: &str) -> Option<&Result<Value, String>> {
        self.batch.get(id)
    }
}

/// What was landed since the beginning, whichever process did it.
fn landed_status(size: Result<Option<TableSize>, Error>) -> Value {
    match size {
        Ok(None) => json!({"version": null, "events": 0, "dead_letters": 0, "files": 0, "bytes": 0}),
        Ok(Some(size)) => json!({
            "version": size.version,
            "events": size.events,
            "dead_letters": size.dead_letters,
            "files": size.files,
            "bytes": size.bytes,
        }),
        Err(error) => json!({"error": error.to_string()}),
    }
}

/// The document of `GET /v1/status`.
pub(crate) fn document(
    id: &str,
    catalog: &Catalog,
    published: &Published,
    services: &Services,
    reports: &Reports,
    now: DateTime<Utc>,
) -> Value {
    let sources: Map<String, Value> = catalog
        .sources
        .iter()
        .map(|(name, source)| (name.clone(), source_status(name, &source.topic, services, reports)))
        .collect();
    json!({
        "service": "serve",
        "id": id,
        "sources": sources,
        "publication": publication(published, now),
        "runs": reports.batch.values().find_map(|report| report.as_ref().ok()),
        "services": {
            "speed": services.speed.iter().map(|worker| service(&worker.id, &worker.address, reports.speed.get(&worker.id))).collect::<Vec<_>>(),
            "batch": services.batch.iter().map(|lease| service(&lease.id, &lease.address, reports.batch.get(&lease.id))).collect::<Vec<_>>(),
            "serve": services.serve.iter().map(|lease: &Lease| json!({"id": lease.id, "address": lease.address, "publication": lease.facts.get("publication")})).collect::<Vec<_>>(),
        },
        "speed": answered(&reports.speed),
    })
}

fn source_status(name: &str, topic: &str, services: &Services, reports: &Reports) -> Value {
    let partitions: Map<String, Value> = services
        .owners(name)
        .iter()
        .filter_map(|(partition, owner)| {
            let status = partition_status(name, *partition, owner, services, reports)?;
            Some((topic_partition(topic, *partition), status))
        })
        .collect();
    let total = |field: &str| -> Option<i64> {
        let values = partitions.values().filter_map(|partition| partition[field].as_i64());
        values.fold(None, |total, value| Some(total.unwrap_or(0) + value))
    };
    json!({
        "topic": topic,
        "partitions_total": services.partitions_total(name),
        "lag": total("lag"),
        "open_segments": total("open_segments"),
        "sealed_segments": total("sealed_segments"),
        "connected": connected(name, reports),
        "disconnected": disconnected(name, reports),
        "landed": reports.masters.get(name),
        "dead_letters": dead_letters(name, reports),
        "dead_letter_samples": samples(name, reports),
        "columns_never_seen": never_seen(name, reports),
        "partitions": partitions,
    })
}

/// One partition, as its owner tells; as the owner's lease says (at most some seconds old) when it does not answer.
pub(crate) fn partition_status(
    source: &str,
    partition: PartitionId,
    owner: &Owner,
    services: &Services,
    reports: &Reports,
) -> Option<Value> {
    let worker = services.speed.iter().find(|worker| worker.id == owner.worker)?;
    let leased = worker.facts.sources.get(source)?.owned.get(&partition)?;
    let told = match reports.speed.get(&owner.worker) {
        Some(Ok(report)) => report.pointer(&format!("/sources/{}/partitions/{partition}", escape(source))),
        _ => None,
    };
    let number = |field: &str| told.and_then(|told| told.get(field)).and_then(Value::as_i64);
    let next_consumed = number("next_consumed").unwrap_or(leased.next_consumed);
    let next_landed = number("next_landed").unwrap_or(leased.next_landed);
    let end = number("log_end").unwrap_or(leased.end);
    let segments = |field: &str| told.and_then(|told| told.get("segments")?.get(field));
    Some(json!({
        "owner": owner.worker,
        "epoch": owner.epoch,
        "next_consumed": next_consumed,
        "next_landed": next_landed,
        "end": end,
        "lag": (end - next_consumed).max(0),
        "not_landed": (next_consumed - next_landed).max(0),
        "open_segments": segments("open"),
        "sealed_segments": segments("sealed"),
    }))
}

/// A name as part of a JSON pointer (RFC 6901).
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// All landed dead letters, or those that live workers met since they started when these are more.
fn dead_letters(source: &str, reports: &Reports) -> Option<u64> {
    let seen: Vec<u64> = parts(source, reports)
        .filter_map(|part| part.get("dead_letters")?.as_u64())
        .collect();
    let since_start = (!seen.is_empty()).then(|| seen.iter().sum::<u64>());
    let landed = reports
        .masters
        .get(source)
        .and_then(|landed| landed.get("dead_letters")?.as_u64());
    landed.max(since_start)
}

/// The latest dead letters of each worker.
fn samples<'r>(source: &'r str, reports: &'r Reports) -> Vec<&'r Value> {
    parts(source, reports)
        .filter_map(|part| part.get("dead_letter_samples")?.as_array())
        .flatten()
        .collect()
}

/// Whether the log answers every worker that was asked; `None` when no worker can tell.
fn connected(source: &str, reports: &Reports) -> Option<bool> {
    if !disconnected(source, reports).is_empty() {
        return Some(false);
    }
    parts(source, reports).find_map(|part| part.pointer("/log/connected")?.as_bool())
}

/// Workers that the log does not answer, or that cannot open the source, and what they say. What they hold is served on.
fn disconnected<'r>(source: &str, reports: &'r Reports) -> BTreeMap<&'r str, &'r Value> {
    let reason = |report: &'r Value| {
        let waiting = report.get("waiting").and_then(|waiting| waiting.get(source));
        let log = report
            .get("sources")
            .and_then(|sources| sources.get(source)?.get("log"));
        let log = log.filter(|log| log.get("connected") == Some(&Value::Bool(false)));
        waiting.or(log).map(|told| told.get("error").unwrap_or(&Value::Null))
    };
    reports
        .speed
        .iter()
        .filter_map(|(id, report)| Some((id.as_str(), reason(report.as_ref().ok()?)?)))
        .collect()
}

/// Declared columns that no worker has seen in an event.
fn never_seen(source: &str, reports: &Reports) -> Option<Vec<String>> {
    let mut common: Option<Vec<String>> = None;
    for part in parts(source, reports) {
        let Some(columns) = part.get("columns_never_seen").and_then(Value::as_array) else {
            continue;
        };
        let columns: Vec<String> = columns
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        common = Some(match common {
            None => columns,
            Some(known) => known.into_iter().filter(|name| columns.contains(name)).collect(),
        });
    }
    common
}

fn parts<'r>(source: &'r str, reports: &'r Reports) -> impl Iterator<Item = &'r Value> {
    reports
        .speed
        .values()
        .filter_map(|report| report.as_ref().ok())
        .filter_map(move |report| report.get("sources")?.get(source))
}

fn publication(published: &Published, now: DateTime<Utc>) -> Value {
    let Some(publication) = &published.publication else {
        return Value::Null;
    };
    let age = DateTime::parse_from_rfc3339(&publication.published_at)
        .ok()
        .map(|at| (now - at.with_timezone(&Utc)).num_milliseconds().max(0) as f64 / 1e3);
    json!({
        "number": publication.number,
        "run_id": publication.manifest.run_id,
        "published_at": publication.published_at,
        "age_seconds": age,
        "cuts": publication.manifest.cuts,
        "views": published.views.keys().collect::<Vec<_>>(),
    })
}

fn service(id: &str, address: &str, report: Option<&Result<Value, String>>) -> Value {
    let error = match report {
        Some(Err(error)) => Some(error.as_str()),
        _ => None,
    };
    json!({"id": id, "address": address, "answers": error.is_none(), "error": error})
}

fn answered(reports: &BTreeMap<String, Result<Value, String>>) -> BTreeMap<&String, &Value> {
    reports
        .iter()
        .filter_map(|(id, report)| Some((id, report.as_ref().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests;
