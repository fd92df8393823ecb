//! Requests that other services answer: batch runs and ingestion.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::rejections::BODY_BYTES;
use crate::Error;
use crate::forward::Onward;
use crate::service::Service;

/// How to see what became of a command to the batch layer that was not answered.
const LOOK_AT_RUNS: &str = "GET /v1/batch/runs (`anabranch runs`) and GET /v1/batch/maintenance show whether it did; if the service has \
     died, another takes over within a quarter of a minute";
/// What to think of events whose ingestion was not answered.
const LOOK_AT_LOG: &str = "all, some or none of the events may be in the log, and those that are there would be counted twice if they were \
     sent again; GET /v1/status shows `log_end` of each partition, and queries show what has arrived";

pub(super) async fn to_batch(State(service): State<Arc<Service>>, request: Request) -> Result<Response, Error> {
    let services = service.directory.services();
    let turn = service.directory.next_turn(services.batch.len());
    let lease = services.batch.get(turn).ok_or_else(|| Error::NoService {
        message: "no batch service is alive".into(),
        hint: "start one with `anabranch batch`".into(),
    })?;
    let onward = Onward {
        address: &lease.address,
        limit_bytes: BODY_BYTES,
        look: LOOK_AT_RUNS,
    };
    service.forwarder.forward(onward, request).await
}

pub(super) async fn to_speed(State(service): State<Arc<Service>>, request: Request) -> Result<Response, Error> {
    let services = service.directory.services();
    let turn = service.directory.next_turn(services.speed.len());
    let worker = services.speed.get(turn).ok_or_else(|| Error::NoService {
        message: "no speed worker is alive".into(),
        hint: "start one with `anabranch speed`".into(),
    })?;
    let onward = Onward {
        address: &worker.address,
        limit_bytes: service.settings.serving.max_ingest_body.get(),
        look: LOOK_AT_LOG,
    };
    service.forwarder.forward(onward, request).await
}
