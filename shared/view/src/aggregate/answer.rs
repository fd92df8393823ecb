use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Decimal256Array, Float64Array, Int64Array, PrimitiveArray,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowNativeTypeOp, ArrowPrimitiveType, DataType, Decimal128Type, Decimal256Type, Int64Type, UInt64Type, i256,
};
use datafusion::common::{Result, exec_err, not_impl_err};
use datafusion::logical_expr::EmitTo;

use super::distinct::flatten;
use super::slot::{Slot, evaluate};
use crate::expr::NullCounter;

/// How an aggregate call is answered from the results of slots.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The slot's state, which is its result.
    State {
        slot: usize,
    },
    /// The slot's result, of this type.
    Slot {
        slot: usize,
        data_type: DataType,
    },
    /// An exact sum in the type that SQL gives it; NULL and counted where it does not fit.
    Sum {
        slot: usize,
        to: DataType,
        nulled: NullCounter,
    },
    /// An exact sum divided by a count.
    Mean {
        sum: usize,
        count: usize,
        to: DataType,
        nulled: NullCounter,
    },
    DistinctCount {
        slot: usize,
    },
    /// An aggregation over the distinct values.
    Distinct {
        slot: usize,
        inner: Vec<Slot>,
        answer: Box<Answer>,
    },
}

impl Answer {
    /// Two answers with the same text compute the same from the same slots.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::State { slot } => format!("state {slot}"),
            Self::Slot { slot, data_type } => format!("slot {slot} as {data_type}"),
            Self::Sum { slot, to, .. } => format!("sum {slot} as {to}"),
            Self::Mean { sum, count, to, .. } => format!("mean {sum} / {count} as {to}"),
            Self::DistinctCount { slot } => format!("length {slot}"),
            Self::Distinct { slot, inner, answer } => {
                let inner: Vec<&str> = inner.iter().map(|s| s.text.as_str()).collect();
                format!("over {slot}: {} of {}", answer.text(), inner.join("; "))
            }
        }
    }

    /// The values, one per group, from the result of every slot.
    pub(crate) fn compute(&self, results: &[ArrayRef]) -> Result<ArrayRef> {
        match self {
            Self::State { slot } => Ok(Arc::clone(&results[*slot])),
            Self::Slot { slot, data_type } => {
                let result = &results[*slot];
                if result.data_type() == data_type {
                    Ok(Arc::clone(result))
                } else {
                    Ok(cast(result, data_type)?)
                }
            }
            Self::Sum { slot, to, nulled } => narrow(&results[*slot], to, nulled),
            Self::Mean { sum, count, to, nulled } => mean(&results[*sum], &results[*count], to, nulled),
            Self::DistinctCount { slot } => {
                let lists = results[*slot].as_list::<i32>();
                let lengths = lists.value_offsets().windows(2).map(|w| i64::from(w[1] - w[0]));
                Ok(Arc::new(Int64Array::from_iter_values(lengths)))
            }
            Self::Distinct { slot, inner, answer } => {
                let lists = results[*slot].as_list::<i32>();
                let all: Vec<usize> = (0..lists.len()).collect();
                let (owners, values) = flatten(lists, &all);
                let owners: Vec<usize> = owners
                    .into_iter()
                    .map(|owner| usize::try_from(owner).expect("owners were counted in usize"))
                    .collect();
                // Without a filter, accumulators expect every group to have a row; a group may have no values here.
                let filter = BooleanArray::new(BooleanBuffer::new_set(values.len()), None);
                let results = inner
                    .iter()
                    .map(|slot| {
                        let mut accumulator = slot.accumulator()?;
                        accumulator.update_batch(&[Arc::clone(&values)], &owners, Some(&filter), lists.len())?;
                        let state = accumulator.state(EmitTo::All)?;
                        evaluate(slot, &state, &all)
                    })
                    .collect::<Result<Vec<_>>>()?;
                answer.compute(&results)
            }
        }
    }
}

