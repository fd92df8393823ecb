//! Follows the definitions log: adds, changes and drops views and tables while topologies run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_catalog::Source;
use anabranch_dataset::{Environment, Lease, Leases, Publication, Publications};
use anabranch_definitions::{Definitions, Follower, shadows};
use anabranch_log::PartitionedLog;
use anabranch_model::ErrorKind;
use anabranch_runtime::Shutdown;
use anabranch_view::View;

use crate::Error;
use crate::opening::{OpenLog, Opener, Opening};
use crate::program::LiveView;
use crate::source::SourceLayer;
use crate::sources::Sources;

/// After the last reader of a version of a view has gone, it stays this long for queries under way.
const GRACE: Duration = Duration::from_secs(5);
/// How soon a table that cannot be brought in line is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Versions of views, and whether each is current.
type Versions = Vec<(View, bool)>;
/// Logs by table name.
type Logs = BTreeMap<String, Arc<dyn PartitionedLog>>;

/// Brings what runs in line with the newest definitions.
pub(crate) struct Following {
    follower: Follower,
    publications: Publications,
    leases: Leases,
    opener: Arc<Opener>,
    /// Those that the layer was started with.
    logs: Logs,
    open_log: Option<Arc<dyn OpenLog>>,
    /// Versions that nobody needs any more (name and hash), and since when.
    unneeded: BTreeMap<(String, String), Instant>,
    /// Tables that cannot be brought in line: what was said of them, so that it is said once, and when.
    failing: BTreeMap<String, (String, Instant)>,
}

/// A serving process, as its lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reader {
    /// Definitions that it has adopted.
    definition: u64,
    /// Hashes of the versions it may still ask for, by name.
    views: BTreeMap<String, Vec<String>>,
}

impl Reader {
    fn of(lease: &Lease) -> Self {
        let facts = &lease.facts;
        let views = facts.get("views").cloned().unwrap_or_default();
        Self {
            definition: facts.get("definition").and_then(serde_json::Value::as_u64).unwrap_or(0),
            views: serde_json::from_value(views).unwrap_or_default(),
        }
    }

    fn reads(&self, name: &str, hash: &str) -> bool {
        self.views
            .get(name)
            .is_some_and(|hashes| hashes.iter().any(|known| known == hash))
    }
}

/// Whether somebody may still ask for a version that the newest definitions do not have.
fn is_needed(view: &View, newest: &Definitions, published: &BTreeMap<String, String>, readers: &[Reader]) -> bool {
    let (name, hash) = (view.name(), view.hash());
    if readers
        .iter()
        .any(|reader| reader.definition < newest.number || reader.reads(name, hash))
    {
        return true;
    }
    // Whoever starts to serve now begins with what is published.
    let replaced = newest
        .view(name)
        .is_none_or(|new| published.get(name) == Some(new.hash()));
    readers.is_empty() && !replaced
}

/// Hashes of the views in a publication, by name.
fn published_hashes(publication: Option<&Publication>) -> BTreeMap<String, String> {
    let views = publication
        .into_iter()
        .flat_map(|publication| &publication.manifest.views);
    views.map(|(name, view)| (name.clone(), view.hash.clone())).collect()
}

impl Following {
    /// On `logs` that are open already; tables that are declared later are opened by `open_log`.
    pub(crate) fn new(
        definitions: Arc<Definitions>,
        opener: Arc<Opener>,
        (logs, open_log): (Logs, Option<Arc<dyn OpenLog>>),
    ) -> Self {
        Self {
            follower: Follower::new(&opener.store, definitions),
            publications: Publications::new(&opener.store),
            leases: Leases::new(&opener.store),
            opener,
            logs,
            open_log,
            unneeded: BTreeMap::new(),
            failing: BTreeMap::new(),
        }
    }

    fn sources(&self) -> &Arc<Sources> {
        &self.opener.sources
    }

    /// Time, chance and threads of this process.
    fn environment(&self) -> &Environment {
        self.opener.store.environment()
    }

