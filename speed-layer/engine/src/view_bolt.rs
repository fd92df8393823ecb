//! Folds prepared rows into realtime state: one immutable run per view and range, at once visible to queries.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use anabranch_topology::{Bolt, BoxError, Output, Tuple};
use anabranch_view::Aggregator;

use crate::Error;
use crate::message::Message;
use crate::program::Program;
use crate::source::SourceLayer;
use crate::state::{PartitionState, emit_run};

pub(crate) struct ViewBolt {
    layer: Arc<SourceLayer>,
    instance: usize,
    /// By id of the view, empty between tuples; kept for their memory.
    aggregators: BTreeMap<usize, Aggregator>,
    /// The newest program met.
    generation: u64,
    visible: metrics::Histogram,
}

impl ViewBolt {
    pub(crate) fn new(layer: Arc<SourceLayer>, instance: usize) -> Self {
        let visible = metrics::histogram!("anabranch_visible_seconds", "table" => layer.source.name.clone());
        Self {
            layer,
            instance,
            aggregators: BTreeMap::new(),
            generation: 0,
            visible,
        }
    }

    /// Has an aggregator for every view of a program that is newer than all before, and none of views that are gone.
    fn turn_to(&mut self, program: &Program) -> Result<(), BoxError> {
        if program.generation <= self.generation {
            return Ok(());
        }
        self.generation = program.generation;
        self.aggregators.retain(|id, _| program.view(*id).is_some());
        for live in &program.views {
            if let Entry::Vacant(free) = self.aggregators.entry(live.id) {
                free.insert(live.view.aggregator()?);
            }
        }
        Ok(())
    }

    fn merge(&mut self, state: &PartitionState) -> Result<(), BoxError> {
        for job in state.merge_jobs(self.instance) {
            let Some(aggregator) = self.aggregators.get_mut(&job.view) else {
                continue;
            };
            for batch in job.runs.iter().filter_map(|run| run.state.as_ref()) {
                aggregator.merge(batch)?;
            }
            let merged = if aggregator.groups() == 0 {
                None
            } else {
                Some(emit_run(aggregator)?)
            };
            state.replace(self.instance, &job, merged);
        }
        Ok(())
    }
}

impl Bolt<Message> for ViewBolt {
    fn execute(&mut self, tuple: Tuple<Message>, _out: &mut Output<Message>) -> Result<(), BoxError> {
        let (message, anchor) = tuple.into_parts();
        let prepared = match message {
            Message::Prepared(prepared) => prepared,
            Message::Adopt(adopt) => {
                self.turn_to(&adopt.program)?;
                adopt.state.turn_to(&adopt.program.members(), adopt.at);
                anchor.ack();
                return Ok(());
            }
            other => return Err(format!("a {} tuple cannot be folded", other.kind()).into()),
        };
        let state = &prepared.state;
        if !state.is_live() {
            anchor.fail();
            return Ok(());
        }
        let mut runs = Vec::with_capacity(prepared.views.len());
        self.turn_to(&prepared.program)?;
        for (live, rows) in prepared.program.views.iter().zip(&prepared.views) {
            let state = if rows.rows == 0 {
                None
            } else {
                let aggregator = match self.aggregators.entry(live.id) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(free) => free.insert(live.view.aggregator()?),
                };
                aggregator.fold(rows)?;
                Some(aggregator.emit()?)
            };
            runs.push((live.id, state));
        }
        let range = prepared.range;
        state
            .publish(self.instance, range, runs)
            .map_err(|expected| Error::StateGap {
                table: self.layer.source.name.clone(),
                partition: state.partition,
                got: range.start,
                expected,
            })?;
        let visible_after = self.layer.environment().elapsed(prepared.consumed_at);
        self.visible.record(visible_after.as_secs_f64());
        anchor.ack();
        self.merge(state)
    }
}
