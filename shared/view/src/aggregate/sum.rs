use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, DecimalType, UInt64Type, i256};
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::seen::Seen;
use super::slot::selected;

/// What is summed, and the decimal it is summed in.
pub(crate) trait Widen: Debug + Send + Sync + 'static {
    type From: ArrowPrimitiveType;
    type To: DecimalType<Native: ArrowNativeTypeOp>;

    fn widen(value: <Self::From as ArrowPrimitiveType>::Native) -> <Self::To as ArrowPrimitiveType>::Native;
}

macro_rules! widen {
    ($name:ident, $from:ty, $to:ty, $widen:expr) => {
        #[derive(Debug)]
        pub(crate) struct $name;

        impl Widen for $name {
            type From = $from;
            type To = $to;

            #[inline]
            fn widen(value: <$from as ArrowPrimitiveType>::Native) -> <$to as ArrowPrimitiveType>::Native {
                $widen(value)
            }
        }
    };
}
widen!(Unsigned, UInt64Type, Decimal128Type, i128::from);
widen!(ShortDecimal, Decimal128Type, Decimal128Type, std::convert::identity);
widen!(LongDecimal, Decimal128Type, Decimal256Type, i256::from_i128);
widen!(WidestDecimal, Decimal256Type, Decimal256Type, std::convert::identity);

/// Sums in a decimal so wide that no number of events that a log can hold makes it overflow. DataFusion's sums wrap instead.
#[derive(Debug)]
pub(crate) struct WideSum<W: Widen> {
    /// The decimal with its largest precision and the scale of the input.
    data_type: DataType,
    sums: Vec<<W::To as ArrowPrimitiveType>::Native>,
    /// A sum of nothing is NULL.
    seen: Seen,
    widen: PhantomData<W>,
}

impl<W: Widen> WideSum<W> {
    pub(crate) fn new(scale: i8) -> Self {
        let data_type = (W::To::TYPE_CONSTRUCTOR)(W::To::MAX_PRECISION, scale);
        Self {
            data_type,
            sums: vec![],
            seen: Seen::default(),
            widen: PhantomData,
        }
    }
}

impl<W: Widen> GroupsAccumulator for WideSum<W> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.sums.resize(total_groups, W::To::default_value());
        let values = values[0].as_primitive::<W::From>();
        let sums = &mut self.sums;
        match selected(values.nulls(), filter) {
            None => {
                self.seen.all_of(groups, filter.is_some(), total_groups);
                for (&group, &value) in groups.iter().zip(values.values()) {
                    sums[group] = sums[group].add_wrapping(W::widen(value));
                }
            }
            Some(rows) => {
                let seen = self.seen.some_of(total_groups);
                for row in rows.valid_indices() {
                    let group = groups[row];
                    sums[group] = sums[group].add_wrapping(W::widen(values.values()[row]));
                    seen[group] = true;
                }
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.sums.resize(total_groups, W::To::default_value());
        let values = values[0].as_primitive::<W::To>();
        let sums = &mut self.sums;
        match selected(values.nulls(), None) {
            None => {
                self.seen.all_of(groups, false, total_groups);
                for (&group, &value) in groups.iter().zip(values.values()) {
                    sums[group] = sums[group].add_wrapping(value);
                }
            }
            Some(rows) => {
                let seen = self.seen.some_of(total_groups);
                for row in rows.valid_indices() {
                    let group = groups[row];
                    sums[group] = sums[group].add_wrapping(values.value(row));
                    seen[group] = true;
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = emit_to.take_needed(&mut self.sums);
        let nulls = self.seen.take(emit_to);
        Ok(Arc::new(
            PrimitiveArray::<W::To>::new(sums.into(), nulls).with_data_type(self.data_type.clone()),
        ))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, _values: &[ArrayRef], _filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("sum has no shortcut from rows to state")
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<<W::To as ArrowPrimitiveType>::Native>() + self.seen.size()
    }
}
