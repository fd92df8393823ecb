//! Follows the publication log: drops realtime state that a published batch view has replaced, and rebuilds what a
//! rollback wants back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_dataset::{Lease, Leases, Publication, Publications, Store};
use anabranch_model::{Cut, CutMap, Offset, PartitionId, crash_point};
use anabranch_runtime::Shutdown;
use anabranch_view::View;

use crate::Error;
use crate::exclusions;
use crate::program::{LiveView, Program};
use crate::rebuild;
use crate::source::SourceLayer;
use crate::sources::Sources;
use crate::state::{Adoption, PartitionState};

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

/// The publication that a batch service is about to roll back to, from its lease.
fn rollback(leases: &[Lease]) -> Option<u64> {
    leases.iter().find_map(|lease| lease.facts.get("rollback")?.as_u64())
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

/// Which publications every reader has moved on to, and since when: state that the newest one of long enough standing has
/// replaced may go. Publications may come faster than readers say which one they use, so several are on their way.
#[derive(Debug, Default)]
struct Agreement {
    /// Ascending.
    reached: VecDeque<(u64, Instant)>,
}

impl Agreement {
    /// Takes the latest publication and what readers pin; returns the publication whose predecessors nobody reads any more.
    fn settled(&mut self, latest: Option<u64>, pins: &[u64], now: Instant) -> Option<u64> {
        let oldest = pins.iter().copied().chain(latest).min()?;
        // A reader that has just come, and uses nothing yet, holds everything.
        while self.reached.back().is_some_and(|(number, _)| *number > oldest) {
            self.reached.pop_back();
        }
        if oldest > 0 && self.reached.back().is_none_or(|(number, _)| *number < oldest) {
            self.reached.push_back((oldest, now));
        }
        let settled = |(_, since): &(u64, Instant)| now.saturating_duration_since(*since) >= GRACE;
        while self.reached.get(1).is_some_and(settled) {
            self.reached.pop_front();
        }
        self.reached
            .front()
            .filter(|entry| settled(entry))
            .map(|(number, _)| *number)
    }

    /// Publications that are settled or will be.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        self.reached.iter().map(|(number, _)| *number)
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
    // Those that readers pin, and those on their way to being settled: state stays divided at their cuts.
    let mut kept: BTreeMap<u64, Publication> = BTreeMap::new();
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
            // Leases first: a run or a rollback that has gone from them is in the publication log.
            if leases_read.is_none_or(|at| store.environment().elapsed(at) >= LEASE_POLL) {
                let batch = leases.list("batch").await?;
                facts = LeaseFacts {
                    pins: pins(&leases.list("serve").await?),
                    running: running_cuts(&batch),
                    rollback: rollback(&batch),
                };
                leases_read = Some(store.environment().instant());
            }
            let latest = publications.latest().await?;
            let now = store.environment().instant();
            let settled = agreement.settled(latest.as_ref().map(|p| p.number), &facts.pins, now);
            let pins = facts.pins.iter().copied();
            let needed: BTreeSet<u64> = agreement.numbers().chain(pins).chain(facts.rollback).collect();
            kept.retain(|number, _| needed.contains(number));
            for number in needed.into_iter().filter(|number| *number > 0) {
                if kept.contains_key(&number) {
                    continue;
                }
                let publication = match &latest {
                    Some(latest) if latest.number == number => Some(latest.clone()),
                    _ => publications.get(number).await?,
                };
                kept.extend(publication.map(|publication| (number, publication)));
            }
            Ok::<_, Error>((latest, settled))
        };
        match looked.await {
            Ok((latest, settled)) => {
                let now = store.environment().instant();
                let cuts: Vec<&CutMap> = latest
                    .iter()
                    .chain(kept.values())
                    .map(|p| &p.manifest.cuts)
                    .chain(&facts.running)
                    .collect();
                let wanted = Wanted {
                    latest: latest.as_ref(),
                    settled: settled.and_then(|number| kept.get(&number)),
                    rollback: facts.rollback.and_then(|number| kept.get(&number)),
                };
                let layers = sources.layers();
                layers.iter().for_each(|layer| adopt(layer, &wanted, &cuts, now));
                let held = wanted
                    .rollback
                    .filter(|publication| layers.iter().all(|layer| reaches(layer, publication)));
                sources.hold(held.map(|publication| publication.number));
            }
            Err(error) => tracing::warn!(%error, "cannot follow the publication log; trying again"),
        }
    }
}

