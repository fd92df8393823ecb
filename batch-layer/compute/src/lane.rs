//! A lane: one aggregator per view, fed with its row groups in order.

use anabranch_view::{Aggregator, View};
use arrow::array::RecordBatch;
use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};

use crate::decode::RowGroup;
use crate::spill::{SPILL_PARTITIONS, SpillArea, SpillFile};
use crate::{Control, Error, Plan};

pub(crate) struct Lane {
    views: Vec<LaneView>,
    rows: u64,
    limit_bytes: usize,
    /// Whether views are folded side by side: worth it when there are fewer lanes than threads.
    parallel_views: bool,
}

/// One view's state in one lane: what was spilled, in order, and what is in memory after it.
pub(crate) struct LaneView {
    pub(crate) view: View,
    aggregator: Aggregator,
    /// Each file holds one batch per hash partition.
    spilled: Vec<SpillFile>,
}

/// What a lane leaves of one view: spilled state, in order, and what came after it.
pub(crate) struct LaneState {
    pub(crate) spilled: Vec<SpillFile>,
    pub(crate) rest: Aggregator,
}

impl LaneState {
    /// Merges state into what the lane holds; spills beyond `limit_bytes`.
    pub(crate) fn merge(
        &mut self,
        view: &View,
        state: &RecordBatch,
        limit_bytes: usize,
        area: &SpillArea,
        control: &Control,
    ) -> Result<(), Error> {
        self.rest.merge(state).map_err(Error::view(view))?;
        if self.rest.size_bytes() > limit_bytes && self.rest.groups() > 1 {
            let held = self.rest.emit().map_err(Error::view(view))?;
            // A new one, since an emptied aggregator may keep its capacity.
            self.rest = view.aggregator().map_err(Error::view(view))?;
            self.spilled.push(spill_state(view, &held, area, control)?);
        }
        Ok(())
    }
}

impl Lane {
    pub(crate) fn new(plan: &Plan, limit_bytes: usize, threads: usize) -> Result<Self, Error> {
        let parallel_views = plan.views().len() > 1 && plan.lanes() < threads;
        let views = plan
            .views()
            .iter()
            .map(|view| {
                let aggregator = view.aggregator().map_err(Error::view(view))?;
                Ok(LaneView {
                    view: view.clone(),
                    aggregator,
                    spilled: Vec::new(),
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            views,
            rows: 0,
            limit_bytes,
            parallel_views,
        })
    }

    /// Decodes a row group once and folds it into every view.
    pub(crate) fn fold(&mut self, group: &RowGroup, spill: &SpillArea, control: &Control) -> Result<(), Error> {
        for batch in group.read()? {
            control.check()?;
            let batch = batch?;
            if self.parallel_views {
                self.views.par_iter_mut().try_for_each(|view| view.fold(&batch))?;
            } else {
                self.views.iter_mut().try_for_each(|view| view.fold(&batch))?;
            }
            let rows = batch.num_rows() as u64;
            self.rows += rows;
            control.progress().add_rows(rows);
            self.bound_memory(spill, control)?;
        }
        control.progress().add_bytes(group.bytes);
        Ok(())
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Spills the largest views until the lane is at half its share.
    fn bound_memory(&mut self, spill: &SpillArea, control: &Control) -> Result<(), Error> {
        let mut held: Vec<usize> = self.views.iter().map(|view| view.aggregator.size_bytes()).collect();
        if held.iter().sum::<usize>() <= self.limit_bytes {
            return Ok(());
        }
        while held.iter().sum::<usize>() > self.limit_bytes / 2 {
            let (largest, bytes) = held
                .iter()
                .copied()
                .enumerate()
                .max_by_key(|(_, bytes)| *bytes)
                .expect("a plan has a view");
            // A view of one group that is large cannot be split; spilling it over and over would not help.
            if bytes == 0 || self.views[largest].aggregator.groups() <= 1 {
                break;
            }
            self.views[largest].spill(spill, control)?;
            held[largest] = 0;
        }
        Ok(())
    }

    /// Ends the lane: what it holds, per view in the plan's order.
    pub(crate) fn finish(self) -> impl Iterator<Item = LaneState> {
        self.views.into_iter().map(
            |LaneView {
                 aggregator, spilled, ..
             }| LaneState {
                spilled,
                rest: aggregator,
            },
        )
    }
}

impl LaneView {
    fn fold(&mut self, events: &RecordBatch) -> Result<(), Error> {
        let prepared = self.view.prepare(events).map_err(Error::view(&self.view))?;
        self.aggregator.fold(&prepared).map_err(Error::view(&self.view))
    }

    fn spill(&mut self, area: &SpillArea, control: &Control) -> Result<(), Error> {
        let state = self.aggregator.emit().map_err(Error::view(&self.view))?;
        // A new one, since an emptied aggregator may keep its capacity.
        self.aggregator = self.view.aggregator().map_err(Error::view(&self.view))?;
        self.spilled.push(spill_state(&self.view, &state, area, control)?);
        Ok(())
    }
}

/// Writes state to a file of one batch per hash partition.
pub(crate) fn spill_state(
    view: &View,
    state: &RecordBatch,
    area: &SpillArea,
    control: &Control,
) -> Result<SpillFile, Error> {
    let parts = view.split_state(state, SPILL_PARTITIONS).map_err(Error::view(view))?;
    let file = area.write(&view.state_schema(), &parts)?;
    tracing::debug!(
        view = view.name(),
        groups = state.num_rows(),
        bytes = file.file_bytes,
        "spilled partial state"
    );
    control.progress().add_spilled_bytes(file.file_bytes);
    Ok(file)
}
