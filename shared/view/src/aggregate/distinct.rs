use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, UInt32Array, UInt64Array, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{filter as keep, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, UInt64Type};
use datafusion::common::{Result, exec_datafusion_err, not_impl_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::slot::selected;
use crate::keys::normalise_floats;

/// The distinct values of each group: the state of every DISTINCT aggregate.
///
/// One hash table of (group, value) pairs serves all groups, where DataFusion keeps a set, and its allocations, per group.
/// The state is a list of values per group, in the order in which they were first seen.
pub(crate) struct DistinctValues {
    item: FieldRef,
    pairs: Box<dyn GroupValues>,
    groups: usize,
    /// Where `intern` writes the ids of pairs, which nobody needs.
    ids: Vec<usize>,
}

/// Field of the list's items.
pub(crate) fn item_field(data_type: &DataType) -> FieldRef {
    Arc::new(Field::new_list_field(data_type.clone(), true))
}

impl DistinctValues {
    pub(crate) fn try_new(data_type: &DataType) -> Result<Self> {
        let schema = Schema::new(vec![
            Field::new("group", DataType::UInt64, false),
            Field::new("value", data_type.clone(), true),
        ]);
        let pairs = new_group_values(Arc::new(schema), &GroupOrdering::None)?;
        Ok(Self {
            item: item_field(data_type),
            pairs,
            groups: 0,
            ids: vec![],
        })
    }

    fn insert(&mut self, groups: UInt64Array, values: &ArrayRef) -> Result<()> {
        self.pairs
            .intern(&[Arc::new(groups), normalise_floats(values)], &mut self.ids)
    }

    fn lists(&mut self) -> Result<ListArray> {
        let groups = std::mem::take(&mut self.groups);
        let pairs = self.pairs.len();
        let emitted = self.pairs.emit(EmitTo::All)?;
        // Not every implementation forgets its groups when it emits them.
        self.pairs.clear_shrink(pairs);
        let (owners, values) = (emitted[0].as_primitive::<UInt64Type>().values(), &emitted[1]);
        // Counting sort by group: stable, and one pass to place each value.
        let mut lengths = vec![0_usize; groups];
        for &owner in owners {
            lengths[group_of(owner)] += 1;
        }
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        let mut next: Vec<i32> = offsets[..groups].to_vec();
        let mut order = vec![0_u32; owners.len()];
        for (pair, &owner) in owners.iter().enumerate() {
            let place = &mut next[group_of(owner)];
            order[usize::try_from(*place).expect("offsets are never negative")] =
                u32::try_from(pair).map_err(|_| exec_datafusion_err!("more than 2^32 distinct values"))?;
            *place += 1;
        }
        let values = take(values, &UInt32Array::from(order), None)?;
        Ok(ListArray::try_new(Arc::clone(&self.item), offsets, values, None)?)
    }
}

fn group_of(owner: u64) -> usize {
    usize::try_from(owner).expect("groups are counted in usize")
}

impl GroupsAccumulator for DistinctValues {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.groups = total_groups;
        let owners: UInt64Array = groups.iter().map(|&g| g as u64).collect::<Vec<_>>().into();
        match selected(values[0].logical_nulls().as_ref(), filter) {
            None => self.insert(owners, &values[0]),
            Some(rows) => {
                let rows = BooleanArray::new(rows.into_inner(), None);
                let owners = keep(&owners, &rows)?.as_primitive::<UInt64Type>().clone();
                self.insert(owners, &keep(&values[0], &rows)?)
            }
        }
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.groups = total_groups;
        let lists = values[0].as_list::<i32>();
        let (owners, items) = flatten(lists, groups);
        self.insert(owners.into(), &items)
    }

    fn evaluate(&mut self, _emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(Arc::new(self.lists()?))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, _values: &[ArrayRef], _filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("DISTINCT has no shortcut from rows to state")
    }

    fn size(&self) -> usize {
        self.pairs.size() + self.ids.capacity() * size_of::<usize>()
    }
}

/// The items of all lists one after the other, and for each the group of its list.
pub(crate) fn flatten(lists: &ListArray, groups: &[usize]) -> (Vec<u64>, ArrayRef) {
    let offsets = lists.value_offsets();
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return (vec![], new_empty_array(&lists.value_type()));
    };
    let at = |offset: i32| usize::try_from(offset).expect("offsets are never negative");
    let items = lists.values().slice(at(*first), at(last - first));
    let mut owners = Vec::with_capacity(items.len());
    for (bounds, &group) in offsets.windows(2).zip(groups) {
        owners.extend(std::iter::repeat_n(group as u64, at(bounds[1] - bounds[0])));
    }
    (owners, items)
}
