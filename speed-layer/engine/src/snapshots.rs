//! Frozen snapshots: one prefix of the log per partition for several views, kept for their reader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anabranch_dataset::Environment;
use anabranch_model::PartitionId;
use anabranch_model::realtime::{
    SNAPSHOT_TTL_SECONDS, SnapshotReply, SnapshotRequest, StateTicket, ViewCut, ViewPieces,
};
use anabranch_view::{KeyFilter, View};
use arrow::array::RecordBatch;
use parking_lot::Mutex;

use crate::Error;
use crate::rebuild;
use crate::sources::Sources;
use crate::state::{Run, Until, Wanted};

/// Snapshots kept at most; the oldest goes first. Each holds references only, but they keep replaced state alive.
const MAX_SNAPSHOTS: usize = 4096;
/// A view in more batches than this is merged before it is sent. Below it the reader, who merges anyway, does it all.
const MERGE_ABOVE: usize = 16;
/// So few groups to look at, for so short a filter, are read where the request arrives: handing them to another thread and
/// back would take longer.
const QUICK_GROUPS: usize = 8192;
const QUICK_FILTER_BYTES: usize = 4096;

pub(crate) struct Snapshots {
    sources: Arc<Sources>,
    worker_id: String,
    next_id: AtomicU64,
    kept: Mutex<BTreeMap<u64, Arc<Snapshot>>>,
}

struct Snapshot {
    expires: Instant,
    views: BTreeMap<String, FrozenView>,
}

struct FrozenView {
    view: View,
    partitions: BTreeMap<PartitionId, Vec<Arc<Run>>>,
}

/// What a request wants of one view's state of one partition.
fn wanted(view: usize, asked: &ViewCut, partition: PartitionId) -> Wanted {
    Wanted {
        view,
        cut: asked.cut.get(partition),
        until: match &asked.until {
            None => Until::Newest,
            Some(until) => until.get(partition).map_or(Until::Cut, Until::At),
        },
    }
}

impl Snapshots {
    /// Ids begin at a number of chance: a worker that is started again goes by the same name at the same address, and must
    /// not hand out its own state to somebody who asks for what its predecessor froze.
    pub(crate) fn new(sources: Arc<Sources>, worker_id: String, environment: &Environment) -> Self {
        Self {
            sources,
            worker_id,
            next_id: AtomicU64::new(environment.random_up_to(u64::MAX / 2)),
            kept: Mutex::default(),
        }
    }

    /// Freezes what the request asks for. A view this worker does not run under that hash is left out of the reply.
    pub(crate) fn freeze(&self, request: &SnapshotRequest, now: Instant) -> SnapshotReply {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut reply = SnapshotReply {
            id,
            worker: self.worker_id.clone(),
            views: BTreeMap::new(),
        };
        let mut frozen_views = BTreeMap::new();
        for layer in &self.sources.layers() {
            let program = layer.program();
            let asked: Vec<_> = request
                .views
                .iter()
                .filter_map(|asked| {
                    let live = program.find(&asked.view, &asked.hash)?;
                    Some((live.id, live.view.clone(), asked))
                })
                .collect();
            for (_, view, asked) in &asked {
                reply.views.insert(asked.view.clone(), ViewPieces::default());
                frozen_views.insert(
                    asked.view.clone(),
                    FrozenView {
                        view: view.clone(),
                        partitions: BTreeMap::new(),
                    },
                );
            }
            if asked.is_empty() {
                continue;
            }
            let mut straddled = Vec::new();
            for state in layer.partitions() {
                let cuts: Vec<_> = asked
                    .iter()
                    .map(|(id, _, asked)| wanted(*id, asked, state.partition))
                    .collect();
                for ((id, _, asked), frozen) in asked.iter().zip(state.freeze(&cuts)) {
                    let Some(frozen) = frozen else { continue };
                    if frozen.straddled && state.begin_rebuild(*id) {
                        straddled.push(Arc::clone(&state));
                    }
                    if let Some(pieces) = reply.views.get_mut(&asked.view) {
                        pieces.partitions.insert(state.partition, frozen.piece);
                        if !frozen.excluded.is_empty() {
                            pieces.excluded.insert(state.partition, frozen.excluded);
                        }
                        if let Some(since) = frozen.since {
                            pieces.since.set(state.partition, since);
                        }
                    }
                    if let Some(view) = frozen_views.get_mut(&asked.view) {
                        view.partitions.insert(state.partition, frozen.runs);
                    }
                }
            }
            if !straddled.is_empty() {
                let rebuilder = Arc::clone(layer);
                layer.spawn(async move { rebuild::run(&rebuilder, straddled).await });
            }
        }
        self.keep(
            id,
            Snapshot {
                expires: now + Duration::from_secs(SNAPSHOT_TTL_SECONDS),
                views: frozen_views,
            },
            now,
        );
        reply
    }

