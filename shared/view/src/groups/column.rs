//! The numbers of a key column's values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int64Array, UInt32Array, make_array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::common::Result;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::dense::Dense;
use super::table::Table;
use crate::dictionary::SameValues;

/// No value of a dictionary has this number.
const UNKNOWN: u32 = u32::MAX;
/// What an emptied table keeps of its memory.
const KEPT_BYTES: usize = 1 << 20;

/// Numbers the distinct values of a column, NULL among them, from 0 on, in the order in which they come.
pub(super) struct ColumnIds {
    values: Values,
    /// The numbers of the last dictionary's values, as far as they have occurred.
    dictionary: Option<(SameValues, Vec<u32>)>,
    scratch: Vec<usize>,
}

enum Values {
    /// 64-bit integers and times.
    Longs(Longs),
    /// Any other type.
    Others(Box<dyn GroupValues>),
}

struct Longs {
    data_type: DataType,
    index: Index,
    values: Vec<i64>,
    /// The number of NULL, which is not in the index: numbers from there on are one more than the index's.
    null: Option<usize>,
}

/// Where the number of a value is found: beside those of its neighbours, as long as values lie close together.
enum Index {
    Dense(Dense),
    Hashed(Table),
}

impl ColumnIds {
    pub(super) fn new(data_type: &DataType) -> Result<Self> {
        let values = match data_type {
            DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, _) => Values::Longs(Longs {
                data_type: data_type.clone(),
                index: Index::Dense(Dense::default()),
                values: vec![],
                null: None,
            }),
            other => {
                let schema = Schema::new(vec![Field::new("key", other.clone(), true)]);
                Values::Others(new_group_values(Arc::new(schema), &GroupOrdering::None)?)
            }
        };
        Ok(Self {
            values,
            dictionary: None,
            scratch: vec![],
        })
    }

    pub(super) fn len(&self) -> usize {
        match &self.values {
            Values::Longs(longs) => longs.values.len(),
            Values::Others(values) => values.len(),
        }
    }

    /// Writes the number of each row's value to `ids`.
    pub(super) fn assign(&mut self, column: &ArrayRef, ids: &mut Vec<usize>) -> Result<()> {
        if let Some(dictionary) = column.as_dictionary_opt::<Int32Type>() {
            return self.assign_dictionary(dictionary, ids);
        }
        match &mut self.values {
            Values::Longs(longs) => {
                longs.assign(column, ids);
                Ok(())
            }
            Values::Others(values) => values.intern(std::slice::from_ref(column), ids),
        }
    }

    fn assign_dictionary(&mut self, column: &DictionaryArray<Int32Type>, ids: &mut Vec<usize>) -> Result<()> {
        if column.values().null_count() > 0 {
            // Parquet has none such.
            let plain = cast(column, column.values().data_type())?;
            return self.assign(&plain, ids);
        }
        let mut known = match self.dictionary.take() {
            Some((values, known)) if values.are_of(column) => known,
            _ => vec![UNKNOWN; column.values().len()],
        };
        let index = |key: i32| usize::try_from(key).expect("keys of a dictionary are not negative");
        let keys = column.keys().values();
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        let mut complete = true;
        ids.clear();
        if let Some(nulls) = nulls {
            let mut null = std::mem::take(&mut self.scratch);
            self.assign(&new_null_array(column.values().data_type(), 1), &mut null)?;
            ids.extend(keys.iter().zip(nulls).map(|(&key, valid)| {
                // The key of a row that is null may be anything.
                let id = if valid { known[index(key)] } else { null[0] as u32 };
                complete &= id != UNKNOWN;
                id as usize
            }));
            self.scratch = null;
        } else {
            ids.extend(keys.iter().map(|&key| {
                let id = known[index(key)];
                complete &= id != UNKNOWN;
                id as usize
            }));
        }
        if !complete {
            self.learn(column, &mut known)?;
            for (row, id) in ids.iter_mut().enumerate().filter(|(_, id)| **id == UNKNOWN as usize) {
                *id = known[index(keys[row])] as usize;
            }
        }
        self.dictionary = Some((SameValues::of(column), known));
        Ok(())
    }

    /// Numbers the values that occur and are not known yet.
    fn learn(&mut self, column: &DictionaryArray<Int32Type>, known: &mut [u32]) -> Result<()> {
        let mut new: Vec<u32> = vec![];
        for key in column.keys().iter().flatten() {
            let id = &mut known[key as usize];
            if *id == UNKNOWN {
                // Not its number yet, but no longer unknown.
                *id = 0;
                new.push(key.unsigned_abs());
            }
        }
        let new = UInt32Array::from(new);
        let values = take(column.values(), &new, None)?;
        let mut numbers = std::mem::take(&mut self.scratch);
        self.assign(&values, &mut numbers)?;
        for (&value, &number) in new.values().iter().zip(&numbers) {
            known[value as usize] = u32::try_from(number).expect("an array has fewer than 2^31 values");
        }
        self.scratch = numbers;
        Ok(())
    }

    /// The order of the values, ascending and NULL first, where it is known without sorting them.
    pub(super) fn known_order(&self) -> Option<UInt32Array> {
        match &self.values {
            Values::Longs(longs) => longs.known_order(),
            Values::Others(_) => None,
        }
    }

    /// Every value at its number; all are forgotten.
    pub(super) fn emit(&mut self) -> Result<ArrayRef> {
        self.dictionary = None;
        match &mut self.values {
            Values::Longs(longs) => Ok(longs.emit()),
            Values::Others(values) => {
                let count = values.len();
                let mut emitted = values.emit(EmitTo::All)?;
                // Not every implementation forgets its values when it emits them.
                values.clear_shrink(count);
                Ok(emitted.swap_remove(0))
            }
        }
    }

    pub(super) fn size(&self) -> usize {
        let values = match &self.values {
            Values::Longs(longs) => longs.index.size() + longs.values.capacity() * size_of::<i64>(),
            Values::Others(values) => values.size(),
        };
        let dictionary = self
            .dictionary
            .as_ref()
            .map_or(0, |(_, known)| known.capacity() * size_of::<u32>());
        values + dictionary + self.scratch.capacity() * size_of::<usize>()
    }
}

