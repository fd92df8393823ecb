//! Arrays and STRUCTs.

use std::sync::Arc;

use anabranch_catalog::{TimestampFormat, json_key, without_json_keys};
use arrow::array::{ArrayRef, ListArray, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Field, FieldRef, Fields};

use crate::builder::Validity;
use crate::column::ColumnReader;
use crate::fault::Fault;
use crate::input::Input;
use crate::object::Object;

/// Rows of `T[]`.
#[derive(Debug)]
pub(crate) struct ListReader {
    field: FieldRef,
    item: ColumnReader,
    /// Ends of the rows in `item`, after a leading 0.
    offsets: Vec<i32>,
    pub validity: Validity,
}

impl ListReader {
    pub fn new(item: &Field, format: TimestampFormat) -> Self {
        Self {
            item: ColumnReader::new(item.data_type(), format),
            field: clean(item),
            offsets: vec![0],
            validity: Validity::default(),
        }
    }

    /// Reads an array, whose `[` is next.
    pub fn read(&mut self, input: &mut Input<'_>) -> Result<(), Fault> {
        let before = self.item.len();
        input.at += 1;
        input.skip_space();
        if !input.eat(b']') {
            loop {
                self.item
                    .read(input)
                    .map_err(|fault| fault.in_item(self.item.len() - before))?;
                input.skip_space();
                if input.eat(b']') {
                    break;
                }
                if !input.eat(b',') {
                    return Err(input.malformed("expected `,` or `]`"));
                }
                input.skip_space();
            }
        }
        self.end_row();
        self.validity.push_valid();
        Ok(())
    }

    fn end_row(&mut self) {
        let end = i32::try_from(self.item.len()).expect("items are fewer than the payload bytes of their batch");
        self.offsets.push(end);
    }

    pub fn push_null(&mut self) {
        self.end_row();
        self.validity.push_null();
    }

    pub fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        let end = self.offsets.last().copied().unwrap_or(0);
        self.item.truncate(usize::try_from(end).expect("offsets are lengths"));
        self.validity.truncate(len);
    }

    pub fn reserve(&mut self, rows: usize) {
        self.offsets.reserve(rows);
    }

    pub fn finish(&mut self) -> ArrayRef {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Arc::new(ListArray::new(
            Arc::clone(&self.field),
            offsets,
            self.item.finish(),
            self.validity.finish(),
        ))
    }
}

/// Rows of `STRUCT<…>`.
#[derive(Debug)]
pub(crate) struct StructReader {
    fields: Fields,
    object: Object,
    pub validity: Validity,
}

impl StructReader {
    pub fn new(fields: &Fields, format: TimestampFormat) -> Self {
        let columns = fields
            .iter()
            .map(|field| (json_key(field).to_owned(), ColumnReader::new(field.data_type(), format)));
        Self {
            object: Object::new(columns),
            fields: fields.iter().map(|field| clean(field)).collect(),
            validity: Validity::default(),
        }
    }

    /// Reads an object, whose `{` is next.
    pub fn read(&mut self, input: &mut Input<'_>) -> Result<(), Fault> {
        let row = self.validity.len();
        self.object.read(input, row)?;
        for column in self.object.columns_mut() {
            if column.len() == row {
                column.push_null();
            }
        }
        self.validity.push_valid();
        Ok(())
    }

    pub fn push_null(&mut self) {
        self.object.columns_mut().iter_mut().for_each(ColumnReader::push_null);
        self.validity.push_null();
    }

    pub fn truncate(&mut self, len: usize) {
        self.object.truncate(len);
        self.validity.truncate(len);
    }

    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.object.reserve(rows, bytes);
    }

    pub fn finish(&mut self) -> ArrayRef {
        let columns = self.object.finish();
        Arc::new(StructArray::new(self.fields.clone(), columns, self.validity.finish()))
    }
}

/// The field as batches carry it: without the JSON keys that the catalog keeps in the metadata.
fn clean(field: &Field) -> FieldRef {
    Arc::new(Field::new(field.name(), without_json_keys(field.data_type()), true))
}
