use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::seen::Seen;
use super::slot::selected;

/// The exact sum of 64-bit integers, as DECIMAL(38, 0).
///
/// Nearly all sums fit into 64 bits on the way, so only what a sum has lost by wrapping is kept in more.
#[derive(Debug, Default)]
pub(crate) struct LongSum {
    sums: Vec<i64>,
    /// What is missing in the sums of some groups.
    carried: BTreeMap<usize, i128>,
    /// A sum of nothing is NULL.
    seen: Seen,
}

impl LongSum {
    fn add_wide(&mut self, group: usize, value: i128) {
        match i64::try_from(value) {
            Ok(value) => add(&mut self.sums, &mut self.carried, group, value),
            Err(_) => *self.carried.entry(group).or_default() += value,
        }
    }
}

#[inline]
fn add(sums: &mut [i64], carried: &mut BTreeMap<usize, i128>, group: usize, value: i64) {
    let (sum, overflowed) = sums[group].overflowing_add(value);
    if overflowed {
        carry(carried, group, sums[group]);
        sums[group] = value;
    } else {
        sums[group] = sum;
    }
}

#[cold]
fn carry(carried: &mut BTreeMap<usize, i128>, group: usize, sum: i64) {
    *carried.entry(group).or_default() += i128::from(sum);
}

/// The sum of a batch: its halves of 32 bits cannot overflow, and are added many at a time.
fn total(values: &[i64]) -> i128 {
    let chunks = values.chunks(1 << 30);
    let halves = chunks.map(|values| {
        let high: i64 = values.iter().map(|value| value >> 32).sum();
        let low: i64 = values.iter().map(|value| value & 0xffff_ffff).sum();
        (i128::from(high) << 32) + i128::from(low)
    });
    halves.sum()
}

/// As [`total`], of the rows that are valid.
fn total_of(values: &[i64], rows: &NullBuffer) -> i128 {
    let bits = rows.inner().bit_chunks();
    let chunks = bits.iter_padded().zip(values.chunks(64));
    // A word of 64 rows at a time, whose halves cannot overflow. Not one branch: which rows are valid cannot be foreseen.
    let words = chunks.filter(|(word, _)| *word != 0).map(|(word, chunk)| {
        let (mut high, mut low) = (0, 0);
        for (bit, &value) in chunk.iter().enumerate() {
            let kept = value & ((word >> bit & 1).cast_signed().wrapping_neg());
            high += kept >> 32;
            low += kept & 0xffff_ffff;
        }
        (i128::from(high) << 32) + i128::from(low)
    });
    words.sum()
}

impl GroupsAccumulator for LongSum {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.sums.resize(total_groups, 0);
        let values = values[0].as_primitive::<Int64Type>();
        let all = values.values();
        match selected(values.nulls(), filter) {
            None => {
                self.seen.all_of(groups, filter.is_some(), total_groups);
                if total_groups == 1 {
                    self.add_wide(0, total(all));
                    return Ok(());
                }
                let (sums, carried) = (&mut self.sums, &mut self.carried);
                for (&group, &value) in groups.iter().zip(all) {
                    add(sums, carried, group, value);
                }
            }
            Some(rows) => {
                let seen = self.seen.some_of(total_groups);
                if total_groups == 1 {
                    seen[0] |= rows.null_count() < rows.len();
                    self.add_wide(0, total_of(all, &rows));
                    return Ok(());
                }
                let (sums, carried) = (&mut self.sums, &mut self.carried);
                for row in rows.valid_indices() {
                    let group = groups[row];
                    add(sums, carried, group, all[row]);
                    seen[group] = true;
                }
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.sums.resize(total_groups, 0);
        let values = values[0].as_primitive::<Decimal128Type>();
        match selected(values.nulls(), None) {
            None => {
                self.seen.all_of(groups, false, total_groups);
                for (&group, &value) in groups.iter().zip(values.values()) {
                    self.add_wide(group, value);
                }
            }
            Some(rows) => {
                for row in rows.valid_indices() {
                    self.add_wide(groups[row], values.value(row));
                }
                let seen = self.seen.some_of(total_groups);
                rows.valid_indices().for_each(|row| seen[groups[row]] = true);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = emit_to.take_needed(&mut self.sums);
        let emitted = sums.len();
        let mut sums: Vec<i128> = sums.into_iter().map(i128::from).collect();
        let kept = self.carried.split_off(&emitted);
        for (group, carried) in std::mem::take(&mut self.carried) {
            sums[group] += carried;
        }
        self.carried = kept.into_iter().map(|(group, sum)| (group - emitted, sum)).collect();
        let nulls = self.seen.take(emit_to);
        Ok(Arc::new(
            Decimal128Array::new(sums.into(), nulls).with_data_type(DataType::Decimal128(38, 0)),
        ))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, _values: &[ArrayRef], _filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("sum has no shortcut from rows to state")
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i64>() + self.carried.len() * size_of::<(usize, i128)>() + self.seen.size()
    }
}
