//! Whatever happens in whatever order, an answer holds exactly the events between its cut and its end.

use std::sync::Arc;

use anabranch_model::realtime::Piece;
use arrow::array::Int64Array;
use arrow::compute::concat_batches;
use proptest::prelude::*;

use super::tests::{newest, views};
use super::*;

const INSTANCES: usize = 3;

/// One thing that can happen to a partition.
#[derive(Clone, Debug)]
enum Step {
    /// The spout delivers a batch of so many records.
    Deliver(i64),
    /// An instance folds its next batch.
    Fold(usize),
    /// The LandBolt gathers its next batch.
    Gather,
    Seal,
    /// An instance computes its merges; they are put in place after so many further steps.
    Merge(usize, usize),
    /// Time passes, in seconds.
    Wait(u64),
    /// A batch run starts from the newest sealed landing; its cut must stay a boundary.
    StartRun,
    /// That run is published, and state before its cut dropped.
    Publish,
    /// A query with the served cut, and one with any offset.
    Query(i64),
    /// A view is rebuilt from landed rows.
    Rebuild,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6i64).prop_map(Step::Deliver),
        8 => (0..INSTANCES).prop_map(Step::Fold),
        4 => Just(Step::Gather),
        2 => Just(Step::Seal),
        4 => (0..INSTANCES, 0..5usize).prop_map(|(instance, delay)| Step::Merge(instance, delay)),
        1 => (1..90u64).prop_map(Step::Wait),
        1 => Just(Step::StartRun),
        1 => Just(Step::Publish),
        3 => (0..200i64).prop_map(Step::Query),
        1 => Just(Step::Rebuild),
    ]
}

fn rows(offsets: impl IntoIterator<Item = i64>) -> Option<RecordBatch> {
    let offsets = Int64Array::from_iter_values(offsets);
    Some(RecordBatch::try_from_iter([("offset", Arc::new(offsets) as _)]).unwrap())
}

/// State that is simply the list of offsets it was folded from: nothing lost or doubled can hide in it.
struct Model {
    state: Arc<PartitionState>,
    /// Ends of the delivered batches, the first entry being where reading began.
    ends: Vec<i64>,
    folded: [usize; INSTANCES],
    gathered: usize,
    sealed: i64,
    served: i64,
    running: Option<i64>,
    now: Instant,
    merges: Vec<(usize, usize, MergeJob)>,
}

impl Model {
    fn new() -> Self {
        let state = PartitionState::new((PartitionId(0), 1), (Offset(0), Offset(0)), &views([0]), INSTANCES);
        assert_eq!(
            state.install(0, (Offset(0), Offset(0)), &mut Some(Base::default())),
            Install::Done
        );
        Self {
            state,
            ends: vec![0],
            folded: [0; INSTANCES],
            gathered: 0,
            sealed: 0,
            served: 0,
            running: None,
            now: Instant::now(),
            merges: Vec::new(),
        }
    }

    fn keep_cuts(&self) {
        let cuts = [Some(self.served), self.running]
            .into_iter()
            .flatten()
            .map(Offset)
            .collect();
        self.state.keep_cuts(cuts, self.now);
    }

