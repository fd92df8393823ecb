use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::Int64Type;
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::slot::selected;

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
        let rows = selected(None, filter);
        match (&rows, self.counts.as_mut_slice()) {
            (None, [all]) => *all += count_of(groups.len()),
            (Some(rows), [all]) => *all += count_of(groups.len() - rows.null_count()),
            (None, counts) => groups.iter().for_each(|&group| counts[group] += 1),
            (Some(rows), counts) => rows.valid_indices().for_each(|row| counts[groups[row]] += 1),
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

fn count_of(rows: usize) -> i64 {
    i64::try_from(rows).expect("a batch is in memory, so its rows fit")
}
