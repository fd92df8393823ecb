//! Folds prepared rows into realtime state: one immutable run per view and range, at once visible to queries.

use std::sync::Arc;

use anabranch_topology::{Bolt, BoxError, Output, Tuple};
use anabranch_view::{Aggregator, View};

use crate::Error;
use crate::message::Message;
use crate::source::SourceLayer;
use crate::state::PartitionState;

pub(crate) struct ViewBolt {
    layer: Arc<SourceLayer>,
    instance: usize,
    /// One per view, empty between tuples; kept for their memory.
    aggregators: Vec<Aggregator>,
    visible: metrics::Histogram,
}

impl ViewBolt {
    pub(crate) fn new(layer: Arc<SourceLayer>, instance: usize) -> Self {
        let visible = metrics::histogram!("anabranch_visible_seconds", "table" => layer.source.name.clone());
        Self {
            layer,
            instance,
            aggregators: Vec::new(),
            visible,
        }
    }

    fn merge(&mut self, state: &PartitionState) -> Result<(), BoxError> {
        for job in state.merge_jobs(self.instance) {
            let aggregator = &mut self.aggregators[job.view];
            for batch in job.runs.iter().filter_map(|run| run.state.as_ref()) {
                aggregator.merge(batch)?;
            }
            let merged = if aggregator.groups() == 0 {
                None
            } else {
                Some(aggregator.emit()?)
            };
            state.replace(self.instance, &job, merged);
        }
        Ok(())
    }
}

impl Bolt<Message> for ViewBolt {
    fn prepare(&mut self, _context: &anabranch_topology::TaskContext) -> Result<(), BoxError> {
        self.aggregators = self
            .layer
            .views
            .iter()
            .map(View::aggregator)
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    fn execute(&mut self, tuple: Tuple<Message>, _out: &mut Output<Message>) -> Result<(), BoxError> {
        let (message, anchor) = tuple.into_parts();
        let Message::Prepared(prepared) = message else {
            return Err(format!("a {} tuple cannot be folded", message.kind()).into());
        };
        let state = &prepared.state;
        if !state.is_live() {
            anchor.fail();
            return Ok(());
        }
        let mut runs = Vec::with_capacity(prepared.views.len());
        for (aggregator, rows) in self.aggregators.iter_mut().zip(&prepared.views) {
            runs.push(if rows.rows == 0 {
                None
            } else {
                aggregator.fold(rows)?;
                Some(aggregator.emit()?)
            });
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
