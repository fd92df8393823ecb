//! The realtime state of one owned partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anabranch_model::realtime::Piece;
use anabranch_model::{Offset, OffsetRange, PartitionId, RangeSet};
use arrow::array::RecordBatch;
use parking_lot::Mutex;

use super::{Held, Lane, Run, common_end, merge};
use exclusions::{Exclusions, joined};
use reach::Reach;

mod exclusions;
mod reach;

/// How long a boundary between landings is kept after the next landing: a batch run that has read its snapshot must have
/// had time to say so in its lease.
const BOUNDARY_AGE: Duration = Duration::from_secs(60);

/// State of one partition from the moment reading starts until it is revoked, refused or restarted, or somebody else claims
/// it after it was lost.
///
/// Tuples in flight hold the state they belong to. When it is ended, whatever still arrives for it goes nowhere, so that
/// state which was discarded can never be revived by a late tuple.
pub(crate) struct PartitionState {
    pub(crate) partition: PartitionId,
    /// Ownership epoch under which it is read.
    pub(crate) epoch: i64,
    /// Where the partition begins.
    pub(crate) start: Offset,
    /// Where reading began.
    pub(crate) from: Offset,
    instances: usize,
    live: AtomicBool,
    given_up: AtomicBool,
    /// Since when the log's group has not given the partition to this worker (RFC 3339), while that is so.
    lost_since: Mutex<Option<String>>,
    consumed: AtomicI64,
    landed: AtomicI64,
    inner: Mutex<Inner>,
}

struct Inner {
    /// By the view's id; in each, lanes by ViewBolt instance.
    views: BTreeMap<usize, ViewState>,
    /// Of the newest program that a ViewBolt has met in this partition.
    generation: u64,
    /// Everything before it is in a landing, open or sealed. A later boundary can only lie at or behind it.
    gathered: Offset,
    boundaries: Boundaries,
    exclusions: Exclusions,
    reach: Reach,
}

struct ViewState {
    phase: ViewPhase,
    lanes: Vec<Lane>,
    /// What the state leaves out though it was read. Says nothing of positions that the state does not hold.
    excluded: RangeSet,
    /// Events before it had expired when the state's base was folded, and are not in it.
    since: Option<Offset>,
}

/// The views that a partition is read for, as of one generation of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    pub(crate) generation: u64,
    pub(crate) views: BTreeSet<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ViewPhase {
    Ready,
    /// Added while the partition was being read; nobody has begun to fold what lies before.
    New,
    /// Waiting for landed rows to be folded.
    Rebuilding,
}

/// Offsets at which runs must not be merged.
#[derive(Debug, Default)]
pub(crate) struct Boundaries {
    /// Ends of landings, and when the next landing was closed.
    landings: BTreeMap<Offset, Option<Instant>>,
    /// Cuts that are served, or that a running batch run will publish.
    cuts: BTreeSet<Offset>,
    /// Where the base that is being rebuilt will end.
    held: Option<Offset>,
}

impl Boundaries {
    fn seal(&mut self, at: Offset, now: Instant) {
        for superseded in self.landings.values_mut() {
            superseded.get_or_insert(now);
        }
        self.landings.insert(at, None);
    }

    fn is_barrier(&self, offset: Offset) -> bool {
        self.landings.contains_key(&offset) || self.cuts.contains(&offset) || self.held == Some(offset)
    }

    /// Forgets boundaries that no cut can lie on any more.
    fn forget_old(&mut self, now: Instant) {
        let old = |superseded: &Instant| now.saturating_duration_since(*superseded) >= BOUNDARY_AGE;
        self.landings
            .retain(|_, superseded| !superseded.as_ref().is_some_and(old));
    }
}

/// One view's part of what a snapshot asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) view: usize,
    /// `None`: from the partition's start.
    pub(crate) cut: Option<Offset>,
    pub(crate) until: Until,
}

/// How far a snapshot is to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// To the end of the prefix that all views and instances have.
    Newest,
    /// To this offset exactly.
    At(Offset),
    /// Not behind the cut: the partition had not begun.
    Cut,
}