    fn apply(&mut self, step: &Step) {
        for merge in &mut self.merges {
            merge.1 = merge.1.saturating_sub(1);
        }
        let (due, later): (Vec<_>, _) = std::mem::take(&mut self.merges)
            .into_iter()
            .partition(|merge| merge.1 == 0);
        self.merges = later;
        for (instance, _, job) in due {
            let states: Vec<_> = job.runs.iter().filter_map(|run| run.state.as_ref()).collect();
            let merged = states
                .first()
                .map(|first| concat_batches(first.schema_ref(), states.iter().copied()).unwrap());
            self.state.replace(instance, &job, merged);
        }
        match *step {
            Step::Deliver(count) => self.ends.push(self.ends[self.ends.len() - 1] + count),
            Step::Fold(instance) if self.folded[instance] + 1 < self.ends.len() => {
                let batch = self.folded[instance];
                let (start, end) = (self.ends[batch], self.ends[batch + 1]);
                let mine = (start..end).filter(|offset| *offset as usize % INSTANCES == instance);
                let range = OffsetRange::new(Offset(start), Offset(end));
                self.state.publish(instance, range, vec![(0, rows(mine))]).unwrap();
                self.folded[instance] += 1;
            }
            Step::Gather if self.gathered + 1 < self.ends.len() => {
                self.gathered += 1;
                self.state.gather(Offset(self.ends[self.gathered]));
            }
            Step::Seal if self.ends[self.gathered] > self.sealed => {
                self.sealed = self.ends[self.gathered];
                self.state.seal(Offset(self.sealed), self.now);
            }
            Step::Merge(instance, delay) => {
                let jobs = self.state.merge_jobs(instance).into_iter();
                self.merges.extend(jobs.map(|job| (instance, delay + 1, job)));
            }
            Step::Wait(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.keep_cuts();
            }
            Step::StartRun if self.running.is_none() => {
                self.running = Some(self.sealed);
                self.keep_cuts();
            }
            Step::Publish => {
                if let Some(cut) = self.running.take() {
                    assert_ne!(
                        self.state.adopt(0, Offset(cut), false),
                        Adoption::Rebuild,
                        "its cut was kept"
                    );
                    self.served = cut;
                    self.keep_cuts();
                    if self.state.adopt(0, Offset(cut), true) == Adoption::Drop {
                        self.state.drop_below(0, Offset(cut));
                    }
                }
            }
            Step::Query(cut) => {
                self.query(cut);
                let served = self.query(self.served);
                let consumed = *self.folded.iter().min().unwrap();
                if self.ends[consumed] >= self.served {
                    assert!(
                        matches!(served, Piece::Ready { .. }),
                        "a served cut can be answered: {served:?}"
                    );
                }
            }
            Step::Rebuild => self.rebuild(),
            Step::Fold(_) | Step::Gather | Step::Seal | Step::StartRun => {}
        }
    }

    /// Freezes and checks the content.
    fn query(&self, cut: i64) -> Piece {
        let frozen = self.state.freeze(&[newest(Some(Offset(cut)))]).remove(0).unwrap();
        if let Piece::Ready { range, .. } = frozen.piece {
            assert_eq!(range.start, Offset(cut));
            let mut offsets: Vec<i64> = Vec::new();
            for run in &frozen.runs {
                let column = Arc::clone(run.state.as_ref().unwrap().column(0));
                offsets.extend(column.as_any().downcast_ref::<Int64Array>().unwrap().values());
            }
            offsets.sort_unstable();
            assert_eq!(
                offsets,
                (cut..range.end.0).collect::<Vec<_>>(),
                "each event exactly once"
            );
        }
        frozen.piece
    }

    fn rebuild(&self) {
        if !self.state.begin_rebuild(0) {
            return;
        }
        let through = self.sealed;
        self.state.hold_boundary(Offset(through));
        let from = self.served.min(through);
        // Divided as the real thing divides it.
        let split_at = self.running.into_iter().map(Offset).collect();
        let ranges = crate::rebuild::ranges(Offset(from), Offset(through), &split_at);
        let run = |range: &OffsetRange| Run::new(*range, rows(range.start.0..range.end.0));
        let base: Vec<_> = ranges.iter().map(run).collect();
        let bounds = (Offset(from), Offset(through));
        if self.state.install(0, bounds, &mut Some(base.into())) != Install::Done {
            // A view bolt lags, so the real thing would wait; here the view stays as it was.
            let mut inner = self.state.inner.lock();
            inner.views.get_mut(&0).unwrap().phase = ViewPhase::Ready;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_holds_each_event_of_its_range_exactly_once(steps in prop::collection::vec(step(), 1..250)) {
        let mut model = Model::new();
        for step in &steps {
            model.apply(step);
        }
        // In the end everything is folded, and everything from the served cut on can be read.
        for instance in 0..INSTANCES {
            while model.folded[instance] + 1 < model.ends.len() {
                model.apply(&Step::Fold(instance));
            }
        }
        let end = *model.ends.last().unwrap();
        let ready = matches!(model.query(model.served), Piece::Ready { range, .. } if range.end.0 == end);
        prop_assert!(ready);
    }
}
