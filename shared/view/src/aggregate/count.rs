use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::Int64Type;
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

/// `count(*)`: rows per group. Unlike DataFusion's it reads no argument.
#[derive(Debug, Default)]
pub(crate) struct CountRows {
    counts: Vec<i64>,
}

impl GroupsAccumulator for CountRows {
    fn update_batch(
        &mut self,
        _values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.counts.resize(total_groups, 0);
        match filter {
            None => groups.iter().for_each(|&group| self.counts[group] += 1),
            Some(filter) => {
                for (row, &group) in groups.iter().enumerate() {
                    self.counts[group] += i64::from(filter.is_valid(row) && filter.value(row));
                }
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.counts.resize(total_groups, 0);
        let counts = values[0].as_primitive::<Int64Type>();
        for (&group, count) in groups.iter().zip(counts.values()) {
            self.counts[group] += count;
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::new(
            emit_to.take_needed(&mut self.counts).into(),
            None,
        )))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, _values: &[ArrayRef], _filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("count(*) has no shortcut from rows to state")
    }

    fn size(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }
}