/// One view's part of a frozen snapshot.
pub(crate) struct Frozen {
    pub(crate) piece: Piece,
    pub(crate) runs: Vec<Arc<Run>>,
    /// What of the piece's range is left out, being excluded.
    pub(crate) excluded: RangeSet,
    /// Events before it have expired, and are not in the runs.
    pub(crate) since: Option<Offset>,
    /// The served cut lies inside a run: the view must be rebuilt from landed rows.
    pub(crate) straddled: bool,
}

/// Runs to merge, away from any lock.
pub(crate) struct MergeJob {
    pub(crate) view: usize,
    pub(crate) runs: Vec<Arc<Run>>,
}

/// What a publication's cut means for what is held of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adoption {
    /// Nothing to do (yet).
    Keep,
    /// Runs before the cut are not needed any more.
    Drop,
    /// State does not reach back to the cut, or straddles it.
    Rebuild,
}

/// State folded from landed rows.
#[derive(Default)]
pub(crate) struct Base {
    pub(crate) runs: Vec<Run>,
    /// What it leaves out though it was landed.
    pub(crate) excluded: RangeSet,
    /// Events before it had expired.
    pub(crate) since: Option<Offset>,
}

impl From<Vec<Run>> for Base {
    fn from(runs: Vec<Run>) -> Self {
        Self {
            runs,
            ..Self::default()
        }
    }
}

/// How installing a rebuilt base went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Install {
    Done,
    /// A ViewBolt has not come that far yet; try again.
    NotYet,
    /// Runs have been merged across its end, or the state has ended; rebuild again or forget it.
    Outdated,
}

/// Segments of a partition, as its status counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct SegmentCounts {
    /// 1 when something was consumed that no landing has been closed over.
    pub(crate) open: usize,
    /// Closed landings whose boundaries are still kept apart.
    pub(crate) sealed: usize,
    /// Runs over all views and instances.
    pub(crate) runs: usize,
    pub(crate) bytes: usize,
}

impl PartitionState {
    /// A partition that is read from `from` on, of which nothing is held yet: every view is rebuilding.
    pub(crate) fn new(
        (partition, epoch): (PartitionId, i64),
        (start, from): (Offset, Offset),
        members: &Members,
        instances: usize,
    ) -> Arc<Self> {
        let views = members
            .views
            .iter()
            .map(|id| {
                (
                    *id,
                    ViewState::new(ViewPhase::Rebuilding, from, instances, RangeSet::new()),
                )
            })
            .collect();
        let mut boundaries = Boundaries::default();
        boundaries.landings.insert(from, None);
        Arc::new(Self {
            partition,
            epoch,
            start,
            from,
            instances,
            live: AtomicBool::new(true),
            given_up: AtomicBool::new(false),
            lost_since: Mutex::new(None),
            consumed: AtomicI64::new(from.0),
            landed: AtomicI64::new(from.0),
            inner: Mutex::new(Inner {
                views,
                generation: members.generation,
                gathered: from,
                boundaries,
                exclusions: Exclusions::default(),
                reach: Reach::default(),
            }),
        })
    }

