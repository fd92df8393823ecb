use arrow::array::{Int32Array, Int64Array, StringArray};
use arrow::datatypes::{Field, Fields, Schema};

use super::*;

fn struct_of(fields: Vec<(Field, ArrayRef)>) -> ArrayRef {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = fields.into_iter().unzip();
    Arc::new(StructArray::new(Fields::from(fields), arrays, None))
}

#[test]
fn columns_are_matched_by_name_cast_and_filled() {
    let ints: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
    let batch = RecordBatch::try_from_iter([("b", ints.clone()), ("a", ints)]).unwrap();
    let wanted = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("late", DataType::Utf8, true),
        Field::new("b", DataType::Int32, true),
    ]));
    let conformed = conform_batch(&batch, &wanted).unwrap();
    assert_eq!(conformed.column(0).as_ref(), &Int64Array::from(vec![Some(1), None]));
    assert_eq!(conformed.column(1).null_count(), 2);
    assert_eq!(conformed.column(2), batch.column(0));
}

#[test]
fn a_struct_field_declared_later_is_null() {
    let city: ArrayRef = Arc::new(StringArray::from(vec!["Bern", "Rom"]));
    let old = struct_of(vec![(Field::new("city", DataType::Utf8, true), city)]);
    let batch = RecordBatch::try_from_iter([("place", old)]).unwrap();
    let fields = Fields::from(vec![
        Field::new("zip", DataType::Int32, true),
        Field::new("city", DataType::Utf8, true),
    ]);
    let wanted = Arc::new(Schema::new(vec![Field::new("place", DataType::Struct(fields), true)]));
    let conformed = conform_batch(&batch, &wanted).unwrap();
    let place = conformed.column(0).as_struct();
    assert_eq!(place.column(0).null_count(), 2);
    assert_eq!(place.column(1).as_string::<i32>().value(1), "Rom");
}

#[test]
fn a_column_that_cannot_be_cast_is_named() {
    let words: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let batch = RecordBatch::try_from_iter([("a", words)]).unwrap();
    let fields = Fields::from(vec![Field::new("zip", DataType::Int32, true)]);
    let wanted = Arc::new(Schema::new(vec![Field::new("a", DataType::Struct(fields), true)]));
    assert_eq!(conform_batch(&batch, &wanted).unwrap_err().0, "a");
}

#[test]
fn no_columns_keep_their_row_count() {
    let options = RecordBatchOptions::new().with_row_count(Some(7));
    let empty = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).unwrap();
    assert_eq!(conform_batch(&empty, &Arc::new(Schema::empty())).unwrap().num_rows(), 7);
}
