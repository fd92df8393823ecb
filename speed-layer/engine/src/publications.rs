//! Follows the publication log: drops realtime state that a published batch view has replaced, and rebuilds what a
//! rollback wants back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_dataset::{Lease, Leases, Publication, Publications, Store};
use anabranch_model::{Cut, CutMap, Offset, PartitionId, crash_point};
use anabranch_runtime::Shutdown;
use anabranch_view::View;

use crate::Error;
use crate::exclusions;
use crate::program::LiveView;
use crate::rebuild;
use crate::source::SourceLayer;
use crate::sources::Sources;
use crate::state::Adoption;

/// After every reader has moved on to a publication, state it has replaced is kept this long for queries under way.
const GRACE: Duration = Duration::from_secs(5);
/// How often leases are read; they live for ten seconds.
const LEASE_POLL: Duration = Duration::from_secs(2);

/// The cut of a view in a publication; `None` when it is not in it under its present definition.
pub(crate) fn cut_of<'a>(publication: Option<&'a Publication>, view: &View, source: &str) -> Option<&'a Cut> {
    let manifest = &publication?.manifest;
    manifest
        .views
        .get(view.name())
        .filter(|published| published.hash == *view.hash())?;
    manifest.cuts.get(source)
}

/// Cuts of batch runs under way, from their leases.
pub(crate) fn running_cuts(leases: &[Lease]) -> Vec<CutMap> {
    let runs = leases
        .iter()
        .filter_map(|lease| lease.facts.get("running")?.as_array())
        .flatten();
    runs.filter_map(|run| serde_json::from_value(run.get("cuts")?.clone()).ok())
        .collect()
}

/// The oldest publication each serving process may still use.
fn pins(leases: &[Lease]) -> Vec<u64> {
    leases
        .iter()
        .map(|lease| {
            lease
                .facts
                .get("publication")
                .and_then(serde_json::Value::as_u64)
                .unwrap_or(0)
        })
        .collect()
}

/// When state before the cut of the latest publication may go.
#[derive(Debug, Default)]
struct Agreement {
    publication: Option<u64>,
    since: Option<Instant>,
}

impl Agreement {
    /// Takes the latest publication and what readers pin; says whether state it has replaced may be dropped.
    fn may_drop(&mut self, latest: Option<u64>, pins: &[u64], now: Instant) -> bool {
        let agreed = latest.filter(|latest| pins.iter().all(|pin| pin >= latest));
        if agreed.is_none() || self.publication != agreed {
            self.publication = agreed;
            self.since = agreed.map(|_| now);
        }
        self.since
            .is_some_and(|since| now.saturating_duration_since(since) >= GRACE)
    }
}

/// Polls publications and leases until shutdown.
pub(crate) async fn watch(
    sources: Arc<Sources>,
    store: Store,
    poll: Duration,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let (publications, leases) = (Publications::new(&store), Leases::new(&store));
    let mut pinned: BTreeMap<u64, Publication> = BTreeMap::new();
    let mut facts = LeaseFacts::default();
    let mut agreement = Agreement::default();
    let mut leases_read: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = store.environment().sleep(poll) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        sources.layers().iter().for_each(exclusions::follow);
        let looked = async {
            let latest = publications.latest().await?;
            if leases_read.is_none_or(|at| store.environment().elapsed(at) >= LEASE_POLL) {
                facts = LeaseFacts {
                    pins: pins(&leases.list("serve").await?),
                    running: running_cuts(&leases.list("batch").await?),
                };
                leases_read = Some(store.environment().instant());
            }
            pinned.retain(|number, _| facts.pins.contains(number));
            for pin in &facts.pins {
                if *pin > 0
                    && !pinned.contains_key(pin)
                    && let Some(publication) = publications.get(*pin).await?
                {
                    pinned.insert(*pin, publication);
                }
            }
            Ok::<_, Error>(latest)
        };
        match looked.await {
            Ok(latest) => {
                let now = store.environment().instant();
                let may_drop = agreement.may_drop(latest.as_ref().map(|p| p.number), &facts.pins, now);
                let cuts: Vec<&CutMap> = latest
                    .iter()
                    .chain(pinned.values())
                    .map(|p| &p.manifest.cuts)
                    .chain(&facts.running)
                    .collect();
                for layer in &sources.layers() {
                    adopt(layer, latest.as_ref(), may_drop, &cuts, now);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot follow the publication log; trying again"),
        }
    }
}

#[derive(Default)]
struct LeaseFacts {
    pins: Vec<u64>,
    running: Vec<CutMap>,
}

fn adopt(layer: &Arc<SourceLayer>, latest: Option<&Publication>, may_drop: bool, cuts: &[&CutMap], now: Instant) {
    let mut rebuilding = Vec::new();
    let program = layer.program();
    for state in layer.partitions() {
        state.keep_cuts(cuts_of(cuts, layer.name(), state.partition), now);
        for LiveView { id, view, current } in &program.views {
            let (index, published) = (*id, cut_of(latest, view, layer.name()).is_some());
            // A version that a publication has replaced stays as it is until its last reader has gone.
            if !current && !published && !state.is_new(index) {
                continue;
            }
            let cut = cut_of(latest, view, layer.name())
                .and_then(|cut| cut.next.get(state.partition))
                .unwrap_or(state.start);
            match state.adopt(index, cut, may_drop) {
                Adoption::Keep => {}
                Adoption::Drop => {
                    crash_point!("expire.before");
                    let runs = state.drop_below(index, cut);
                    crash_point!("expire.after");
                    tracing::debug!(table = layer.name(), view = view.name(), partition = %state.partition, %cut, runs, "dropped what a batch view has replaced");
                }
                Adoption::Rebuild => {
                    if state.begin_rebuild(index) && !rebuilding.iter().any(|other| Arc::ptr_eq(other, &state)) {
                        rebuilding.push(Arc::clone(&state));
                    }
                }
            }
        }
    }
    if !rebuilding.is_empty() {
        tracing::info!(
            table = layer.name(),
            partitions = rebuilding.len(),
            "realtime state does not fit the publication's cut; rebuilding it"
        );
        let rebuilder = Arc::clone(layer);
        layer.spawn(async move { rebuild::run(&rebuilder, rebuilding).await });
    }
}

fn cuts_of(cuts: &[&CutMap], source: &str, partition: PartitionId) -> BTreeSet<Offset> {
    cuts.iter()
        .filter_map(|cuts| cuts.get(source)?.next.get(partition))
        .collect()
}

#[cfg(test)]
mod tests;