impl Longs {
    fn assign(&mut self, column: &ArrayRef, ids: &mut Vec<usize>) {
        let (values, nulls) = match column.data_type() {
            DataType::Int64 => {
                let array = column.as_primitive::<Int64Type>();
                (array.values(), array.nulls())
            }
            _ => {
                let array = column.as_primitive::<TimestampMicrosecondType>();
                (array.values(), array.nulls())
            }
        };
        ids.clear();
        ids.reserve(values.len());
        // What stands in the place of a NULL has room then too, which it does not need.
        self.index.fit(values);
        if let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) {
            for (row, &value) in values.iter().enumerate() {
                ids.push(if nulls.is_valid(row) {
                    self.one(value)
                } else {
                    let next = self.values.len();
                    let null = *self.null.get_or_insert(next);
                    if null == next {
                        self.values.push(0);
                    }
                    null
                });
            }
            return;
        }
        // Windows of events that come nearly in order change rarely; where values do change, all are looked up.
        let mut row = 0;
        let mut runs = 0;
        while row < values.len() && runs <= row / 8 + 8 {
            let value = values[row];
            let id = self.one(value);
            let end = values[row..]
                .iter()
                .position(|&v| v != value)
                .map_or(values.len(), |run| row + run);
            ids.resize(end, id);
            row = end;
            runs += 1;
        }
        self.each(&values[row..], ids);
    }

    /// Numbers values that change from row to row.
    fn each(&mut self, rest: &[i64], ids: &mut Vec<usize>) {
        let null = self.null.unwrap_or(usize::MAX);
        let known = &mut self.values;
        match &mut self.index {
            Index::Dense(dense) => ids.extend(rest.iter().map(|&value| {
                let (place, new) = dense.assign(value);
                if new {
                    known.push(value);
                }
                number(place, null)
            })),
            Index::Hashed(table) => {
                let first = ids.len();
                ids.resize(first + rest.len(), 0);
                let ids = &mut ids[first..];
                table.assign(rest.iter().map(|&v| v.cast_unsigned()), |row, place, new| {
                    if new {
                        known.push(rest[row]);
                    }
                    ids[row] = number(place, null);
                });
            }
        }
    }

    fn one(&mut self, value: i64) -> usize {
        let (place, new) = match &mut self.index {
            Index::Dense(dense) => dense.assign(value),
            Index::Hashed(table) => table.assign_one(value.cast_unsigned()),
        };
        if new {
            self.values.push(value);
        }
        number(place, self.null.unwrap_or(usize::MAX))
    }

    fn known_order(&self) -> Option<UInt32Array> {
        let Index::Dense(dense) = &self.index else {
            return None;
        };
        let null = self.null.unwrap_or(usize::MAX);
        let numbers = dense.sorted().map(|place| as_number(number(place, null)));
        Some(
            self.null
                .map(as_number)
                .into_iter()
                .chain(numbers)
                .collect::<Vec<_>>()
                .into(),
        )
    }

    fn emit(&mut self) -> ArrayRef {
        self.index.clear(KEPT_BYTES);
        let values = std::mem::take(&mut self.values);
        let nulls = self.null.take().map(|null| {
            let valid: Vec<bool> = (0..values.len()).map(|id| id != null).collect();
            NullBuffer::from(valid)
        });
        // The types that come here are 64-bit integers with another name.
        let data = Int64Array::new(values.into(), nulls).into_data().into_builder();
        let data = data.data_type(self.data_type.clone()).build();
        make_array(data.expect("a time in microseconds is 64 bits"))
    }
}

impl Index {
    /// Makes room for values: in a hash table, from when they lie too far apart.
    fn fit(&mut self, values: &[i64]) {
        if let Self::Dense(dense) = self
            && !dense.fit(values)
        {
            let mut table = Table::default();
            let known = dense.in_order_of_number();
            table.assign(known.iter().map(|&value| value.cast_unsigned()), |_, _, _| {});
            *self = Self::Hashed(table);
        }
    }

    fn clear(&mut self, keep_bytes: usize) {
        match self {
            Self::Dense(dense) => dense.clear(keep_bytes),
            Self::Hashed(table) => table.clear(keep_bytes),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.size(),
            Self::Hashed(table) => table.size(),
        }
    }
}

fn as_number(number: usize) -> u32 {
    u32::try_from(number).expect("an index has fewer than 2^32 values")
}

/// The number of a value, from its number in the index and that of NULL.
fn number(place: u32, null: usize) -> usize {
    let place = place as usize;
    place + usize::from(place >= null)
}
