//! What lies in the store of a run: its state files, and its place in the publication log.

use anabranch_dataset::{BatchView, Publication, Publications, RunManifest, Runs, Store};
use anabranch_model::{ErrorKind, crash_point};
use chrono::{TimeDelta, Utc};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::Error;
use crate::site::Site;

/// Publishes, and settles what an unclear answer of the store left open.
pub(crate) async fn publish(publications: &Publications, computed: RunManifest) -> Result<Publication, Error> {
    let run_id = computed.manifest.run_id.clone();
    match publications.publish(computed.based_on, computed.manifest).await {
        Ok(publication) => Ok(publication),
        Err(error) if error.kind() == ErrorKind::Unavailable => match publication_of(publications, &run_id).await {
            Ok(Some(publication)) => Ok(publication),
            _ => Err(Error::PublicationUnclear(error)),
        },
        Err(error) => Err(error.into()),
    }
}

/// The publication of a run, if there is one by now. Run ids sort by time, so the log need only be read back to where it is
/// older than the run. It is not listed: a listing may be behind.
pub(crate) async fn publication_of(publications: &Publications, run_id: &str) -> Result<Option<Publication>, Error> {
    let newest = publications.latest().await?.map_or(0, |newest| newest.number);
    for number in (1..=newest).rev() {
        let Some(publication) = publications.get(number).await? else {
            continue;
        };
        if publication.manifest.run_id == run_id {
            return Ok(Some(publication));
        }
        if is_older(&publication, run_id) {
            break;
        }
    }
    Ok(None)
}

/// How far the clocks of machines that publish may be apart.
const CLOCKS_APART: TimeDelta = TimeDelta::hours(1);

/// Whether the publication was made before the run was created, by whatever clock either was timed.
fn is_older(publication: &Publication, run_id: &str) -> bool {
    let Ok(published_at) = publication.published_at.parse::<chrono::DateTime<Utc>>() else {
        return false;
    };
    let latest = (published_at + CLOCKS_APART).format("%Y%m%dT%H%M%SZ").to_string();
    latest.as_str() < run_id.split('-').next().unwrap_or(run_id)
}

/// Removes a failed run's state files; its record stays. Only for runs that have not tried to publish, or were told that
/// another one was first, or that another one has overtaken: from any other a publication may yet appear. Does nothing if one refers to the run.
pub(crate) async fn remove_results(site: &Site, run_id: &str) -> Result<(), Error> {
    if publication_of(&site.publications, run_id).await?.is_some() {
        return Ok(());
    }
    let folder = Runs::folder(run_id);
    let found = site.store.list(&folder).await?;
    for object in found {
        if object.location.extension() != Some("parquet") {
            continue;
        }
        crash_point!("run.remove_results.before");
        site.store.remove(object.location).await?;
        crash_point!("run.remove_results.after");
    }
    Ok(())
}

/// Whether a batch view's files are all there: it must not be published without.
pub(crate) async fn check_files(store: &Store, view: &BatchView) -> Result<(), Error> {
    for file in &view.files {
        let path = Path::parse(&file.path).map_err(|error| Error::Gone(format!("{}: {error}", file.path)))?;
        match store.objects().head(&path).await {
            Ok(found) if found.size == file.bytes => {}
            Ok(found) => {
                return Err(Error::Gone(format!(
                    "{path} has {} bytes and not the {} that the manifest names",
                    found.size, file.bytes
                )));
            }
            Err(object_store::Error::NotFound { .. }) => return Err(Error::Gone(path.to_string())),
            Err(source) => {
                return Err(Error::Fetch {
                    path: path.to_string(),
                    source,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
