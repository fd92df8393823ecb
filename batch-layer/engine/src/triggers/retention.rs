use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_dataset::{Notes, Publication};

use super::requests::Requests;
use crate::site::Site;
use crate::{Error, Trigger};

/// How soon a run for the same expiry is asked for again when the one before was not published.
const RETENTION_PAUSE: Duration = Duration::from_secs(60);

/// Watches for expired events that the latest publication still counts, and asks for the run that drops them.
pub(crate) async fn watch(requests: Arc<Requests>) -> Result<(), Error> {
    let site = &requests.site;
    let environment = site.environment();
    let mut asked: Option<Instant> = None;
    while requests.next_look().await {
        if !requests.leadership.is_leader()
            || requests.board.is_busy().await
            || asked.is_some_and(|at| environment.elapsed(at) < RETENTION_PAUSE)
        {
            continue;
        }
        match counts_expired(site).await {
            Ok(None) => {}
            Ok(Some(table)) => {
                tracing::info!(table, "events that are served have expired");
                requests.ask(Trigger::Retention).await;
                asked = Some(environment.instant());
            }
            Err(error) => tracing::warn!(%error, "cannot compare retention with the latest publication"),
        }
    }
    Ok(())
}

/// A table of which the latest publication counts events that have expired since.
async fn counts_expired(site: &Site) -> Result<Option<String>, Error> {
    let Some(publication) = site.publications.latest().await? else {
        return Ok(None);
    };
    for source in site.definitions.known().catalog.sources.values() {
        if let Some(dataset) = site.dataset(source).await? {
            let notes = dataset.notes().await?;
            if still_counted(&publication, &source.name, &notes) {
                return Ok(Some(source.name.clone()));
            }
        }
    }
    Ok(None)
}

/// Whether a publication counts events of `source` that have expired by these notes.
fn still_counted(publication: &Publication, source: &str, notes: &Notes) -> bool {
    let manifest = &publication.manifest;
    let Some(cut) = manifest.cuts.get(source) else {
        return false;
    };
    let nothing = Notes::default();
    let applied = manifest.notes.get(source).unwrap_or(&nothing);
    notes.since.iter().any(|(partition, since)| {
        // Of a partition that the cut does not reach, nothing is counted.
        let counted_from = applied.since.get(partition);
        cut.next.get(partition).is_some() && counted_from.is_none_or(|from| from < since)
    })
}

#[cfg(test)]
mod tests;
