//! Lanes' states to sorted runs.

use anabranch_view::View;
use arrow::array::RecordBatch;
use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::lane::{LaneState, spill_state};
use crate::merge::{OUTPUT_ROWS, Run};
use crate::spill::{SPILL_PARTITIONS, SpillArea, SpillFile};
use crate::{Control, Error};

/// Above this many groups, lanes are merged by hash parts, in parallel.
const GROUPS_PER_PART: usize = 1 << 16;
/// So few lanes are merged into the first one: it spares that lane's groups a second table.
const LANES_IN_PLACE: usize = 2;
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
    pub(crate) fn sorted_runs(&self, view: &View, mut lanes: Vec<LaneState>) -> Result<Vec<Run>, Error> {
        if lanes.iter().any(|lane| !lane.spilled.is_empty()) {
            return self.merge_spilled(view, lanes);
        }
        let groups: usize = lanes.iter().map(|lane| lane.rest.groups()).sum();
        // Which way to merge follows from the data alone: the ways differ in the last bits of some aggregates.
        if groups <= GROUPS_PER_PART || lanes.len() <= LANES_IN_PLACE {
            let mut first = lanes.remove(0).rest;
            for mut lane in lanes {
                self.control.check()?;
                first
                    .merge(&lane.rest.emit().map_err(Error::view(view))?)
                    .map_err(Error::view(view))?;
            }
            return Ok(vec![Run::memory(first.emit_sorted().map_err(Error::view(view))?)]);
        }
        self.merge_parts(view, lanes, groups)
    }

    /// Merges lanes by hash parts, in parallel. Their number may follow from the number of threads, since a group's lanes are
    /// merged in the same order in any part.
    fn merge_parts(&self, view: &View, lanes: Vec<LaneState>, groups: usize) -> Result<Vec<Run>, Error> {
        let count = match self.pool.current_num_threads() {
            1 => 1,
            threads => groups.div_ceil(GROUPS_PER_PART).min(PARTS_PER_THREAD * threads),
        };
        self.pool.install(|| {
            let split = lanes.into_par_iter().map(|mut lane| {
                let state = lane.rest.emit()?;
                // Let go before it is copied.
                drop(lane);
                view.split_state(&state, count)
            });
            let parts = split.collect::<Result<Vec<_>, _>>().map_err(Error::view(view))?;
            let merged = (0..count).into_par_iter().map(|part| {
                let states = parts.iter().map(|lane| Ok(lane[part].clone()));
                self.merge(view, states).map(Run::memory)
            });
            merged.collect()
        })
    }

    fn merge_spilled(&self, view: &View, lanes: Vec<LaneState>) -> Result<Vec<Run>, Error> {
        let mut files = Vec::new();
        for mut lane in lanes {
            files.extend(lane.spilled);
            if lane.rest.groups() > 0 {
                self.control.check()?;
                let rest = lane.rest.emit().map_err(Error::view(view))?;
                files.push(spill_state(view, &rest, self.spill, self.control)?);
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
        let sorted = self.merge(view, files.iter().map(|file| file.read(partition)))?;
        let mut writer = self.spill.writer(&view.state_schema())?;
        for start in (0..sorted.num_rows()).step_by(OUTPUT_ROWS) {
            writer.write(&sorted.slice(start, OUTPUT_ROWS.min(sorted.num_rows() - start)))?;
        }
        let file = writer.finish()?;
        self.control.progress().add_spilled_bytes(file.file_bytes);
        Ok(Run::spilled(file, sorted.num_rows() as u64))
    }

    /// Merges states in their order, and sorts what comes of it by key.
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
        aggregator.emit_sorted().map_err(Error::view(view))
    }
}
