//! Lanes' states to sorted runs.

use anabranch_view::View;
use arrow::array::RecordBatch;
use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::lane::{LaneState, spill_state};
use crate::merge::{OUTPUT_ROWS, Run};
use crate::sort::sort_state;
use crate::spill::{SPILL_PARTITIONS, SpillArea, SpillFile};
use crate::{Control, Error};

/// Above this many groups, lanes are merged by hash parts, in parallel.
const GROUPS_PER_PART: usize = 1 << 16;
/// Hash parts of an in-memory merge, for each thread: more than one, since parts differ in size.
const PARTS_PER_THREAD: usize = 2;

/// Merges lanes, always in lane order for each group; hash parts only decide which thread does it.
pub(crate) struct Reducer<'a> {
    pub(crate) pool: &'a ThreadPool,
    pub(crate) spill: &'a SpillArea,
    pub(crate) memory_budget_bytes: usize,
    pub(crate) control: &'a Control,
}

impl Reducer<'_> {
    /// Runs with disjoint groups, each sorted by key.
    pub(crate) fn sorted_runs(&self, view: &View, lanes: Vec<LaneState>) -> Result<Vec<Run>, Error> {
        if lanes.iter().any(|lane| !lane.spilled.is_empty()) {
            return self.merge_spilled(view, lanes);
        }
        let mut states: Vec<RecordBatch> = lanes
            .into_iter()
            .map(|lane| lane.rest)
            .filter(|state| state.num_rows() > 0)
            .collect();
        let groups: usize = states.iter().map(RecordBatch::num_rows).sum();
        if states.len() <= 1 {
            // Nothing to merge: one lane's groups are distinct.
            return states.pop().map(|state| sorted_run(view, &state)).into_iter().collect();
        }
        // The number of parts may follow from the number of threads: a group's lanes are merged in the same order in any part.
        let threads = self.pool.current_num_threads();
        if groups <= GROUPS_PER_PART || threads == 1 {
            return Ok(vec![sorted_run(view, &self.merge(view, states.into_iter().map(Ok))?)?]);
        }
        let count = groups.div_ceil(GROUPS_PER_PART).min(PARTS_PER_THREAD * threads);
        let parts = self.pool.install(|| {
            let split = states.into_par_iter().map(|state| view.split_state(&state, count));
            split.collect::<Result<Vec<_>, _>>().map_err(Error::view(view))
        })?;
        self.pool.install(|| {
            let merged = (0..count).into_par_iter().map(|part| {
                let states = parts.iter().map(|lane| Ok(lane[part].clone()));
                sorted_run(view, &self.merge(view, states)?)
            });
            merged.collect()
        })
    }

    fn merge_spilled(&self, view: &View, lanes: Vec<LaneState>) -> Result<Vec<Run>, Error> {
        let mut files = Vec::new();
        for lane in lanes {
            files.extend(lane.spilled);
            if lane.rest.num_rows() > 0 {
                self.control.check()?;
                files.push(spill_state(view, &lane.rest, self.spill, self.control)?);
            }
        }
        let mut runs = Vec::with_capacity(SPILL_PARTITIONS);
        let partitions: Vec<usize> = (0..SPILL_PARTITIONS).collect();
        for together in partitions.chunks(self.partitions_at_once(&files)) {
            let merged: Result<Vec<Run>, Error> = self.pool.install(|| {
                together
                    .into_par_iter()
                    .map(|partition| self.merge_partition(view, &files, *partition))
                    .collect()
            });
            runs.extend(merged?);
        }
        Ok(runs)
    }

    /// How many partitions may be merged at the same time within half of the budget: a partition's state is held once as
    /// groups and once more while it is emitted and sorted.
    fn partitions_at_once(&self, files: &[SpillFile]) -> usize {
        let total_bytes: u64 = files.iter().map(|file| file.batch_bytes).sum();
        let each_bytes = usize::try_from(total_bytes).unwrap_or(usize::MAX) / SPILL_PARTITIONS;
        (self.memory_budget_bytes / 2 / (2 * each_bytes).max(1)).clamp(1, self.pool.current_num_threads())
    }

    fn merge_partition(&self, view: &View, files: &[SpillFile], partition: usize) -> Result<Run, Error> {
        let state = self.merge(view, files.iter().map(|file| file.read(partition)))?;
        let sorted = sort_state(view, &state)?;
        let mut writer = self.spill.writer(&view.state_schema())?;
        for start in (0..sorted.num_rows()).step_by(OUTPUT_ROWS) {
            writer.write(&sorted.slice(start, OUTPUT_ROWS.min(sorted.num_rows() - start)))?;
        }
        let file = writer.finish()?;
        self.control.progress().add_spilled_bytes(file.file_bytes);
        Ok(Run::spilled(file, sorted.num_rows() as u64))
    }

    fn merge(
        &self,
        view: &View,
        states: impl Iterator<Item = Result<RecordBatch, Error>>,
    ) -> Result<RecordBatch, Error> {
        let mut aggregator = view.aggregator().map_err(Error::view(view))?;
        for state in states {
            self.control.check()?;
            aggregator.merge(&state?).map_err(Error::view(view))?;
        }
        aggregator.emit().map_err(Error::view(view))
    }
}

fn sorted_run(view: &View, state: &RecordBatch) -> Result<Run, Error> {
    Ok(Run::memory(sort_state(view, state)?))
}
