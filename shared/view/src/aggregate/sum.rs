use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, DecimalType};
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::slot::selected;

/// Sums in a decimal so wide that no number of events that a log can hold makes it overflow.
///
/// `I` is what is summed, `S` the decimal it is summed in. DataFusion's sums wrap instead.
#[derive(Debug)]
pub(crate) struct WideSum<I: ArrowPrimitiveType, S: DecimalType> {
    widen: fn(I::Native) -> S::Native,
    /// `S` with its largest precision and the scale of the input.
    data_type: DataType,
    sums: Vec<S::Native>,
    /// Whether a group has had a value; a sum of nothing is NULL.
    seen: Vec<bool>,
}

impl<I: ArrowPrimitiveType, S: DecimalType> WideSum<I, S> {
    pub(crate) fn new(scale: i8, widen: fn(I::Native) -> S::Native) -> Self {
        let data_type = (S::TYPE_CONSTRUCTOR)(S::MAX_PRECISION, scale);
        Self {
            widen,
            data_type,
            sums: vec![],
            seen: vec![],
        }
    }

    fn grow(&mut self, total_groups: usize) {
        self.sums.resize(total_groups, S::default_value());
        self.seen.resize(total_groups, false);
    }
}

impl<I: ArrowPrimitiveType, S: DecimalType> GroupsAccumulator for WideSum<I, S>
where
    S::Native: ArrowNativeTypeOp,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.grow(total_groups);
        let values = values[0].as_primitive::<I>();
        let (sums, seen, widen) = (&mut self.sums, &mut self.seen, self.widen);
        let mut add = |group: usize, value: I::Native| {
            sums[group] = sums[group].add_wrapping(widen(value));
            seen[group] = true;
        };
        match selected(values.nulls(), filter) {
            None => groups
                .iter()
                .zip(values.values())
                .for_each(|(&group, &value)| add(group, value)),
            Some(rows) => rows
                .valid_indices()
                .for_each(|row| add(groups[row], values.values()[row])),
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.grow(total_groups);
        let values = values[0].as_primitive::<S>();
        for (row, &group) in groups.iter().enumerate() {
            if values.is_valid(row) {
                self.sums[group] = self.sums[group].add_wrapping(values.value(row));
                self.seen[group] = true;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = emit_to.take_needed(&mut self.sums);
        let seen = emit_to.take_needed(&mut self.seen);
        let nulls = (!seen.iter().all(|&s| s)).then(|| NullBuffer::from(seen));
        Ok(Arc::new(
            PrimitiveArray::<S>::new(sums.into(), nulls).with_data_type(self.data_type.clone()),
        ))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, _values: &[ArrayRef], _filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("sum has no shortcut from rows to state")
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<S::Native>() + self.seen.capacity()
    }
}
