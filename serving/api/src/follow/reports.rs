//! What other services say of themselves when they are asked.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_catalog::Catalog;
use anabranch_dataset::TableSize;
use anabranch_model::PartitionId;
use anabranch_model::realtime::Owner;
use anabranch_realtime::Services;
use futures::future::join_all;
use serde_json::{Value, json};

use super::masters::Masters;
use crate::Error;
use crate::forward::Forwarder;

/// A service that takes longer to tell its status is reported as not answering.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What every live service says of itself, and what the master datasets hold.
pub(crate) struct Reports {
    pub(crate) speed: BTreeMap<String, Result<Value, String>>,
    pub(crate) batch: BTreeMap<String, Result<Value, String>>,
    pub(crate) masters: BTreeMap<String, Value>,
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