#[derive(Default)]
struct LeaseFacts {
    pins: Vec<u64>,
    running: Vec<CutMap>,
    rollback: Option<u64>,
}

/// Publications that state has to do with.
struct Wanted<'p> {
    latest: Option<&'p Publication>,
    /// Nobody reads an older one any more.
    settled: Option<&'p Publication>,
    /// About to be published again (ARCHITECTURE.md, rule 5).
    rollback: Option<&'p Publication>,
}

/// Lets a source's state follow the latest publication, reach back for a rollback, and drop what is not needed for either.
fn adopt(layer: &Arc<SourceLayer>, wanted: &Wanted<'_>, cuts: &[&CutMap], now: Instant) {
    let &Wanted {
        latest,
        settled,
        rollback,
    } = wanted;
    let (mut rebuilding, mut reaching) = (Vec::new(), Vec::new());
    let program = layer.program();
    for state in layer.partitions() {
        state.keep_cuts(cuts_of(cuts, layer.name(), state.partition), now);
        let reach = rollback.map(|publication| cuts_by_view(layer, &program, &state, publication));
        if state.reach_back(reach.unwrap_or_default()) && state.begin_reach() {
            reaching.push(Arc::clone(&state));
        }
        for LiveView { id, view, current } in &program.views {
            let (index, published) = (*id, cut_of(latest, view, layer.name()).is_some());
            // A version that a publication has replaced stays as it is until its last reader has gone.
            if !current && !published && !state.is_new(index) {
                continue;
            }
            let cut_in =
                |publication| cut_of(publication, view, layer.name()).and_then(|cut| cut.next.get(state.partition));
            let cut = cut_in(latest).unwrap_or(state.start);
            // A rollback may have lowered the cut since, or is about to.
            let lowest = state.reach_of(index).map_or(cut, |reach| reach.min(cut));
            let droppable = cut_in(settled).map(|settled| settled.min(lowest));
            if state.adopt(index, cut, false) == Adoption::Rebuild {
                if state.begin_rebuild(index) && !rebuilding.iter().any(|other| Arc::ptr_eq(other, &state)) {
                    rebuilding.push(Arc::clone(&state));
                }
            } else if let Some(cut) = droppable
                && state.adopt(index, cut, true) == Adoption::Drop
            {
                crash_point!("expire.before");
                let runs = state.drop_below(index, cut);
                crash_point!("expire.after");
                tracing::debug!(table = layer.name(), view = view.name(), partition = %state.partition, %cut, runs, "dropped what a batch view has replaced");
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
    if !reaching.is_empty() {
        tracing::info!(
            table = layer.name(),
            partitions = reaching.len(),
            publication = rollback.map(|publication| publication.number),
            "a rollback comes; folding what lies behind its cut"
        );
        let folder = Arc::clone(layer);
        layer.spawn(async move {
            rebuild::run(&folder, reaching.clone()).await;
            reaching.iter().for_each(|state| state.end_reach());
        });
    }
}

/// Whether all of a source's state could answer from a publication's cut on.
fn reaches(layer: &SourceLayer, publication: &Publication) -> bool {
    let program = layer.program();
    let partitions = layer.partitions();
    partitions
        .iter()
        .all(|state| state.reaches(&cuts_by_view(layer, &program, state, publication)))
}

/// Where a publication's cut lies in a partition, by view.
fn cuts_by_view(
    layer: &SourceLayer,
    program: &Program,
    state: &PartitionState,
    publication: &Publication,
) -> BTreeMap<usize, Offset> {
    let current = program.views.iter().filter(|live| live.current);
    let cut = |LiveView { id, view, .. }: &LiveView| {
        let cut = cut_of(Some(publication), view, layer.name()).and_then(|cut| cut.next.get(state.partition));
        (*id, cut.unwrap_or(state.start))
    };
    current.map(cut).collect()
}

fn cuts_of(cuts: &[&CutMap], source: &str, partition: PartitionId) -> BTreeSet<Offset> {
    cuts.iter()
        .filter_map(|cuts| cuts.get(source)?.next.get(partition))
        .collect()
}

#[cfg(test)]
mod tests;
