//! Taking partitions over: claim, resume, and what is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::Start;
use anabranch_dataset::{Claim, Owned};
use anabranch_model::{Offset, OffsetVector, PartitionId};
use tokio::sync::mpsc;

use crate::Error;
use crate::program::Program;
use crate::rebuild;
use crate::source::SourceLayer;
use crate::state::PartitionState;

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// What the spout is told.
pub(crate) enum Command {
    /// The partition is ours: read it from `state.from` on.
    Start {
        state: Arc<PartitionState>,
        /// What `state` was made for.
        program: Arc<Program>,
    },
    /// Somebody else has claimed the partition: it is not read.
    NotOurs { partition: PartitionId },
}

/// Claims partitions, hands their empty states to the spout, and folds what is landed behind its back.
pub(crate) async fn claim(layer: Arc<SourceLayer>, partitions: Vec<PartitionId>, spout: mpsc::Sender<Command>) {
    let claimed = retry(&layer, "claiming partitions", || try_claim(&layer, &partitions)).await;
    match claimed {
        Ok(owned) => start(&layer, owned, &spout).await,
        Err(Error::Stopping) => {}
        Err(error) => layer.fail(error),
    }
}

/// Reads a partition again after its unlanded state was discarded, unless somebody else has claimed it.
pub(crate) async fn resume(layer: Arc<SourceLayer>, partition: PartitionId, epoch: i64, spout: mpsc::Sender<Command>) {
    let recorded = retry(&layer, "reading the recorded next offset", || async {
        Ok(layer.dataset.snapshot(None).await?)
    })
    .await;
    let snapshot = match recorded {
        Ok(snapshot) => snapshot,
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
            start(&layer, [(partition, owned)].into(), &spout).await;
        }
        _ => {
            tracing::error!(table = layer.name(), %partition, "another worker owns the partition; it is given up");
            // The spout is gone only when the topology has ended.
            let _ = spout.send(Command::NotOurs { partition }).await;
        }
    }
}

async fn start(layer: &Arc<SourceLayer>, owned: BTreeMap<PartitionId, Owned>, spout: &mpsc::Sender<Command>) {
    let mut states = Vec::new();
    let program = layer.program();
    for (partition, owned) in owned {
        let id = (partition, owned.epoch);
        let state = PartitionState::new(id, (owned.start, owned.next), &program.members(), layer.view_bolts);
        layer.set_partition(&state);
        states.push(Arc::clone(&state));
        let program = Arc::clone(&program);
        if spout.send(Command::Start { state, program }).await.is_err() {
            return;
        }
    }
    rebuild::run(layer, states).await;
}

async fn try_claim(layer: &SourceLayer, partitions: &[PartitionId]) -> Result<BTreeMap<PartitionId, Owned>, Error> {
    let (begins, ends) = (layer.log.begins().await?, layer.log.ends().await?);
    let starts = match layer.source.start {
        Start::Earliest => begins.clone(),
        Start::Latest => ends.clone(),
        Start::Timestamp(at_ms) => layer.log.offsets_at(at_ms).await?,
    };
    let claims: Vec<Claim> = partitions
        .iter()
        .map(|partition| Claim {
            partition: *partition,
            start: starts.get(*partition).unwrap_or_default(),
        })
        .collect();
    let owned = layer.dataset.claim(&claims, &layer.worker_id).await?;
    for (partition, owned) in &owned {
        check_log(layer, *partition, owned.next, (&begins, &ends))?;
    }
    Ok(owned)
}

/// Refuses a log that does not continue what was landed.
fn check_log(
    layer: &SourceLayer,
    partition: PartitionId,
    next: Offset,
    (begins, ends): (&OffsetVector, &OffsetVector),
) -> Result<(), Error> {
    let table = || layer.source.name.clone();
    let log_end = ends.get(partition).unwrap_or_default();
    if log_end < next {
        return Err(Error::LogShorter {
            table: table(),
            partition,
            log_end,
            landed: next,
        });
    }
    let log_begin = begins.get(partition).unwrap_or_default();
    if log_begin > next {
        return Err(Error::LogTruncated {
            table: table(),
            partition,
            log_begin,
            next,
        });
    }
    Ok(())
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
            () = layer.environment().sleep(wait) => wait = (wait * 2).min(LAST_RETRY),
            () = layer.shutdown.cancelled() => return Err(Error::Stopping),
        }
    }
}
