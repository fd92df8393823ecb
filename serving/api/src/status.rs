//! `GET /v1/status`: the platform as one service sees it.

mod visible;

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_catalog::Catalog;
use anabranch_dataset::Lease;
use anabranch_model::topic_partition;
use anabranch_realtime::Services;
use axum::extract::State;
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use crate::follow::adoption::Published;
use crate::follow::reports::{Reports, partition_status};
use crate::openapi;
use crate::service::Service;
use visible::visible;

/// Lag, segments, publication and services.
#[utoipa::path(get, path = "/v1/status", operation_id = "status", tag = "platform",
    responses((status = 200, description = "The platform as this service sees it.", body = openapi::Status)))]
pub(crate) async fn show(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
) -> Json<Value> {
    let services = service.directory.services();
    let published = service.adoption.pin();
    let reports = Reports::gather(&service.forwarder, &services, published.catalog(), &service.masters).await;
    let mut whole = document(
        &service.id,
        published.catalog(),
        &published,
        &services,
        &reports,
        Utc::now(),
    );
    let (running, waiting) = service.admission.counts();
    whole["queries"] = json!({"running": running, "waiting": waiting});
    let (running, waiting) = service.admission.looks();
    whole["live_looks"] = json!({"running": running, "waiting": waiting});
    Json(visible(whole, &principal, &published))
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