    /// False once the state is discarded; whatever still refers to it is stale.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) {
        self.live.store(false, Ordering::Release);
        let mut inner = self.inner.lock();
        // Snapshots that are being read keep their runs; nobody else needs them.
        inner.views.clear();
    }

    /// Ends it for good: somebody else owns the partition, so reading must not resume.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.end();
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Since when the partition is lost, that is, not read on, and yet served as far as it was read: nobody else has it as
    /// far as is known. RFC 3339.
    pub(crate) fn lost_since(&self) -> Option<String> {
        self.lost_since.lock().clone()
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost_since.lock().is_some()
    }

    /// Notes that the group has taken the partition away without another owner being known, or (`None`) has given it back.
    pub(crate) fn set_lost(&self, since: Option<String>) {
        *self.lost_since.lock() = since;
    }

    pub(crate) fn consumed(&self) -> Offset {
        Offset(self.consumed.load(Ordering::Acquire))
    }

    pub(crate) fn set_consumed(&self, next: Offset) {
        self.consumed.store(next.0, Ordering::Release);
    }

    pub(crate) fn landed(&self) -> Offset {
        Offset(self.landed.load(Ordering::Acquire))
    }

    pub(crate) fn set_landed(&self, next: Offset) {
        self.landed.store(next.0, Ordering::Release);
    }

    /// Publishes one instance's state of a range, one entry per view, for queries to see.
    ///
    /// # Errors
    /// Returns the lane's end when the range does not begin there.
    pub(crate) fn publish(
        &self,
        instance: usize,
        range: OffsetRange,
        states: Vec<(usize, Option<RecordBatch>)>,
    ) -> Result<(), Offset> {
        // Sizes are computed before the lock is taken.
        let runs: Vec<(usize, Run)> = states
            .into_iter()
            .map(|(view, state)| (view, Run::new(range, state)))
            .collect();
        let mut inner = self.inner.lock();
        runs.into_iter()
            .try_for_each(|(view, run)| match inner.views.get_mut(&view) {
                Some(view) => view.lanes[instance].push(run),
                // Dropped by a newer program that another instance has met already.
                None => Ok(()),
            })
    }

    /// From `at` on the partition is read for other views: those that are new begin there, others end. The first instance
    /// that comes to this place does it for all.
    pub(crate) fn turn_to(&self, members: &Members, at: Offset) {
        let mut inner = self.inner.lock();
        if members.generation <= inner.generation || !self.is_live() {
            return;
        }
        inner.generation = members.generation;
        inner.views.retain(|id, _| members.views.contains(id));
        let excluded = inner.exclusions.live().clone();
        for id in &members.views {
            inner
                .views
                .entry(*id)
                .or_insert_with(|| ViewState::new(ViewPhase::New, at, self.instances, excluded.clone()));
        }
    }

    /// The open landing has taken everything before `end`.
    pub(crate) fn gather(&self, end: Offset) {
        let mut inner = self.inner.lock();
        inner.gathered = inner.gathered.max(end);
    }

    /// A landing is closed at `at`: what comes behind it belongs to the next segment.
    pub(crate) fn seal(&self, at: Offset, now: Instant) {
        self.inner.lock().boundaries.seal(at, now);
    }

    /// Tells which offsets are cuts that must stay boundaries, and lets old landings grow together.
    pub(crate) fn keep_cuts(&self, cuts: BTreeSet<Offset>, now: Instant) {
        let mut inner = self.inner.lock();
        inner.boundaries.cuts = cuts;
        inner.boundaries.forget_old(now);
    }

    /// What could be merged in one instance's lanes now.
    pub(crate) fn merge_jobs(&self, instance: usize) -> Vec<MergeJob> {
        let inner = self.inner.lock();
        let Some(limit) = inner.common_end().map(|end| end.min(inner.gathered)) else {
            return Vec::new();
        };
        let mut jobs = Vec::new();
        for (&view, state) in &inner.views {
            let runs = state.lanes[instance].runs();
            let sizes: Vec<_> = runs.iter().map(|run| (run.range, run.rows())).collect();
            if let Some(range) = merge::plan(&sizes, limit, |offset| inner.boundaries.is_barrier(offset)) {
                jobs.push(MergeJob {
                    view,
                    runs: runs[range].to_vec(),
                });
            }
        }
        jobs
    }

    /// Puts a merged run in the place of its parts, if they are all still there.
    pub(crate) fn replace(&self, instance: usize, job: &MergeJob, state: Option<RecordBatch>) -> bool {
        let (Some(first), Some(last)) = (job.runs.first(), job.runs.last()) else {
            return false;
        };
        let range = OffsetRange::new(first.range.start, last.range.end);
        let run = Run::new(range, state);
        let mut inner = self.inner.lock();
        // A cut may have come to lie inside while the merge ran.
        if job.runs[1..]
            .iter()
            .any(|run| inner.boundaries.is_barrier(run.range.start))
        {
            return false;
        }
        let Some(view) = inner.views.get_mut(&job.view) else {
            return false;
        };
        view.lanes[instance].replace(&job.runs, run)
    }

    /// Freezes one prefix for several views, each from its own cut.
    /// `None` for a view that the partition is not read under (yet, or any more).
    pub(crate) fn freeze(&self, wanted: &[Wanted]) -> Vec<Option<Frozen>> {
        let inner = self.inner.lock();
        let Some(common_end) = inner.common_end() else {
            return Vec::new();
        };
        let epoch = self.epoch;
        let mut frozen = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let Some(view) = inner.views.get(&wanted.view) else {
                frozen.push(None);
                continue;
            };
            let cut = wanted.cut.unwrap_or(self.start);
            let end = match wanted.until {
                Until::Newest => common_end,
                Until::At(until) => until,
                Until::Cut => cut,
            };
            let held_from = view.held_from();
            let (mut runs, mut straddled) = (Vec::new(), false);
            let piece = if view.phase != ViewPhase::Ready {
                Piece::Rebuilding {
                    epoch,
                    through: common_end,
                }
            } else if cut < held_from {
                Piece::CutTooOld { epoch, held_from }
            } else if cut.max(end) > common_end {
                Piece::CutAhead {
                    epoch,
                    through: common_end,
                }
            } else if cut > end {
                Piece::NoBoundary { epoch }
            } else if let Some(parts) = view
                .lanes
                .iter()
                .map(|lane| lane.between(cut, end))
                .collect::<Option<Vec<_>>>()
            {
                runs = parts
                    .into_iter()
                    .flatten()
                    .filter(|run| run.state.is_some())
                    .cloned()
                    .collect();
                Piece::Ready {
                    epoch,
                    range: OffsetRange::new(cut, end),
                }
            } else if wanted.until != Until::Newest {
                Piece::NoBoundary { epoch }
            } else {
                straddled = true;
                Piece::Rebuilding {
                    epoch,
                    through: common_end,
                }
            };
            let (mut excluded, mut since) = (RangeSet::new(), None);
            if let Piece::Ready { range, .. } = piece {
                excluded = view.excluded.within(range);
                since = view.since.filter(|since| range.start < *since);
            }
            frozen.push(Some(Frozen {
                piece,
                runs,
                excluded,
                since,
                straddled,
            }));
        }
        frozen
    }

    /// Whether the view was added while the partition was read, and still waits for somebody to fold what lies before.
    pub(crate) fn is_new(&self, view: usize) -> bool {
        let inner = self.inner.lock();
        inner.views.get(&view).is_some_and(|view| view.phase == ViewPhase::New)
    }

    /// Decides what `cut` means for a view; `may_drop` says that nobody reads an older cut any more.
    pub(crate) fn adopt(&self, view: usize, cut: Offset, may_drop: bool) -> Adoption {
        let inner = self.inner.lock();
        let Some(view) = inner.views.get(&view) else {
            return Adoption::Keep;
        };
        match view.phase {
            ViewPhase::Ready => {}
            ViewPhase::New => return Adoption::Rebuild,
            ViewPhase::Rebuilding => return Adoption::Keep,
        }
        let held: Vec<Held> = view.lanes.iter().map(|lane| lane.locate(cut)).collect();
        if held.iter().any(|held| matches!(held, Held::TooOld | Held::Straddles)) {
            Adoption::Rebuild
        } else if may_drop && cut > view.held_from() && held.iter().all(|held| matches!(held, Held::From { .. })) {
            Adoption::Drop
        } else {
            Adoption::Keep
        }
    }

    /// Drops what lies before the cut; returns the number of runs.
    pub(crate) fn drop_below(&self, view: usize, cut: Offset) -> usize {
        let mut inner = self.inner.lock();
        let Some(view) = inner.views.get_mut(&view) else {
            return 0;
        };
        view.lanes.iter_mut().map(|lane| lane.drop_below(cut)).sum()
    }

    /// Marks a view as rebuilding; false when it already is.
    pub(crate) fn begin_rebuild(&self, view: usize) -> bool {
        let mut inner = self.inner.lock();
        let Some(view) = inner.views.get_mut(&view) else {
            return false;
        };
        std::mem::replace(&mut view.phase, ViewPhase::Rebuilding) != ViewPhase::Rebuilding
    }

    /// Views that wait for a rebuild, or that go on answering while they do since exclusions have changed or a rollback comes;
    /// and the offset up to which rows must be landed before it can be done.
    pub(crate) fn rebuilding(&self) -> Vec<(usize, Offset)> {
        let inner = self.inner.lock();
        let consumed = self.consumed();
        let waiting = |(id, view): (&usize, &ViewState)| match view.phase {
            ViewPhase::Rebuilding => Some((*id, view.held_from())),
            ViewPhase::Ready => {
                let pending = inner.exclusions.pending(view, consumed);
                let excluded = pending.iter().last().map(|last| last.end);
                excluded.max(inner.reach.pending(*id, view)).map(|end| (*id, end))
            }
            ViewPhase::New => None,
        };
        inner.views.iter().filter_map(waiting).collect()
    }

    /// Where a view's state begins, while it can answer.
    pub(crate) fn answers_from(&self, view: usize) -> Option<Offset> {
        let inner = self.inner.lock();
        let view = inner.views.get(&view)?;
        (view.phase == ViewPhase::Ready).then(|| view.held_from())
    }

    /// Cuts that are served, or that a running batch run will publish.
    pub(crate) fn cuts(&self) -> BTreeSet<Offset> {
        self.inner.lock().boundaries.cuts.clone()
    }

    /// Keeps `at`, the end of a landing, a boundary until the base that ends there is installed.
    pub(crate) fn hold_boundary(&self, at: Offset) {
        self.inner.lock().boundaries.held = Some(at);
    }

    pub(crate) fn held_boundary(&self) -> Offset {
        self.inner.lock().boundaries.held.unwrap_or(self.from)
    }

    /// Puts rebuilt runs, which cover `[from, through)` without gaps, in the place of what lies before `through`. Takes
    /// `base` only when it is done.
    pub(crate) fn install(&self, view: usize, (from, through): (Offset, Offset), base: &mut Option<Base>) -> Install {
        let mut inner = self.inner.lock();
        let Some(view) = inner.views.get_mut(&view) else {
            return Install::Outdated;
        };
        for lane in &view.lanes {
            match lane.locate(through) {
                Held::From { .. } => {}
                Held::Ahead => return Install::NotYet,
                Held::TooOld | Held::Straddles => return Install::Outdated,
            }
        }
        let Base { runs, excluded, since } = base.take().unwrap_or_default();
        view.excluded = joined(&excluded, through, &view.excluded);
        view.since = since;
        let empty: Vec<_> = runs.iter().map(|run| Arc::new(Run::new(run.range, None))).collect();
        let base: Vec<_> = runs.into_iter().map(Arc::new).collect();
        for (instance, lane) in view.lanes.iter_mut().enumerate() {
            // State merges wherever it lies, so one lane takes it all.
            lane.rebase(from, through, if instance == 0 { base.clone() } else { empty.clone() });
        }
        view.phase = ViewPhase::Ready;
        Install::Done
    }

    pub(crate) fn segments(&self) -> SegmentCounts {
        let inner = self.inner.lock();
        let lanes = || inner.views.values().flat_map(|view| &view.lanes);
        let last_boundary = inner
            .boundaries
            .landings
            .keys()
            .next_back()
            .copied()
            .unwrap_or(self.from);
        SegmentCounts {
            open: usize::from(self.consumed() > last_boundary),
            sealed: inner.boundaries.landings.len().saturating_sub(1),
            runs: lanes().map(|lane| lane.runs().len()).sum(),
            bytes: lanes().map(Lane::bytes).sum(),
        }
    }

    /// Where each view's state begins, and its phase.
    pub(crate) fn views(&self) -> BTreeMap<usize, (Offset, ViewPhase)> {
        let inner = self.inner.lock();
        let views = inner.views.iter();
        views.map(|(id, view)| (*id, (view.held_from(), view.phase))).collect()
    }
}

impl Inner {
    fn common_end(&self) -> Option<Offset> {
        common_end(self.views.values().flat_map(|view| &view.lanes))
    }
}

impl ViewState {
    fn new(phase: ViewPhase, begin: Offset, instances: usize, excluded: RangeSet) -> Self {
        Self {
            phase,
            excluded,
            since: None,
            lanes: (0..instances).map(|_| Lane::new(begin)).collect(),
        }
    }

    fn held_from(&self) -> Offset {
        self.lanes.iter().map(Lane::begin).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
