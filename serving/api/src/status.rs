use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_catalog::Catalog;
use anabranch_dataset::Lease;
use anabranch_model::topic_partition;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use serde_json::{Map, Value, json};

use crate::adoption::Published;
use crate::directory::{Services, SpeedWorker};
use crate::forward::Forwarder;

/// A service that takes longer to tell its status is reported as not answering.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What every live service says of itself.
pub(crate) struct Reports {
    speed: BTreeMap<String, Result<Value, String>>,
    batch: BTreeMap<String, Result<Value, String>>,
}

impl Reports {
    /// Asks all of them at once.
    pub(crate) async fn gather(forwarder: &Forwarder, services: &Services) -> Self {
        let ask = async |id: &str, address: &str, path: &str| {
            let url = format!("{}{path}", address.trim_end_matches('/'));
            (id.to_owned(), forwarder.json(url, TIMEOUT).await)
        };
        let speed = join_all(services.speed.iter().map(|worker| ask(&worker.id, &worker.address, "/v1/status")));
        let batch = join_all(services.batch.iter().map(|lease| ask(&lease.id, &lease.address, "/v1/batch/status")));
        let (speed, batch) = tokio::join!(speed, batch);
        Self { speed: speed.into_iter().collect(), batch: batch.into_iter().collect() }
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
        "runs": first(&reports.batch, "runs"),
        "running": services.batch.iter().find_map(|lease| lease.facts.get("running")),
        "services": {
            "speed": services.speed.iter().map(|worker| service(&worker.id, &worker.address, reports.speed.get(&worker.id))).collect::<Vec<_>>(),
            "batch": services.batch.iter().map(|lease| service(&lease.id, &lease.address, reports.batch.get(&lease.id))).collect::<Vec<_>>(),
            "serve": services.serve.iter().map(|lease: &Lease| json!({"id": lease.id, "address": lease.address, "publication": lease.facts.get("publication")})).collect::<Vec<_>>(),
        },
        "speed": answered(&reports.speed),
        "batch": answered(&reports.batch),
    })
}

fn source_status(name: &str, topic: &str, services: &Services, reports: &Reports) -> Value {
    let mut partitions = Map::new();
    for (partition, owner) in services.owners(name) {
        let owned = services
            .speed
            .iter()
            .find(|worker| worker.id == owner.worker)
            .and_then(|worker: &SpeedWorker| worker.facts.sources.get(name)?.owned.get(&partition));
        let Some(owned) = owned else { continue };
        partitions.insert(
            topic_partition(topic, partition),
            json!({
                "owner": owner.worker,
                "epoch": owner.epoch,
                "next_consumed": owned.next_consumed,
                "next_landed": owned.next_landed,
                "end": owned.end,
                "lag": (owned.end - owned.next_consumed).max(0),
                "not_landed": (owned.next_consumed - owned.next_landed).max(0),
            }),
        );
    }
    let lag: i64 = partitions.values().filter_map(|partition| partition["lag"].as_i64()).sum();
    json!({
        "topic": topic,
        "partitions_total": services.partitions_total(name),
        "partitions": partitions,
        "lag": lag,
        "open_segments": sum(name, reports, "open_segments"),
        "sealed_segments": sum(name, reports, "sealed_segments"),
        "dead_letters": sum(name, reports, "dead_letters"),
        "columns_never_seen": never_seen(name, reports),
    })
}

/// What each worker says of its part, added up. `None` when nobody says.
fn sum(source: &str, reports: &Reports, field: &str) -> Option<u64> {
    let values = parts(source, reports).filter_map(|part| part.get(field)?.as_u64());
    values.fold(None, |total, value| Some(total.unwrap_or(0) + value))
}

/// Declared columns that no worker has seen in an event.
fn never_seen(source: &str, reports: &Reports) -> Option<Vec<String>> {
    let mut common: Option<Vec<String>> = None;
    for part in parts(source, reports) {
        let Some(columns) = part.get("columns_never_seen").and_then(Value::as_array) else { continue };
        let columns: Vec<String> = columns.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
        common = Some(match common {
            None => columns,
            Some(known) => known.into_iter().filter(|name| columns.contains(name)).collect(),
        });
    }
    common
}

fn parts<'r>(source: &'r str, reports: &'r Reports) -> impl Iterator<Item = &'r Value> {
    reports.speed.values().filter_map(|report| report.as_ref().ok()).filter_map(move |report| report.get("sources")?.get(source))
}

fn publication(published: &Published, now: DateTime<Utc>) -> Value {
    let Some(publication) = &published.publication else { return Value::Null };
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
    reports.iter().filter_map(|(id, report)| Some((id, report.as_ref().ok()?))).collect()
}

fn first<'r>(reports: &'r BTreeMap<String, Result<Value, String>>, field: &str) -> Option<&'r Value> {
    reports.values().find_map(|report| report.as_ref().ok()?.get(field))
}
