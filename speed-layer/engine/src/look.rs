//! Looks at what a source's log and its master dataset hold: for the lease, for status pages, and so that changed exclusions
//! and claims of lost partitions are noticed; and, beside them, carries redrives out.
//!
//! The looks wait for nobody but whom they ask. A broker that is away holds up neither the lease nor a look at the store.

use std::sync::Arc;
use std::time::Duration;

use anabranch_log::Error as LogError;
use anabranch_model::OffsetVector;
use anabranch_runtime::Shutdown;

use crate::Error;
use crate::redrive;
use crate::source::{LandedRows, SourceLayer};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest wait between two questions to a log that does not answer.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A log that has been asked this long ago, and has not answered, is not connected.
const PATIENCE: Duration = Duration::from_secs(3);

/// Keeps looking until `shutdown`.
pub(crate) async fn run(layer: Arc<SourceLayer>, shutdown: Shutdown) {
    let look = async { tokio::join!(look_at_log(&layer), look_at_dataset(&layer), redrive::follow(&layer)) };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        _ = look => {}
    }
}

async fn look_at_log(layer: &SourceLayer) {
    let mut wait = LOOK_EVERY;
    loop {
        match ends(layer).await {
            Ok(ends) => {
                *layer.facts.log_ends.lock() = ends;
                layer.note_connection(None);
                wait = LOOK_EVERY;
            }
            Err(error) => {
                layer.note_connection(Some(error.to_string()));
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
        layer.environment().sleep(wait).await;
    }
}

/// Asks for the log's ends; says so when the answer takes its time.
async fn ends(layer: &SourceLayer) -> Result<OffsetVector, LogError> {
    let mut asked = layer.log.ends();
    tokio::select! {
        biased;
        ends = &mut asked => return ends,
        () = layer.environment().sleep(PATIENCE) => {}
    }
    layer.note_connection(Some(format!("no answer for {} seconds", PATIENCE.as_secs())));
    asked.await
}

async fn look_at_dataset(layer: &SourceLayer) {
    loop {
        if let Err(error) = count_landed(layer).await {
            tracing::debug!(table = layer.name(), %error, "cannot read the master dataset");
        }
        layer.environment().sleep(LOOK_EVERY).await;
    }
}

async fn count_landed(layer: &SourceLayer) -> Result<(), Error> {
    // The cut is cheap; counting all files is not where history is long.
    let version = layer.dataset.cut().await?.version;
    layer.drop_claimed();
    let seen = *layer.facts.landed_rows.lock();
    if seen.is_none_or(|seen| seen.version != version) {
        let size = layer.dataset.size().await?;
        *layer.facts.landed_rows.lock() = Some(LandedRows {
            version,
            events: size.events,
            dead_letters: size.dead_letters,
        });
    }
    Ok(())
}
