use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{and, cast, take};
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use crate::error::During;
use crate::groups::Groups;
use crate::plan::Plan;
use crate::{Error, Prepared};

/// Groups and their accumulators. Reusable: after [`Aggregator::emit`] it is as good as new, and keeps its allocations.
pub struct Aggregator {
    plan: Arc<Plan>,
    groups: Groups,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// Group of each row of the batch at hand.
    ids: Vec<usize>,
}

impl Aggregator {
    pub(crate) fn new(plan: Arc<Plan>) -> Result<Self, Error> {
        let groups = Groups::new(&plan.state_schema.fields()[..plan.key_count]).during(&plan.name, "grouping")?;
        let accumulators = plan
            .slots
            .iter()
            .map(super::aggregate::Slot::accumulator)
            .collect::<Result<_>>()
            .during(&plan.name, "aggregates")?;
        Ok(Self {
            plan,
            groups,
            accumulators,
            ids: vec![],
        })
    }

    /// Folds prepared rows.
    ///
    /// # Errors
    /// Only when the engine fails; no row can make it.
    pub fn fold(&mut self, prepared: &Prepared) -> Result<(), Error> {
        if prepared.rows == 0 {
            return Ok(());
        }
        let name = Arc::clone(&self.plan.name);
        self.groups
            .assign(&prepared.keys, prepared.rows, &mut self.ids)
            .during(&name, "grouping")?;
        let total = self.groups.len();
        let mut values = Vec::new();
        for (slot, accumulator) in self.plan.slots.iter().zip(&mut self.accumulators) {
            values.clear();
            values.extend(slot.args.iter().map(|&arg| Arc::clone(&prepared.inputs[arg])));
            let filter = slot.filter.map(|filter| prepared.inputs[filter].as_boolean());
            let both: BooleanArray;
            let filter = match (&prepared.selected, filter) {
                (Some(selected), Some(filter)) => {
                    both = and(selected, filter).during(&name, "fold")?;
                    Some(&both)
                }
                (selected, filter) => selected.as_ref().or(filter),
            };
            accumulator
                .update_batch(&values, &self.ids, filter, total)
                .during(&name, "fold")?;
        }
        Ok(())
    }

    /// Merges partial state (any batch of the view's state schema, groups may repeat).
    ///
    /// # Errors
    /// When the batch is not state of this view.
    pub fn merge(&mut self, state: &RecordBatch) -> Result<(), Error> {
        let plan = Arc::clone(&self.plan);
        let columns = plan.state_columns(state)?;
        if state.num_rows() == 0 {
            return Ok(());
        }
        let keys = &columns[..plan.key_count];
        self.groups
            .assign(keys, state.num_rows(), &mut self.ids)
            .during(&plan.name, "grouping")?;
        let total = self.groups.len();
        for (range, accumulator) in plan.slot_columns.iter().zip(&mut self.accumulators) {
            accumulator
                .merge_batch(&columns[range.clone()], &self.ids, total)
                .during(&plan.name, "merge")?;
        }
        Ok(())
    }

    /// Emits everything as one batch of the state schema, in the order in which groups were first seen, and is empty
    /// afterwards. A global aggregate that has seen no row emits none.
    ///
    /// # Errors
    /// Only when the engine fails.
    pub fn emit(&mut self) -> Result<RecordBatch, Error> {
        self.emit_in(false)
    }

    /// As [`Aggregator::emit`], with groups in the order of [`View::sort_state`](crate::View::sort_state), which is found
    /// faster here.
    ///
    /// # Errors
    /// Only when the engine fails.
    pub fn emit_sorted(&mut self) -> Result<RecordBatch, Error> {
        self.emit_in(true)
    }

    fn emit_in(&mut self, sorted: bool) -> Result<RecordBatch, Error> {
        let plan = &self.plan;
        let count = self.groups.len();
        if count == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&plan.state_schema)));
        }
        let keys = self.groups.emit(sorted).during(&plan.name, "emit")?;
        let mut columns = keys.columns;
        for accumulator in &mut self.accumulators {
            for state in accumulator.state(EmitTo::All).during(&plan.name, "emit")? {
                columns.push(match &keys.order {
                    Some(order) => take(&state, order, None).during(&plan.name, "emit")?,
                    None => state,
                });
            }
        }
        plan.state_batch(columns, count)
    }

    /// Groups held.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Heap bytes held.
    pub fn size_bytes(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(|a| a.size()).sum();
        self.groups.size() + accumulators + self.ids.capacity() * size_of::<usize>()
    }
}

impl Plan {
    /// The state that stands for no row at all, of one group: what a global aggregate starts from.
    pub(crate) fn empty_group(&self) -> Result<RecordBatch, Error> {
        let mut columns = vec![];
        for slot in &self.slots {
            columns.extend(slot.empty_group().during(&self.name, "aggregates")?);
        }
        self.state_batch(columns, 1)
    }

    /// Columns of this view's state schema as a batch of it.
    fn state_batch(&self, mut columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, Error> {
        for (column, field) in columns.iter_mut().zip(self.state_schema.fields()) {
            if column.data_type() != field.data_type() {
                *column = cast(column, field.data_type()).during(&self.name, "emit")?;
            }
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.state_schema), columns, &options).during(&self.name, "emit")
    }

    /// The columns of a batch that should be state of this view; columns beyond it are left out.
    pub(crate) fn state_columns<'b>(&self, state: &'b RecordBatch) -> Result<std::borrow::Cow<'b, [ArrayRef]>, Error> {
        let fields = self.state_schema.fields();
        let wrong = |reason: String| Error::State {
            view: Arc::clone(&self.name),
            reason,
        };
        if state.num_columns() < fields.len() {
            return Err(wrong(format!(
                "{} columns instead of {}",
                state.num_columns(),
                fields.len()
            )));
        }
        let columns = &state.columns()[..fields.len()];
        let mut recast: Option<Vec<ArrayRef>> = None;
        for (i, (column, field)) in columns.iter().zip(fields).enumerate() {
            if column.data_type() != field.data_type() {
                // A file may give back names and nullability of list items differently.
                let column =
                    cast(column, field.data_type()).map_err(|e| wrong(format!("column {}: {e}", field.name())))?;
                recast.get_or_insert_with(|| columns.to_vec())[i] = column;
            }
        }
        Ok(match recast {
            Some(columns) => columns.into(),
            None => columns.into(),
        })
    }
}
