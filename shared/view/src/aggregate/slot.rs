use arrow::array::{Array, ArrayRef, BooleanArray, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float16Type, Float32Type, Float64Type};
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::approx_distinct::{ApproxDistinct, estimates};
use super::count::CountRows;
use super::distinct::DistinctValues;
use super::extreme::{Float, FloatExtreme};
use super::sum::{LongDecimal, ShortDecimal, Unsigned, WideSum, WidestDecimal};
use super::sum_long::LongSum;

/// One piece of partial state: what it reads, and how it accumulates.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// What accumulates, for field names and `describe`.
    pub label: String,
    pub kind: SlotKind,
    /// Indices into [`crate::Prepared::inputs`]: arguments, then ordering columns.
    pub args: Vec<usize>,
    pub arg_types: Vec<DataType>,
    /// Index into [`crate::Prepared::inputs`] of the FILTER predicate.
    pub filter: Option<usize>,
    /// Two slots with the same text are the same; it goes into the view's hash.
    pub text: String,
}

#[derive(Debug, Clone)]
pub(crate) enum SlotKind {
    CountRows,
    /// Exact sum of integers or decimals of this type.
    WideSum(DataType),
    FloatExtreme {
        data_type: DataType,
        greatest: bool,
    },
    Distinct(DataType),
    /// A sketch of how many distinct values there were.
    ApproxDistinct,
    Function(Box<AggregateFunctionExpr>),
}

/// The state type of an exact sum, if values of `data_type` have one.
pub(crate) fn wide_sum_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Int64 | DataType::UInt64 => DataType::Decimal128(38, 0),
        // 10^19 values of 19 digits fit into 38 digits; no log holds as many.
        DataType::Decimal128(precision, scale) if *precision <= 19 => DataType::Decimal128(38, *scale),
        DataType::Decimal128(_, scale) => DataType::Decimal256(76, *scale),
        DataType::Decimal256(precision, scale) if *precision <= 57 => DataType::Decimal256(76, *scale),
        _ => return None,
    })
}

impl Slot {
    /// Whether its accumulator takes dictionaries for arguments.
    pub(crate) fn takes_dictionary(&self) -> bool {
        matches!(self.kind, SlotKind::ApproxDistinct)
    }

