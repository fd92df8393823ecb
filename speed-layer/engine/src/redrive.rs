//! Produces dead letters again, as the table's log of redrives asks.
//!
//! Whoever owns partition 0 carries redrives out, one after the other. What a redrive has produced is known by a header of
//! the landed records, so a worker that takes over in the middle of one produces the rest: no letter is left out, and none is
//! produced twice unless its former worker still had an append on its way when it lost the partition.

use std::sync::Arc;
use std::time::Duration;

use anabranch_dataset::{Finished, Letters, Redrive, RedriveLog, Snapshot, WhichLetters, dead_letters, redriven_since};
use anabranch_model::{OffsetVector, PartitionId, RawRecord, crash_point};
use futures::TryStreamExt;

use crate::Error;
use crate::source::SourceLayer;
use crate::state::PartitionState;

/// How often the log of redrives is read.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often to look whether what is in the log is landed.
const LANDED_WAIT: Duration = Duration::from_millis(200);
/// The partition whose owner carries redrives out. Every topic has it.
const LEADER: PartitionId = PartitionId(0);
/// Records, and bytes, of one append.
const APPEND_RECORDS: usize = 5_000;
const APPEND_BYTES: usize = 4 << 20;

/// Carries redrives out for as long as it is polled.
pub(crate) async fn follow(layer: &SourceLayer) {
    let log = RedriveLog::new(&layer.store, layer.name());
    // The first that is not known to be through.
    let mut next = 1;
    loop {
        layer.environment().sleep(LOOK_EVERY).await;
        let Some(leader) = leader(layer) else { continue };
        match step(layer, &log, &leader, next).await {
            Ok(true) => next += 1,
            Ok(false) => {}
            Err(error) => tracing::warn!(table = layer.name(), redrive = next, %error, "a redrive waits; trying again"),
        }
    }
}

fn leader(layer: &SourceLayer) -> Option<Arc<PartitionState>> {
    let mut states = layer.partitions().into_iter();
    states.find(|state| state.partition == LEADER && leads(state))
}

/// Carries out one redrive, if it has been asked for; says whether it is through.
async fn step(layer: &SourceLayer, log: &RedriveLog, leader: &PartitionState, number: u64) -> Result<bool, Error> {
    let Some(redrive) = log.get(number).await? else {
        return Ok(false);
    };
    if log.done(number).await?.is_some() {
        return Ok(true);
    }
    let landed = wait_until_landed(layer, leader).await?;
    let found = redriven_since(&layer.store, &landed, &redrive.from, number).await?;
    let rest = redrive.letters.minus(&found);
    tracing::info!(
        table = layer.name(),
        redrive = number,
        letters = redrive.count,
        found = found.count(),
        "producing dead letters again"
    );
    let produced = produce(layer, leader, &redrive, &landed, rest.clone()).await?;
    let counts = Finished {
        produced,
        found: found.count(),
        gone: rest.count().saturating_sub(produced),
    };
    log.finish(number, &layer.worker_id, counts).await?;
    metrics::counter!("anabranch_redriven_total", "table" => layer.source.name.clone()).increment(produced);
    tracing::info!(table = layer.name(), redrive = number, ?counts, "redriven");
    Ok(true)
}

/// Waits until whatever is in the log now is landed: an earlier attempt's records with it.
async fn wait_until_landed(layer: &SourceLayer, leader: &PartitionState) -> Result<Snapshot, Error> {
    let ends = layer.log.ends().await?;
    loop {
        let next: OffsetVector = layer.dataset.cut().await?.next;
        let landed = |(partition, end)| next.get(partition).is_some_and(|next| next >= end);
        if ends.iter().all(landed) {
            return Ok(layer.dataset.snapshot(None).await?);
        }
        check_leader(leader)?;
        layer.environment().sleep(LANDED_WAIT).await;
    }
}

/// One that has lost the partition may have a successor that is about to claim it.
fn leads(state: &PartitionState) -> bool {
    state.is_live() && !state.is_lost()
}

fn check_leader(leader: &PartitionState) -> Result<(), Error> {
    if leads(leader) { Ok(()) } else { Err(Error::NoLeader) }
}

/// Produces these letters; returns how many were still there.
async fn produce(
    layer: &SourceLayer,
    leader: &PartitionState,
    redrive: &Redrive,
    snapshot: &Snapshot,
    letters: Letters,
) -> Result<u64, Error> {
    let which = WhichLetters {
        only: Some(letters),
        ..WhichLetters::default()
    };
    let mut found = Box::pin(dead_letters(&layer.store, snapshot, which));
    let (mut records, mut bytes, mut produced) = (Vec::new(), 0, 0);
    while let Some(letters) = found.try_next().await? {
        for letter in letters {
            let record = letter.again(redrive.number);
            bytes += size(&record);
            records.push(record);
            if records.len() >= APPEND_RECORDS || bytes >= APPEND_BYTES {
                bytes = 0;
                produced += append(layer, leader, std::mem::take(&mut records)).await?;
            }
        }
    }
    Ok(produced + append(layer, leader, records).await?)
}

fn size(record: &RawRecord) -> usize {
    let headers = record.headers.iter().map(|(name, value)| name.len() + value.len());
    record.key.as_ref().map_or(0, Vec::len) + record.payload.as_ref().map_or(0, Vec::len) + headers.sum::<usize>()
}

/// Appends records, unless somebody else has taken the leading partition over.
async fn append(layer: &SourceLayer, leader: &PartitionState, records: Vec<RawRecord>) -> Result<u64, Error> {
    if records.is_empty() {
        return Ok(0);
    }
    let recorded = layer.dataset.epoch(LEADER).await?;
    check_leader(leader)?;
    if recorded != Some(leader.epoch) {
        return Err(Error::NoLeader);
    }
    let count = records.len() as u64;
    crash_point!("redrive.append.before");
    layer.log.append(records).await?;
    crash_point!("redrive.append.after");
    Ok(count)
}