/// An exact sum in a narrower type.
fn narrow(sums: &ArrayRef, to: &DataType, nulled: &NullCounter) -> Result<ArrayRef> {
    let narrowed: ArrayRef = match (sums.data_type(), to) {
        (DataType::Decimal128(_, _), DataType::Int64) => {
            let sums = sums.as_primitive::<Decimal128Type>();
            Arc::new(sums.unary_opt::<_, Int64Type>(|v| i64::try_from(v).ok()))
        }
        (DataType::Decimal128(_, _), DataType::Duration(_)) => {
            let sums = sums.as_primitive::<Decimal128Type>();
            let whole: ArrayRef = Arc::new(sums.unary_opt::<_, Int64Type>(|v| i64::try_from(v).ok()));
            cast(&whole, to)?
        }
        (DataType::Decimal128(_, _), DataType::UInt64) => {
            let sums = sums.as_primitive::<Decimal128Type>();
            Arc::new(sums.unary_opt::<_, UInt64Type>(|v| u64::try_from(v).ok()))
        }
        (DataType::Decimal128(_, _), DataType::Decimal128(precision, _)) => {
            let sums = sums.as_primitive::<Decimal128Type>();
            fit(sums.null_if_overflow_precision(*precision), to)
        }
        (DataType::Decimal256(_, _), DataType::Decimal128(precision, _)) => {
            let sums = sums.as_primitive::<Decimal256Type>();
            let narrow: Decimal128Array = sums.unary_opt(i256::to_i128);
            fit(narrow.null_if_overflow_precision(*precision), to)
        }
        (DataType::Decimal256(_, _), DataType::Decimal256(precision, _)) => {
            let sums = sums.as_primitive::<Decimal256Type>();
            fit(sums.null_if_overflow_precision(*precision), to)
        }
        (from, to) => return not_impl_err!("a sum of {from} as {to}"),
    };
    nulled.add(narrowed.null_count().saturating_sub(sums.null_count()));
    Ok(narrowed)
}

fn fit<T: ArrowPrimitiveType>(values: PrimitiveArray<T>, to: &DataType) -> ArrayRef {
    Arc::new(values.with_data_type(to.clone()))
}

fn mean(sums: &ArrayRef, counts: &ArrayRef, to: &DataType, nulled: &NullCounter) -> Result<ArrayRef> {
    let counts = counts.as_primitive::<Int64Type>().values();
    match (sums.data_type(), to) {
        (DataType::Decimal128(_, _), DataType::Float64) => {
            let sums = sums.as_primitive::<Decimal128Type>();
            // Both are exact until here, so the quotient is the same whatever the order of merging.
            #[expect(clippy::cast_precision_loss)]
            let means = sums
                .iter()
                .zip(counts)
                .map(|(sum, &count)| Some(sum? as f64 / count as f64));
            Ok(Arc::new(means.collect::<Float64Array>()))
        }
        (DataType::Decimal128(_, _), DataType::Duration(_)) => {
            let sums = sums.as_primitive::<Decimal128Type>();
            let means = sums
                .iter()
                .zip(counts)
                .map(|(sum, &count)| i64::try_from(sum? / i128::from(count)).ok());
            Ok(cast(&(Arc::new(means.collect::<Int64Array>()) as ArrayRef), to)?)
        }
        (from, DataType::Decimal128(precision, scale)) => {
            let means = wide(sums)?.scaled_mean(counts, scale - scale_of(from)?);
            let narrow: Decimal128Array = means.unary_opt(i256::to_i128);
            let fitted = narrow.null_if_overflow_precision(*precision);
            nulled.add(fitted.null_count().saturating_sub(sums.null_count()));
            Ok(fit(fitted, to))
        }
        (from, DataType::Decimal256(precision, scale)) => {
            let means = wide(sums)?.scaled_mean(counts, scale - scale_of(from)?);
            let fitted = means.null_if_overflow_precision(*precision);
            nulled.add(fitted.null_count().saturating_sub(sums.null_count()));
            Ok(fit(fitted, to))
        }
        (from, to) => not_impl_err!("a mean of {from} as {to}"),
    }
}

fn scale_of(data_type: &DataType) -> Result<i8> {
    match data_type {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => Ok(*scale),
        other => exec_err!("{other} has no scale"),
    }
}

fn wide(sums: &ArrayRef) -> Result<Decimal256Array> {
    Ok(match sums.data_type() {
        DataType::Decimal128(_, _) => sums.as_primitive::<Decimal128Type>().unary(i256::from_i128),
        DataType::Decimal256(_, _) => sums.as_primitive::<Decimal256Type>().clone(),
        other => return not_impl_err!("a mean of {other}"),
    })
}

trait ScaledMean {
    fn scaled_mean(&self, counts: &[i64], more_digits: i8) -> Decimal256Array;
}

impl ScaledMean for Decimal256Array {
    /// `sum * 10^more_digits / count`, cut off as DataFusion does; NULL where even 256 bits do not suffice.
    fn scaled_mean(&self, counts: &[i64], more_digits: i8) -> Decimal256Array {
        let factor = i256::from_i128(10).pow_wrapping(u32::try_from(more_digits.max(0)).unwrap_or(0));
        let means = self.iter().zip(counts).map(|(sum, &count)| {
            sum?.mul_checked(factor)
                .ok()?
                .div_checked(i256::from_i128(i128::from(count)))
                .ok()
        });
        means.collect::<Decimal256Array>()
    }
}
