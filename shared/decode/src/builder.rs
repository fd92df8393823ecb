//! Column builders that can take back rows, and finish into Arrow arrays.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, PrimitiveArray, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::ArrowPrimitiveType;

/// Which rows are null. Costs one addition per row until the first null.
#[derive(Debug, Default)]
pub(crate) struct Validity {
    len: usize,
    bits: Option<BooleanBufferBuilder>,
}

impl Validity {
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub fn push_valid(&mut self) {
        self.len += 1;
        if let Some(bits) = &mut self.bits {
            bits.append(true);
        }
    }

    #[inline]
    pub fn push_null(&mut self) {
        let len = self.len;
        let bits = self.bits.get_or_insert_with(|| {
            let mut bits = BooleanBufferBuilder::new(len.max(1024));
            bits.append_n(len, true);
            bits
        });
        bits.append(false);
        self.len += 1;
    }

    /// Whether row `index`, which must exist, is null.
    pub fn is_null(&self, index: usize) -> bool {
        self.bits.as_ref().is_some_and(|bits| !bits.get_bit(index))
    }

    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.len = len;
            if let Some(bits) = &mut self.bits {
                bits.truncate(len);
            }
        }
    }

    pub fn finish(&mut self) -> Option<NullBuffer> {
        self.len = 0;
        self.bits
            .take()
            .map(|mut bits| NullBuffer::new(bits.finish()))
            .filter(|nulls| nulls.null_count() > 0)
    }
}

/// Rows of a fixed-width type.
#[derive(Debug)]
pub(crate) struct Primitive<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    pub validity: Validity,
}

impl<T: ArrowPrimitiveType> Default for Primitive<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            validity: Validity::default(),
        }
    }
}

impl<T: ArrowPrimitiveType> Primitive<T> {
    #[inline(always)]
    pub fn push(&mut self, value: T::Native) {
        self.values.push(value);
        self.validity.push_valid();
    }

    #[inline]
    pub fn push_null(&mut self) {
        self.values.push(T::default_value());
        self.validity.push_null();
    }

    pub fn reserve(&mut self, rows: usize) {
        self.values.reserve(rows);
    }

    pub fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.validity.truncate(rows);
    }

    /// What was gathered, which leaves the builder empty.
    pub fn finish(&mut self) -> PrimitiveArray<T> {
        let values = std::mem::take(&mut self.values);
        PrimitiveArray::new(ScalarBuffer::from(values), self.validity.finish())
    }
}

/// Rows of BOOLEAN.
#[derive(Debug)]
pub(crate) struct Booleans {
    values: BooleanBufferBuilder,
    pub validity: Validity,
}

impl Default for Booleans {
    fn default() -> Self {
        Self {
            values: BooleanBufferBuilder::new(0),
            validity: Validity::default(),
        }
    }
}

impl Booleans {
    #[inline(always)]
    pub fn push(&mut self, value: bool) {
        self.values.append(value);
        self.validity.push_valid();
    }

    pub fn push_null(&mut self) {
        self.values.append(false);
        self.validity.push_null();
    }

    pub fn truncate(&mut self, rows: usize) {
        if rows < self.values.len() {
            self.values.truncate(rows);
        }
        self.validity.truncate(rows);
    }

    pub fn finish(&mut self) -> ArrayRef {
        Arc::new(BooleanArray::new(self.values.finish(), self.validity.finish()))
    }
}

/// Rows of TEXT or BYTES. A row is written to [`Bytes::values`] first, and then ended.
#[derive(Debug)]
pub(crate) struct Bytes {
    pub values: Vec<u8>,
    /// Ends of the rows, after a leading 0.
    offsets: Vec<i32>,
    pub validity: Validity,
    /// Bytes per row of the batch before, rounded up: the next batch is probably like it.
    average: usize,
}

impl Default for Bytes {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            offsets: vec![0],
            validity: Validity::default(),
            average: 0,
        }
    }
}

impl Bytes {
    /// Ends the row that was written to `values`.
    #[inline(always)]
    pub fn end_row(&mut self) {
        self.offsets.push(self.end());
        self.validity.push_valid();
    }

    #[inline]
    pub fn push_null(&mut self) {
        self.offsets.push(self.end());
        self.validity.push_null();
    }

    #[inline(always)]
    fn end(&self) -> i32 {
        // A value is never longer than its JSON, and all JSON of a batch is addressed by 32-bit offsets.
        i32::try_from(self.values.len()).expect("decoded text is no longer than the payloads of its batch")
    }

    /// Makes room for `rows` more rows out of `bytes` bytes of JSON.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.offsets.reserve(rows);
        self.values.reserve(rows.saturating_mul(self.average).min(bytes));
    }

    /// Keeps `rows` rows, and nothing of a row that was begun.
    pub fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        let end = self.offsets.last().copied().unwrap_or(0);
        self.values.truncate(usize::try_from(end).expect("offsets are lengths"));
        self.validity.truncate(rows);
    }

    fn parts(&mut self) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        if let Some(average) = self.values.len().checked_div(self.validity.len()) {
            self.average = average + 1;
        }
        let values = std::mem::take(&mut self.values);
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        (
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Buffer::from_vec(values),
            self.validity.finish(),
        )
    }

    pub fn finish_text(&mut self) -> ArrayRef {
        let (offsets, values, nulls) = self.parts();
        Arc::new(StringArray::new(offsets, values, nulls))
    }

    pub fn finish_bytes(&mut self) -> ArrayRef {
        let (offsets, values, nulls) = self.parts();
        Arc::new(BinaryArray::new(offsets, values, nulls))
    }
}