    /// Starts every source of the definitions. Those whose log or store does not answer are started later.
    ///
    /// # Errors
    /// The first that cannot be started, and for another reason.
    pub(crate) async fn start(&mut self) -> Result<(), Error> {
        let first = match self.first().await {
            Ok(first) => first,
            // Without what is published nobody knows which versions are to run.
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let sources = self.follower.newest().catalog.sources.values();
                sources.for_each(|source| self.opener.note_waiting(source, &error));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for (source, views) in first {
            let log = match self.logs.get(&source.name) {
                Some(log) => Arc::clone(log),
                None => self.open(&source).await?,
            };
            self.opener.begin(Opening { source, views, log }).await?;
        }
        Ok(())
    }

    /// Every source, and the versions of its views that it begins with.
    ///
    /// # Errors
    /// When what is published cannot be read.
    pub(crate) async fn first(&mut self) -> Result<Vec<(Arc<Source>, Versions)>, Error> {
        if let Err(error) = self.follower.poll().await {
            tracing::warn!(%error, "cannot follow the definitions log; trying again");
        }
        let published = published_hashes(self.publications.latest().await?.as_ref());
        let newest = Arc::clone(self.follower.newest());
        let sources = newest.catalog.sources.values();
        let first = sources.map(|source| {
            let views = self.versions(&source.name, &published, None, &[]);
            (Arc::clone(source), views)
        });
        Ok(first.collect())
    }

    /// Polls until shutdown.
    pub(crate) async fn follow(mut self, poll: Duration, shutdown: Shutdown) {
        let is_settled = |following: &Self| {
            let newest = following.follower.newest();
            let mut names = newest.catalog.sources.keys();
            newest.number == 0 && names.all(|name| following.sources().is_begun(name))
        };
        while !is_settled(&self) {
            tokio::select! {
                biased;
                () = self.environment().sleep(poll) => {}
                () = shutdown.cancelled() => return,
            }
            if let Err(error) = self.step().await {
                tracing::warn!(%error, "cannot follow definitions; trying again");
            }
        }
    }

    async fn step(&mut self) -> Result<(), Error> {
        self.follower.poll().await?;
        let newest = Arc::clone(self.follower.newest());
        let declared = &newest.catalog.sources;
        let mut dropped = self.sources().names();
        dropped.retain(|name| !declared.contains_key(name));
        let in_line = |layer: &Arc<SourceLayer>| {
            let program = layer.program();
            let current = newest.views.iter().filter(|view| view.source().name == layer.name());
            declared.get(layer.name()) == Some(&program.source)
                && program.views.iter().all(|live| live.current)
                && current.clone().count() == program.views.len()
                && current
                    .clone()
                    .all(|view| program.find(view.name(), view.hash()).is_some())
        };
        // One that waits for its log is brought in line as soon as it is open.
        let all_begun = declared.keys().all(|name| self.sources().is_begun(name));
        if dropped.is_empty() && all_begun && self.sources().layers().iter().all(in_line) {
            return Ok(());
        }
        let published = published_hashes(self.publications.latest().await?.as_ref());
        let readers: Vec<Reader> = self.leases.list("serve").await?.iter().map(Reader::of).collect();
        for source in declared.values() {
            let (name, running) = (&source.name, self.sources().layer(&source.name));
            let waits = running.is_none() && self.sources().is_begun(name);
            let failed = self
                .failing
                .get(name)
                .is_some_and(|(_, at)| self.environment().elapsed(*at) < RETRY);
            if waits || failed {
                continue;
            }
            let versions = self.versions(name, &published, running.as_deref(), &readers);
            // One table that cannot be brought in line keeps none of the others from it.
            match self.bring_in_line(source, running, versions).await {
                Ok(()) => drop(self.failing.remove(name)),
                Err(error) => {
                    let message = error.to_string();
                    if self.failing.get(name).is_none_or(|(said, _)| *said != message) {
                        tracing::error!(table = name, %error, "new definitions cannot be adopted; trying again");
                    }
                    let now = self.environment().instant();
                    self.failing.insert(name.clone(), (message, now));
                }
            }
        }
        if readers.iter().all(|reader| reader.definition >= newest.number) {
            dropped.iter().for_each(|name| self.sources().drop_source(name));
        }
        Ok(())
    }

    async fn bring_in_line(
        &self,
        source: &Arc<Source>,
        running: Option<Arc<SourceLayer>>,
        views: Versions,
    ) -> Result<(), Error> {
        let Some(layer) = running else {
            let (source, log) = (Arc::clone(source), self.open(source).await?);
            return self.opener.begin(Opening { source, views, log }).await;
        };
        let former = Arc::clone(&layer.program().source);
        if (former.partitions, former.retention) != (source.partitions, source.retention) {
            self.open(source).await?;
        }
        layer.adopt(source, views).await?;
        Ok(())
    }

    /// What a source's views are to be: the newest ones, those that answer for them meanwhile, and those that are read.
    fn versions(
        &mut self,
        source: &str,
        published: &BTreeMap<String, String>,
        running: Option<&SourceLayer>,
        readers: &[Reader],
    ) -> Versions {
        let newest = Arc::clone(self.follower.newest());
        let of_source = |view: &&View| view.source().name == source;
        let mut versions: Versions = newest
            .views
            .iter()
            .filter(of_source)
            .map(|view| (view.clone(), true))
            .collect();
        let known = |versions: &[(View, bool)], view: &View| {
            let same = |(other, _): &(View, bool)| other.name() == view.name() && other.hash() == view.hash();
            versions.iter().any(same)
        };
        // While they run, it is their readers who decide how long.
        let shadows = match running {
            Some(_) => Vec::new(),
            None => shadows(&newest, self.follower.earlier().iter().map(AsRef::as_ref), published),
        };
        for view in shadows.into_iter().filter(|view| of_source(&view)) {
            if !known(&versions, &view) {
                versions.push((view, false));
            }
        }
        let program = running.map(SourceLayer::program);
        let views = program.iter().flat_map(|program| &program.views);
        for LiveView { view, .. } in views {
            if known(&versions, view) {
                continue;
            }
            let key = (view.name().to_owned(), view.hash().clone());
            if is_needed(view, &newest, published, readers) {
                self.unneeded.remove(&key);
            } else {
                let now = self.environment().instant();
                let since = *self.unneeded.entry(key.clone()).or_insert(now);
                if now.saturating_duration_since(since) >= GRACE {
                    self.unneeded.remove(&key);
                    continue;
                }
            }
            versions.push((view.clone(), false));
        }
        versions
    }

    async fn open(&self, source: &Source) -> Result<Arc<dyn PartitionedLog>, Error> {
        let failed = |reason: String| Error::OpenLog {
            table: source.name.clone(),
            reason,
        };
        match &self.open_log {
            Some(open_log) => open_log.open(source).await.map_err(|error| failed(error.to_string())),
            None => self.logs.get(&source.name).cloned().ok_or_else(|| Error::NoLog {
                table: source.name.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