    fn keep(&self, id: u64, snapshot: Snapshot, now: Instant) {
        let mut kept = self.kept.lock();
        let mut gone = take_expired(&mut kept, now);
        while kept.len() >= MAX_SNAPSHOTS {
            gone.extend(kept.pop_first());
        }
        kept.insert(id, Arc::new(snapshot));
        drop(kept);
        // Outside of the lock: with the last snapshot of it, replaced state is given back.
        drop(gone);
    }

    /// Lets go of snapshots nobody has come back for.
    pub(crate) fn expire(&self, now: Instant) {
        let gone = take_expired(&mut self.kept.lock(), now);
        drop(gone);
    }

    /// One view's state in a snapshot, ready to be read.
    ///
    /// # Errors
    /// When the snapshot has expired, the view is not in it, or the filter is wrong.
    pub(crate) fn open(&self, ticket: &StateTicket) -> Result<Reading, Error> {
        let snapshot = self
            .kept
            .lock()
            .get(&ticket.snapshot)
            .cloned()
            .ok_or(Error::UnknownSnapshot(ticket.snapshot))?;
        let frozen = snapshot
            .views
            .get(&ticket.view)
            .ok_or_else(|| Error::UnknownView(ticket.view.clone()))?;
        let filter = ticket
            .filter
            .as_deref()
            .map(|sql| frozen.view.key_filter(sql))
            .transpose()?;
        let wanted = |partition: &PartitionId| ticket.partitions.is_empty() || ticket.partitions.contains(partition);
        let runs = frozen
            .partitions
            .iter()
            .filter(|(partition, _)| wanted(partition))
            .flat_map(|(_, runs)| runs.iter().cloned());
        Ok(Reading {
            view: frozen.view.clone(),
            filter,
            runs: runs.collect(),
        })
    }

    /// Whether a ticket can be opened in passing.
    pub(crate) fn opens_quickly(ticket: &StateTicket) -> bool {
        ticket
            .filter
            .as_ref()
            .is_none_or(|filter| filter.len() <= QUICK_FILTER_BYTES)
    }
}

/// Takes out what has expired. Snapshots expire in the order of their ids, but for those that were frozen at the same moment.
fn take_expired(kept: &mut BTreeMap<u64, Arc<Snapshot>>, now: Instant) -> Vec<(u64, Arc<Snapshot>)> {
    let mut gone = Vec::new();
    while let Some(oldest) = kept.first_entry().filter(|oldest| oldest.get().expires <= now) {
        gone.push(oldest.remove_entry());
    }
    gone
}

/// One view's state in a snapshot.
pub(crate) struct Reading {
    view: View,
    filter: Option<KeyFilter>,
    runs: Vec<Arc<Run>>,
}

impl Reading {
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Whether it is read in less time than it takes to hand it to another thread.
    pub(crate) fn is_quick(&self) -> bool {
        let ranges = self.filter.as_ref().and_then(KeyFilter::ranges);
        let groups = self.runs.iter().map(|run| match ranges {
            Some(ranges) => run.groups_to_look_at(ranges),
            None => run.rows(),
        });
        groups.sum::<usize>() <= QUICK_GROUPS
    }

    /// The state, merged if it is in many pieces. CPU-heavy, unless it [is quick](Self::is_quick).
    ///
    /// # Errors
    /// When the view cannot filter or merge it.
    pub(crate) fn state(&self) -> Result<Vec<RecordBatch>, Error> {
        let mut batches = Vec::new();
        for run in &self.runs {
            batches.extend(run.select(&self.view, self.filter.as_ref())?);
        }
        if batches.len() > MERGE_ABOVE {
            let mut aggregator = self.view.aggregator()?;
            batches.iter().try_for_each(|batch| aggregator.merge(batch))?;
            batches = vec![aggregator.emit()?];
        }
        Ok(batches)
    }
}

#[cfg(test)]
mod tests;
