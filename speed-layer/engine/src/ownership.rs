//! Taking partitions over: claim, look again at what is recorded, read on what was lost for a while, and what cannot be read
//! on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::{OnGap, Start};
use anabranch_dataset::{Claim, LandOutcome, Owned};
use anabranch_model::{OffsetRange, OffsetVector, PartitionId};
use tokio::sync::mpsc;

use crate::Error;
use crate::hold::Wanted;
use crate::program::Program;
use crate::rebuild;
use crate::source::{SourceLayer, Stopped, now_rfc3339};
use crate::state::PartitionState;

const FIRST_RETRY: Duration = Duration::from_millis(200);
/// Nobody reads a partition that waits to be claimed.
const LAST_RETRY: Duration = Duration::from_secs(3);
/// How often a log must be found too short before it is believed, and how long between two looks.
const SHORTER_LOOKS: usize = 3;
const SHORTER_WAIT: Duration = Duration::from_millis(500);

/// What the spout is told.
pub(crate) enum Command {
    /// The partition is ours: read it from `state.from` on.
    Start {
        state: Arc<PartitionState>,
        /// What `state` was made for.
        program: Arc<Program>,
    },
    /// Nobody has claimed the partition since it was lost: it is read on from where it was left.
    ReadOn { partition: PartitionId },
    /// Somebody else has claimed the partition: it is not read.
    NotOurs { partition: PartitionId },
    /// It is to be claimed, if it is still wanted.
    NotClaimed { partition: PartitionId },
    /// It is ours, and cannot be read on.
    Stopped { partition: PartitionId },
}

/// Where a log begins and ends.
struct Extent {
    begins: OffsetVector,
    ends: OffsetVector,
}

/// Claims partitions, hands their empty states to the spout, and folds what is landed behind its back.
pub(crate) async fn claim(layer: Arc<SourceLayer>, wanted: Vec<Wanted>, spout: mpsc::Sender<Command>) {
    let claimed = retry(&layer, "claiming partitions", || try_claim(&layer, &wanted)).await;
    match claimed {
        Ok((owned, extent)) => {
            for wanted in wanted.iter().filter(|wanted| !owned.contains_key(&wanted.partition)) {
                let partition = wanted.partition;
                // The spout is gone only when the topology has ended.
                let _ = spout.send(Command::NotClaimed { partition }).await;
            }
            admit(&layer, owned, &extent, &spout).await;
        }
        Err(Error::Stopping) => {}
        Err(error) => layer.fail(error),
    }
}

/// Reads a partition again from what is recorded, unless somebody else has claimed it: after its unlanded state was
/// discarded, or when its place in the log was not held.
pub(crate) async fn resume(layer: Arc<SourceLayer>, wanted: Wanted, epoch: i64, spout: mpsc::Sender<Command>) {
    let partition = wanted.partition;
    let look = || async {
        // What is recorded is read first: the log is never behind it.
        let snapshot = layer.dataset.snapshot(None).await?;
        Ok((snapshot, extent(&layer).await?))
    };
    let (snapshot, extent) = match retry(&layer, "reading the recorded next offset", look).await {
        Ok(found) => found,
        Err(Error::Stopping) => return,
        Err(error) => return layer.fail(error),
    };
    let still_ours = snapshot.epochs.get(&partition) == Some(&epoch);
    match snapshot.next.get(partition).zip(snapshot.starts.get(partition)) {
        Some((next, begin)) if still_ours => {
            let owned = Owned {
                epoch,
                next,
                start: begin,
            };
            admit(&layer, [(partition, owned)].into(), &extent, &spout).await;
        }
        _ => {
            let _ = spout.send(Command::NotOurs { partition }).await;
        }
    }
}

/// Decides whether a partition that was lost and has come back is read on from where it was left: if nobody has claimed it in
/// between, which the recorded epoch tells, and the log is still the one that was read.
pub(crate) async fn read_on(layer: Arc<SourceLayer>, wanted: Wanted, epoch: i64, spout: mpsc::Sender<Command>) {
    let partition = wanted.partition;
    let look = || async { Ok(layer.dataset.epoch(partition).await?) };
    let decided = async {
        let recorded = retry(&layer, "reading the recorded epoch", look).await?;
        refuse_shorter(&layer).await?;
        Ok(recorded == Some(epoch))
    };
    let command = match decided.await {
        Ok(true) => Command::ReadOn { partition },
        Ok(false) => Command::NotClaimed { partition },
        Err(Error::Stopping) => return,
        Err(error) => return layer.fail(error),
    };
    let _ = spout.send(command).await;
}

/// Starts the partitions that the log continues, and stops those that it does not.
async fn admit(
    layer: &Arc<SourceLayer>,
    owned: BTreeMap<PartitionId, Owned>,
    extent: &Extent,
    spout: &mpsc::Sender<Command>,
) {
    if let Err(error) = refuse_shorter(layer).await {
        return match error {
            Error::Stopping => {}
            error => layer.fail(error),
        };
    }
    let mut going = BTreeMap::new();
    for (partition, owned) in owned {
        let begin = extent.begins.get(partition).unwrap_or_default();
        if begin <= owned.next {
            going.insert(partition, owned);
            continue;
        }
        let lost = OffsetRange::new(owned.next, begin);
        let command = match layer.source.on_gap {
            OnGap::Stop => Some(stop(layer, partition, lost)),
            OnGap::Record => match record(layer, partition, lost, owned.epoch).await {
                Ok(true) => {
                    going.insert(
                        partition,
                        Owned {
                            next: lost.end,
                            ..owned
                        },
                    );
                    None
                }
                Ok(false) => Some(Command::NotOurs { partition }),
                Err(Error::Stopping) => return,
                Err(error) => return layer.fail(error),
            },
        };
        if let Some(command) = command {
            let _ = spout.send(command).await;
        }
    }
    start(layer, going, spout).await;
}

