//! What every service answers, and the status that is put together from what all of them say.
#![expect(dead_code, reason = "what is here describes; nobody calls or makes it")]

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

use super::answers::Unavailable;
use super::types::{Cut, Time};

#[derive(ToSchema)]
struct Health {
    service: String,
    status: String,
}

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz", operation_id = "health", tag = "platform",
    responses((status = 200, description = "It does.", body = Health)))]
pub(super) fn health() {}

/// Whether the service can do its work.
///
/// 503 before publications and leases were read, and from the moment the service is asked to stop.
#[utoipa::path(get, path = "/readyz", operation_id = "ready", tag = "platform",
    responses((status = 200, description = "It can.", body = Health), Unavailable))]
pub(super) fn ready() {}

/// Prometheus metrics of this process.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "platform",
    responses((status = 200, description = "Text exposition format 0.0.4.", body = String)))]
pub(super) fn metrics() {}

/// The platform as one serving process sees it. Who is no administrator sees less of it.
#[derive(ToSchema)]
pub(crate) struct Status {
    service: String,
    #[schema(required = false)]
    id: String,
    /// By the name of the table.
    #[schema(inline)]
    sources: BTreeMap<String, SourceStatus>,
    #[schema(required, inline)]
    publication: Option<PublicationStatus>,
    /// `GET /v1/batch/status` of the batch service that leads.
    #[schema(required = false)]
    runs: Value,
    #[schema(required = false, inline)]
    services: Services,
    /// What the speed workers say of themselves, by their ids.
    #[schema(required = false, value_type = Object)]
    speed: Value,
}

#[derive(ToSchema)]
struct SourceStatus {
    topic: String,
    #[schema(required)]
    lag: Option<i64>,
    #[schema(required)]
    dead_letters: Option<u64>,
    /// By `topic/partition`.
    #[schema(inline)]
    partitions: BTreeMap<String, PartitionStatus>,
    /// What the master dataset holds.
    #[schema(required = false)]
    landed: Value,
}

#[derive(ToSchema)]
struct PartitionStatus {
    owner: String,
    epoch: i64,
    next_consumed: i64,
    next_landed: i64,
    end: i64,
    lag: u64,
    not_landed: u64,
    open_segments: Value,
    sealed_segments: Value,
}

#[derive(ToSchema)]
struct PublicationStatus {
    number: u64,
    run_id: String,
    published_at: Time,
    #[schema(required)]
    age_seconds: Option<f64>,
    cuts: BTreeMap<String, Cut>,
    views: Vec<String>,
}

#[derive(ToSchema)]
struct Services {
    #[schema(inline)]
    speed: Vec<OneService>,
    #[schema(inline)]
    batch: Vec<OneService>,
    #[schema(inline)]
    serve: Vec<OneService>,
}

#[derive(ToSchema)]
struct OneService {
    id: String,
    address: String,
}