    /// A new, empty accumulator.
    pub(crate) fn accumulator(&self) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(match &self.kind {
            SlotKind::CountRows => Box::new(CountRows::default()),
            SlotKind::Distinct(data_type) => Box::new(DistinctValues::try_new(data_type)?),
            SlotKind::WideSum(data_type) => wide_sum(data_type)?,
            SlotKind::FloatExtreme { data_type, greatest } => match data_type {
                DataType::Float16 => float_extreme::<Float16Type>(*greatest),
                DataType::Float32 => float_extreme::<Float32Type>(*greatest),
                _ => float_extreme::<Float64Type>(*greatest),
            },
            SlotKind::ApproxDistinct => Box::new(ApproxDistinct::default()),
            SlotKind::Function(function) => {
                if function.groups_accumulator_supported() {
                    function.create_groups_accumulator()?
                } else {
                    let function = function.clone();
                    Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator()))
                }
            }
        })
    }

    /// The state of one group that no row has come into.
    pub(crate) fn empty_group(&self) -> Result<Vec<ArrayRef>> {
        let mut accumulator = self.accumulator()?;
        // A row that the filter drops: a batch of no rows would count as seen, since accumulators expect every group of
        // a batch to have a row in it.
        let row: Vec<ArrayRef> = self.arg_types.iter().map(|t| new_null_array(t, 1)).collect();
        accumulator.update_batch(&row, &[0], Some(&BooleanArray::from(vec![false])), 1)?;
        accumulator.state(EmitTo::All)
    }

    /// Fields of the state, named after the slot's number. All are nullable, so that every batch fits.
    pub(crate) fn state_fields(&self, number: usize) -> Result<Vec<Field>> {
        let name = format!("{number}_{}", self.label);
        let single = |data_type| Ok(vec![Field::new(&name, data_type, true)]);
        match &self.kind {
            SlotKind::CountRows => single(DataType::Int64),
            SlotKind::Distinct(data_type) => single(DataType::List(super::distinct::item_field(data_type))),
            SlotKind::WideSum(data_type) => match wide_sum_type(data_type) {
                Some(state) => single(state),
                None => not_impl_err!("sum of {data_type}"),
            },
            SlotKind::FloatExtreme { data_type, .. } => single(data_type.clone()),
            SlotKind::ApproxDistinct => single(DataType::Binary),
            SlotKind::Function(function) => {
                let fields = function.state_fields()?;
                if let [field] = fields.as_slice() {
                    return single(field.data_type().clone());
                }
                Ok(fields
                    .iter()
                    .enumerate()
                    .map(|(part, field)| {
                        let inner = field
                            .name()
                            .split_once('[')
                            .map(|(_, part)| part.trim_end_matches(']').to_string());
                        let part = inner.unwrap_or_else(|| format!("order{part}"));
                        Field::new(format!("{name}[{part}]"), field.data_type().clone(), true)
                    })
                    .collect())
            }
        }
    }

    /// Whether its state is a t-digest: two of the same rows differ within bounds.
    pub(crate) fn is_digest(&self) -> bool {
        match &self.kind {
            SlotKind::Function(function) => super::compile::class_of(function.fun().name()) == super::Class::Sketch,
            _ => false,
        }
    }

    /// Whether the one state column already is the result.
    fn state_is_result(&self) -> bool {
        match &self.kind {
            SlotKind::Function(function) => matches!(
                function.fun().name(),
                "count" | "sum" | "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor"
            ),
            SlotKind::ApproxDistinct => false,
            _ => true,
        }
    }
}

fn float_extreme<T: Float>(greatest: bool) -> Box<dyn GroupsAccumulator> {
    if greatest {
        Box::new(FloatExtreme::<T, true>::new())
    } else {
        Box::new(FloatExtreme::<T, false>::new())
    }
}

fn wide_sum(data_type: &DataType) -> Result<Box<dyn GroupsAccumulator>> {
    Ok(match data_type {
        DataType::Int64 => Box::new(LongSum::default()),
        DataType::UInt64 => Box::new(WideSum::<Unsigned>::new(0)),
        DataType::Decimal128(precision, scale) if *precision <= 19 => Box::new(WideSum::<ShortDecimal>::new(*scale)),
        DataType::Decimal128(_, scale) => Box::new(WideSum::<LongDecimal>::new(*scale)),
        DataType::Decimal256(_, scale) => Box::new(WideSum::<WidestDecimal>::new(*scale)),
        other => return not_impl_err!("sum of {other}"),
    })
}

/// The result of a slot for each row of its merged state columns; every row is one group.
pub(crate) fn evaluate(slot: &Slot, state: &[ArrayRef], groups: &[usize]) -> Result<ArrayRef> {
    if slot.state_is_result() {
        return Ok(std::sync::Arc::clone(&state[0]));
    }
    if matches!(slot.kind, SlotKind::ApproxDistinct) {
        return estimates(&state[0]);
    }
    let mut accumulator = slot.accumulator()?;
    accumulator.merge_batch(state, groups, groups.len())?;
    accumulator.evaluate(EmitTo::All)
}

/// The rows that count: valid and passed by the filter. `None` when all do.
pub(crate) fn selected(nulls: Option<&NullBuffer>, filter: Option<&BooleanArray>) -> Option<NullBuffer> {
    let filter = filter.map(|f| match f.nulls() {
        None => NullBuffer::new(f.values().clone()),
        Some(valid) => NullBuffer::new(f.values() & valid.inner()),
    });
    NullBuffer::union(nulls.filter(|n| n.null_count() > 0), filter.as_ref()).filter(|rows| rows.null_count() > 0)
}