fn stop(layer: &SourceLayer, partition: PartitionId, lost: OffsetRange) -> Command {
    let error = Error::LogTruncated {
        table: layer.source.name.clone(),
        topic: layer.log.topic().to_owned(),
        partition,
        lost,
    };
    tracing::error!(table = layer.name(), %partition, %error, "the partition is stopped; the others go on");
    metrics::counter!("anabranch_lost_offsets_total", "table" => layer.source.name.clone())
        .increment(lost.len().unsigned_abs());
    let stopped = Stopped {
        since: now_rfc3339(layer.environment()),
        error: error.to_string(),
        lost: [lost.start.0, lost.end.0],
    };
    layer.facts.stopped.lock().insert(partition, stopped);
    Command::Stopped { partition }
}

/// Records a gap; false when somebody else has claimed the partition or landed meanwhile.
async fn record(layer: &SourceLayer, partition: PartitionId, lost: OffsetRange, epoch: i64) -> Result<bool, Error> {
    let recorded = retry(layer, "recording a gap", || async {
        Ok(layer.dataset.record_gap(partition, lost, epoch).await?)
    })
    .await?;
    metrics::counter!("anabranch_lost_offsets_total", "table" => layer.source.name.clone())
        .increment(lost.len().unsigned_abs());
    Ok(matches!(recorded, LandOutcome::Landed { .. }))
}

async fn start(layer: &Arc<SourceLayer>, owned: BTreeMap<PartitionId, Owned>, spout: &mpsc::Sender<Command>) {
    let mut states = Vec::new();
    let program = layer.program();
    for (partition, owned) in owned {
        let id = (partition, owned.epoch);
        let state = PartitionState::new(id, (owned.start, owned.next), &program.members(), layer.view_bolts);
        state.exclude(&layer.dataset.known_notes().excluded_of(partition));
        layer.set_partition(&state);
        states.push(Arc::clone(&state));
        let program = Arc::clone(&program);
        if spout.send(Command::Start { state, program }).await.is_err() {
            return;
        }
    }
    rebuild::run(layer, states).await;
}

/// Claims what is still wanted.
async fn try_claim(layer: &SourceLayer, wanted: &[Wanted]) -> Result<(BTreeMap<PartitionId, Owned>, Extent), Error> {
    let extent = extent(layer).await?;
    let starts = match layer.source.start {
        Start::Earliest => extent.begins.clone(),
        Start::Latest => extent.ends.clone(),
        Start::Timestamp(at_ms) => layer.log.offsets_at(at_ms).await?,
    };
    let claims: Vec<Claim> = wanted
        .iter()
        .filter(|wanted| wanted.is_wanted())
        .map(|wanted| Claim {
            partition: wanted.partition,
            start: starts.get(wanted.partition).unwrap_or_default(),
        })
        .collect();
    let owned = layer.dataset.claim_from(&claims, &starts, &layer.worker_id).await?;
    Ok((owned, extent))
}

async fn extent(layer: &SourceLayer) -> Result<Extent, Error> {
    let (begins, ends) = (layer.log.begins().await?, layer.log.ends().await?);
    Ok(Extent { begins, ends })
}

/// Refuses a log that is shorter than what was landed of it, in any partition: such a log was cut or replaced, and none of
/// its other partitions can be trusted either. One that says so once may have a broker that has just come up.
async fn refuse_shorter(layer: &SourceLayer) -> Result<(), Error> {
    for look in 1.. {
        let found = retry(layer, "comparing the log with what was landed", || async {
            let recorded = layer.dataset.cut().await?.next;
            Ok(shorter(layer, &recorded, &layer.log.ends().await?))
        })
        .await?;
        match found {
            None => return Ok(()),
            Some(error) if look == SHORTER_LOOKS => return Err(error),
            Some(_) => layer.environment().sleep(SHORTER_WAIT).await,
        }
    }
    Ok(())
}

/// The first partition that ends before what was landed of it.
pub(crate) fn shorter(layer: &SourceLayer, recorded: &OffsetVector, ends: &OffsetVector) -> Option<Error> {
    let end = |partition| ends.get(partition).unwrap_or_default();
    let (partition, landed) = recorded.iter().find(|(partition, next)| end(*partition) < *next)?;
    Some(Error::LogShorter {
        table: layer.source.name.clone(),
        topic: layer.log.topic().to_owned(),
        partition,
        log_end: end(partition),
        landed,
    })
}

/// Repeats what may succeed later, with growing waits, until it does or the source is stopped.
pub(crate) async fn retry<T, F>(layer: &SourceLayer, what: &str, mut attempt: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>> + Send,
{
    let mut wait = FIRST_RETRY;
    loop {
        match attempt().await {
            Err(error) if error.is_passing() => {
                tracing::warn!(table = layer.name(), %error, ?wait, "{what} failed; trying again");
                metrics::counter!("anabranch_speed_retries_total", "table" => layer.source.name.clone()).increment(1);
            }
            done => return done,
        }
        tokio::select! {
            biased;
            () = layer.environment().sleep(wait) => wait = (wait * 2).min(LAST_RETRY),
            () = layer.shutdown.cancelled() => return Err(Error::Stopping),
        }
    }
}
