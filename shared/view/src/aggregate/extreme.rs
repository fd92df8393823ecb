use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::slot::selected;

/// MIN or MAX of floats where NaN is the greatest value and -0 is 0, so that the order of merging does not matter.
#[derive(Debug)]
pub(crate) struct FloatExtreme<T: ArrowPrimitiveType> {
    greatest: bool,
    values: Vec<T::Native>,
    seen: Vec<bool>,
}

impl<T: ArrowPrimitiveType> FloatExtreme<T>
where
    T::Native: ArrowNativeTypeOp,
{
    pub(crate) fn new(greatest: bool) -> Self {
        Self {
            greatest,
            values: vec![],
            seen: vec![],
        }
    }

    fn take_in(&mut self, group: usize, value: T::Native) {
        // The array was normalised, so that the total order has one NaN, above all else, and one zero.
        let better = !self.seen[group]
            || if self.greatest {
                value.is_gt(self.values[group])
            } else {
                value.is_lt(self.values[group])
            };
        if better {
            self.values[group] = value;
            self.seen[group] = true;
        }
    }

    fn take_all(&mut self, array: &ArrayRef, groups: &[usize], filter: Option<&BooleanArray>, total_groups: usize) {
        self.values.resize(total_groups, T::default_value());
        self.seen.resize(total_groups, false);
        let array = crate::keys::normalise_floats(array);
        let array = array.as_primitive::<T>();
        match selected(array.nulls(), filter) {
            None => groups
                .iter()
                .zip(array.values())
                .for_each(|(&group, &value)| self.take_in(group, value)),
            Some(rows) => rows
                .valid_indices()
                .for_each(|row| self.take_in(groups[row], array.value(row))),
        }
    }
}

impl<T: ArrowPrimitiveType> GroupsAccumulator for FloatExtreme<T>
where
    T::Native: ArrowNativeTypeOp,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.take_all(&values[0], groups, filter, total_groups);
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.take_all(&values[0], groups, None, total_groups);
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let values = emit_to.take_needed(&mut self.values);
        let seen = emit_to.take_needed(&mut self.seen);
        Ok(Arc::new(PrimitiveArray::<T>::new(
            values.into(),
            Some(NullBuffer::from(seen)),
        )))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, _values: &[ArrayRef], _filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("MIN and MAX have no shortcut from rows to state")
    }

    fn size(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.seen.capacity()
    }
}
