//! Rows of Arrow batches as DataRow messages, in the text or the binary format of each column.

mod binary;
mod numeric;
mod text;

pub(crate) use binary::{EPOCH_DAYS, EPOCH_MICROS};
pub(crate) use numeric::read_numeric;
pub(crate) use text::unescaped;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use bytes::{BufMut, BytesMut};

use crate::wire::{Column, Outgoing};

/// Writes the value of one row, without its length; never called for NULL.
pub(crate) type Write = Box<dyn Fn(usize, &mut BytesMut) + Send>;

/// Writes the rows of one batch.
pub(crate) struct Rows {
    rows: usize,
    next: usize,
    columns: Vec<Cell>,
    formats: Vec<bool>,
}

/// A column of a batch: its NULLs, and how its values are written.
pub(crate) struct Cell {
    nulls: Option<NullBuffer>,
    write: Write,
}

impl Rows {
    /// # Errors
    /// For values that cannot be spelled, which no column that queries make has.
    pub(crate) fn new(batch: &RecordBatch, columns: &[Column]) -> Result<Self, ArrowError> {
        let cells = batch
            .columns()
            .iter()
            .zip(columns)
            .map(|(array, column)| cell(array, column.binary));
        Ok(Self {
            rows: batch.num_rows(),
            next: 0,
            columns: cells.collect::<Result<_, _>>()?,
            formats: columns.iter().map(|column| column.binary).collect(),
        })
    }

    /// Goes on with the same batch in the formats of these columns.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn reformat(&mut self, batch: &RecordBatch, columns: &[Column]) -> Result<(), ArrowError> {
        if !self
            .formats
            .iter()
            .copied()
            .eq(columns.iter().map(|column| column.binary))
        {
            let next = self.next;
            *self = Self {
                next,
                ..Self::new(batch, columns)?
            };
        }
        Ok(())
    }

    /// The next row and its cells, to be written otherwise than as a message of rows; `None` when there is none.
    pub(crate) fn advance(&mut self) -> Option<(usize, &[Cell])> {
        let row = self.next;
        (row < self.rows).then(|| {
            self.next += 1;
            (row, self.columns.as_slice())
        })
    }

    /// Writes the next row; false when there is none.
    pub(crate) fn write_next(&mut self, out: &mut Outgoing) -> bool {
        let Some((row, cells)) = self.advance() else {
            return false;
        };
        out.message(b'D', |out| {
            out.put_u16(u16::try_from(cells.len()).unwrap_or(u16::MAX));
            cells.iter().for_each(|cell| cell.put(row, out));
        });
        true
    }

    pub(crate) fn is_done(&self) -> bool {
        self.next >= self.rows
    }
}

impl Cell {
    /// The value with its length before it; NULL has the length -1.
    pub(crate) fn put(&self, row: usize, out: &mut BytesMut) {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.put_i32(-1);
            return;
        }
        let at = out.len();
        out.put_i32(0);
        (self.write)(row, out);
        let length = i32::try_from(out.len() - at - 4).unwrap_or(i32::MAX);
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// The value without its length; false for NULL, of which nothing is written.
    pub(crate) fn value(&self, row: usize, out: &mut BytesMut) -> bool {
        let there = !self.is_null(row);
        if there {
            (self.write)(row, out);
        }
        there
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }
}

/// The writer of a column.
pub(crate) fn cell(array: &ArrayRef, binary: bool) -> Result<Cell, ArrowError> {
    let array = plain(array)?;
    let nulls = match array.data_type() {
        DataType::Null => Some(NullBuffer::new_null(array.len())),
        _ => array.logical_nulls(),
    };
    let write = if binary {
        binary::writer(&array)?
    } else {
        text::writer(&array)?
    };
    Ok(Cell { nulls, write })
}

/// The same values in one of few types: encodings taken off, and integers in the width that clients are told.
fn plain(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    use DataType as T;
    let wanted = match array.data_type() {
        T::Dictionary(_, value) => return plain(&cast(array, value)?),
        T::RunEndEncoded(_, value) => return plain(&cast(array, value.data_type())?),
        T::Int8 | T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 => T::Int64,
        T::UInt64 => T::Decimal128(20, 0),
        T::Decimal32(precision, scale) | T::Decimal64(precision, scale) => T::Decimal128(*precision, *scale),
        T::Float16 => T::Float32,
        T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::Date64 => T::Date32,
        T::Time32(_) | T::Time64(TimeUnit::Nanosecond) => T::Time64(TimeUnit::Microsecond),
        // What an instant's zone is called does not change it.
        T::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond || zone.is_some() => {
            T::Timestamp(TimeUnit::Microsecond, None)
        }
        T::LargeList(item) | T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => {
            T::List(item.clone())
        }
        _ => return Ok(Arc::clone(array)),
    };
    cast(array, &wanted)
}

/// The elements of a list whose elements PostgreSQL has arrays of.
fn elements(array: &ArrayRef, binary: bool) -> Result<Option<(ListArray, Cell)>, ArrowError> {
    let list = array.as_list::<i32>().clone();
    if list.value_type().is_nested() {
        return Ok(None);
    }
    let cell = cell(list.values(), binary)?;
    Ok(Some((list, cell)))
}

#[cfg(test)]
mod tests;
