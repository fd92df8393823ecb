use std::time::Duration;

use anabranch_dataset::Environment;
use anabranch_realtime::Directory;
use anabranch_runtime::Shutdown;

use crate::Error;

/// Follows the leases of all services until shutdown.
pub(crate) async fn follow(
    directory: &Directory,
    environment: &Environment,
    every: Duration,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let mut failing = false;
    while !shutdown.is_cancelled() {
        match directory.refresh().await {
            Ok(()) => {
                failing = false;
                metrics::gauge!("anabranch_serving_speed_workers").set(directory.services().speed.len() as f64);
            }
            Err(error) => {
                // Once per outage: the poll is frequent.
                if !failing {
                    tracing::warn!(%error, "leases cannot be read; serving goes on with the last known ones");
                }
                failing = true;
            }
        }
        tokio::select! {
            biased;
            () = environment.sleep(every) => {}
            () = shutdown.cancelled() => {}
        }
    }
    Ok(())
}
