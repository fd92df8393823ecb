use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Float16Type, Float32Type, Float64Type};
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::seen::Seen;
use super::slot::selected;
use crate::keys::normalise_floats;

/// Values that are compared at a time where there is one group.
const ABREAST: usize = 8;

/// MIN or MAX of floats where NaN is the greatest value and -0 is 0, so that the order of merging does not matter.
#[derive(Debug)]
pub(crate) struct FloatExtreme<T: ArrowPrimitiveType, const GREATEST: bool> {
    values: Vec<T::Native>,
    seen: Seen,
}

/// A float type, as far as an extreme needs to know it.
pub(crate) trait Float: ArrowPrimitiveType {
    const NAN: Self::Native;
    const LEAST: Self::Native;

    /// `yes` or `no`, without a branch.
    fn select(condition: bool, yes: Self::Native, no: Self::Native) -> Self::Native;
}

macro_rules! float {
    ($type:ty, $native:ident, $bits:ty) => {
        impl Float for $type {
            const NAN: Self::Native = $native::NAN;
            const LEAST: Self::Native = $native::NEG_INFINITY;

            #[inline]
            fn select(condition: bool, yes: Self::Native, no: Self::Native) -> Self::Native {
                let mask = <$bits>::from(condition).wrapping_neg();
                $native::from_bits((yes.to_bits() & mask) | (no.to_bits() & !mask))
            }
        }
    };
}
type Half = <Float16Type as ArrowPrimitiveType>::Native;
float!(Float16Type, Half, u16);
float!(Float32Type, f32, u32);
float!(Float64Type, f64, u64);

impl<T: Float<Native: ArrowNativeTypeOp>, const GREATEST: bool> FloatExtreme<T, GREATEST> {
    /// What every value is better than, or as good as.
    const WORST: T::Native = if GREATEST { T::LEAST } else { T::NAN };

    pub(crate) fn new() -> Self {
        Self {
            values: vec![],
            seen: Seen::default(),
        }
    }

    /// The better of two. Zeros are equal here; which of them it was is forgotten in the end.
    #[inline]
    #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
    fn better(best: T::Native, value: T::Native) -> T::Native {
        let improves = if GREATEST {
            (value > best) | (value != value)
        } else {
            (value < best) | (best != best)
        };
        T::select(improves, value, best)
    }

    /// The best value of a batch: many are compared at a time, each with its own.
    fn best(values: &[T::Native]) -> T::Native {
        let mut abreast = [Self::WORST; ABREAST];
        let chunks = values.chunks_exact(ABREAST);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (best, &value) in abreast.iter_mut().zip(chunk) {
                *best = Self::better(*best, value);
            }
        }
        abreast.iter().chain(rest).copied().fold(Self::WORST, Self::better)
    }

    /// As [`Self::best`], of the rows that are valid.
    fn best_of(values: &[T::Native], rows: &NullBuffer) -> T::Native {
        let mut abreast = [Self::WORST; ABREAST];
        let bits = rows.inner().bit_chunks();
        let chunks = bits.iter_padded().zip(values.chunks(64));
        for (mut word, chunk) in chunks.filter(|(word, _)| *word != 0) {
            for some in chunk.chunks(ABREAST) {
                // All lanes by constant places, so that they stay in registers.
                let mut eight = [Self::WORST; ABREAST];
                eight[..some.len()].copy_from_slice(some);
                for (lane, (best, value)) in abreast.iter_mut().zip(eight).enumerate() {
                    let value = T::select(word >> lane & 1 != 0, value, Self::WORST);
                    *best = Self::better(*best, value);
                }
                word >>= ABREAST;
            }
        }
        abreast.into_iter().fold(Self::WORST, Self::better)
    }

    fn take_all(&mut self, array: &ArrayRef, groups: &[usize], filter: Option<&BooleanArray>, total_groups: usize) {
        self.values.resize(total_groups, Self::WORST);
        let array = array.as_primitive::<T>();
        let all = array.values();
        let rows = selected(array.nulls(), filter);
        let bests = &mut self.values;
        match &rows {
            None => self.seen.all_of(groups, filter.is_some(), total_groups),
            Some(rows) => {
                let seen = self.seen.some_of(total_groups);
                if total_groups == 1 {
                    seen[0] |= rows.null_count() < rows.len();
                } else {
                    rows.valid_indices().for_each(|row| seen[groups[row]] = true);
                }
            }
        }
        match (&rows, bests.as_mut_slice()) {
            (None, [best]) => *best = Self::better(*best, Self::best(all)),
            (Some(rows), [best]) => {
                *best = Self::better(*best, Self::best_of(all, rows));
            }
            (None, bests) => {
                for (&group, &value) in groups.iter().zip(all) {
                    bests[group] = Self::better(bests[group], value);
                }
            }
            (Some(rows), bests) => {
                for row in rows.valid_indices() {
                    bests[groups[row]] = Self::better(bests[groups[row]], all[row]);
                }
            }
        }
    }
}

impl<T: Float<Native: ArrowNativeTypeOp>, const GREATEST: bool> GroupsAccumulator for FloatExtreme<T, GREATEST> {
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
        let nulls = self.seen.take(emit_to);
        let values: ArrayRef = Arc::new(PrimitiveArray::<T>::new(values.into(), nulls));
        Ok(normalise_floats(&values))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, _values: &[ArrayRef], _filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("MIN and MAX have no shortcut from rows to state")
    }

    fn size(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.seen.size()
    }
}
