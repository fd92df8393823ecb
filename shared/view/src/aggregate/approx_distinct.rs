use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::hash_utils::{HLL_RANDOM_STATE, create_hashes};
use datafusion::common::{Result, exec_err, not_impl_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::sketch::{Entry, Sketch, count_encoded};
use super::slot::selected;
use crate::dictionary::SameValues;

/// Version of the sketch's encoding; it goes into the view's hash.
pub(crate) const SKETCH_VERSION: u32 = 1;

/// `approx_distinct`: a HyperLogLog sketch per group, small for a group of few values. The state is one encoded sketch per
/// group, empty for none.
#[derive(Debug, Default)]
pub(crate) struct ApproxDistinct {
    groups: Vec<Sketch>,
    /// What the sketches hold on the heap.
    heap_bytes: usize,
    hashes: Vec<u64>,
    /// What each value of the last dictionary does to a sketch.
    dictionary: Option<(SameValues, Vec<Entry>)>,
}

/// Whether values of a type are counted by a sketch; DataFusion counts those of the small types exactly.
pub(crate) fn is_sketched(data_type: &DataType) -> bool {
    use DataType::{
        Binary, Date32, Date64, Decimal128, Decimal256, Duration, Int32, Int64, List, Struct, Time32, Time64,
        Timestamp, UInt32, UInt64, Utf8,
    };
    matches!(
        data_type,
        Int32
            | Int64
            | UInt32
            | UInt64
            | Date32
            | Date64
            | Time32(_)
            | Time64(_)
            | Timestamp(_, _)
            | Duration(_)
            | Decimal128(_, _)
            | Decimal256(_, _)
            | Utf8
            | Binary
            | List(_)
            | Struct(_)
    )
}

impl ApproxDistinct {
    fn grow(&mut self, total_groups: usize) {
        if self.groups.len() < total_groups {
            self.groups.resize_with(total_groups, Sketch::default);
        }
    }

    fn grown(&mut self, heap_bytes: isize) {
        self.heap_bytes = self.heap_bytes.saturating_add_signed(heap_bytes);
    }

    fn hash(&mut self, values: &ArrayRef) -> Result<()> {
        self.hashes.clear();
        self.hashes.resize(values.len(), 0);
        create_hashes([values], &HLL_RANDOM_STATE, &mut self.hashes)?;
        Ok(())
    }
}

/// Raises registers for the rows that count.
fn take_in(
    groups: &mut [Sketch],
    ids: &[usize],
    values: &dyn Array,
    filter: Option<&BooleanArray>,
    entry: impl Fn(usize) -> Entry,
) -> isize {
    match selected(values.logical_nulls().as_ref(), filter) {
        None => ids
            .iter()
            .enumerate()
            .map(|(row, &group)| groups[group].raise(entry(row)))
            .sum(),
        Some(rows) => rows.valid_indices().map(|row| groups[ids[row]].raise(entry(row))).sum(),
    }
}

impl GroupsAccumulator for ApproxDistinct {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        ids: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.grow(total_groups);
        let added = if let Some(dictionary) = values[0].as_dictionary_opt::<Int32Type>() {
            let entries = match self.dictionary.take() {
                Some((values, entries)) if values.are_of(dictionary) => entries,
                _ => {
                    self.hash(dictionary.values())?;
                    self.hashes.iter().map(|&hash| Entry::of_hash(hash)).collect()
                }
            };
            let keys = dictionary.keys().values();
            // The key of a row that is null may be anything.
            let entry = |row: usize| entries[usize::try_from(keys[row]).unwrap_or(0)];
            let added = take_in(&mut self.groups, ids, dictionary, filter, entry);
            self.dictionary = Some((SameValues::of(dictionary), entries));
            added
        } else {
            self.hash(&values[0])?;
            let hashes = &self.hashes;
            take_in(&mut self.groups, ids, &values[0], filter, |row| {
                Entry::of_hash(hashes[row])
            })
        };
        self.grown(added);
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], ids: &[usize], total_groups: usize) -> Result<()> {
        self.grow(total_groups);
        let states = values[0].as_binary::<i32>();
        for (row, &group) in ids.iter().enumerate() {
            if states.is_valid(row) {
                let added = self.groups[group].merge(states.value(row))?;
                self.grown(added);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        let freed: usize = groups.iter().map(Sketch::heap_bytes).sum();
        self.heap_bytes -= freed;
        Ok(Arc::new(UInt64Array::from_iter_values(
            groups.iter().map(Sketch::count),
        )))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = emit_to.take_needed(&mut self.groups);
        self.dictionary = None;
        let mut bytes = vec![];
        let mut offsets = Vec::with_capacity(groups.len() + 1);
        offsets.push(0);
        let mut scratch = vec![];
        for sketch in &groups {
            sketch.encode(&mut scratch, &mut bytes);
            let Ok(end) = i32::try_from(bytes.len()) else {
                return exec_err!("the sketches of {} groups are more than 2 GiB at once", groups.len());
            };
            offsets.push(end);
            self.heap_bytes -= sketch.heap_bytes();
        }
        let states = BinaryArray::try_new(OffsetBuffer::new(offsets.into()), bytes.into(), None)?;
        Ok(vec![Arc::new(states)])
    }

    fn convert_to_state(&self, _values: &[ArrayRef], _filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("approx_distinct has no shortcut from rows to state")
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<Sketch>()
            + self.heap_bytes
            + self.hashes.capacity() * size_of::<u64>()
            + self
                .dictionary
                .as_ref()
                .map_or(0, |(_, entries)| entries.capacity() * size_of::<Entry>())
    }
}

/// The estimates of encoded sketches.
pub(crate) fn estimates(states: &ArrayRef) -> Result<ArrayRef> {
    let states = states.as_binary::<i32>();
    let counts = states.iter().map(|state| count_encoded(state.unwrap_or_default()));
    Ok(Arc::new(UInt64Array::from(counts.collect::<Result<Vec<u64>>>()?)))
}
