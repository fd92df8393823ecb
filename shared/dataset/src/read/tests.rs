use std::collections::BTreeMap;

use anabranch_model::ErrorKind;
use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, ListArray, StringArray, StringViewArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int64Type};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::*;
use crate::testing::memory;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn schema(fields: Vec<(&str, DataType)>) -> SchemaRef {
    Arc::new(Schema::new(
        fields
            .into_iter()
            .map(|(name, t)| Field::new(name, t, true))
            .collect::<Vec<_>>(),
    ))
}

/// Ten rows in row groups of four, `wide` far bigger than `n`.
async fn ten_rows(store: &Store) -> DataFile {
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
    let wide: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..10).map(|row| format!("{row}").repeat(10_000 + row)),
    ));
    let rows = batch(vec![("wide", wide), ("n", n)]);
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(4)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    let bytes = Bytes::from(writer.into_inner().unwrap());
    let file = DataFile::of_batches(Path::from("f.parquet"), bytes.len() as u64, false, &[rows]);
    store.put(&file.path, bytes).await.unwrap();
    file
}

#[tokio::test]
async fn row_groups_are_fetched_and_decoded_on_their_own() {
    let store = memory();
    let file = ten_rows(&store).await;
    let columns = schema(vec![("n", DataType::Int64), ("later", DataType::Utf8)]);
    let reader = DataReader::open(&store, &file.path, file.bytes, &columns)
        .await
        .unwrap();
    assert_eq!(
        (0..reader.row_groups())
            .map(|group| reader.rows(group))
            .collect::<Vec<_>>(),
        [4, 4, 2]
    );
    let fetched = reader.fetch(1..3).await.unwrap();
    assert_eq!(fetched.bytes(), reader.fetch_bytes(1) + reader.fetch_bytes(2));
    assert!(
        fetched.bytes() < 1000,
        "{} bytes: `wide` was not asked for",
        fetched.bytes()
    );
    assert!(reader.decoded_bytes(0) < 1000);

    // Rayon and the like have no runtime.
    let batches = std::thread::spawn(move || fetched.decode(3).unwrap().collect::<Result<Vec<_>>>().unwrap());
    let batches = batches.join().unwrap();
    assert!(
        batches
            .iter()
            .all(|batch| batch.schema() == columns && batch.num_rows() <= 3)
    );
    let n: Vec<i64> = batches
        .iter()
        .flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(n, (4..10).collect::<Vec<_>>());
    assert!(
        batches
            .iter()
            .all(|batch| batch.column(1).null_count() == batch.num_rows())
    );
}

#[tokio::test]
async fn columns_that_no_file_has_still_have_rows() {
    let store = memory();
    let file = ten_rows(&store).await;
    for columns in [schema(vec![("later", DataType::Int64)]), schema(vec![])] {
        let batches: Vec<RecordBatch> = read_columns(&store, &file, &columns).try_collect().await.unwrap();
        assert_eq!(
            batches.iter().map(RecordBatch::num_rows).sum::<usize>(),
            10,
            "{columns}"
        );
    }
}

#[tokio::test]
async fn a_stream_keeps_file_order() {
    let store = memory();
    let file = ten_rows(&store).await;
    let columns = schema(vec![("n", DataType::Int64), ("wide", DataType::Utf8)]);
    let batches: Vec<RecordBatch> = read_columns(&store, &file, &columns).try_collect().await.unwrap();
    let rows: Vec<(i64, usize)> = batches
        .iter()
        .flat_map(|batch| {
            let n = batch.column(0).as_primitive::<Int64Type>().values().to_vec();
            let wide = batch.column(1).as_string::<i32>().clone();
            n.into_iter()
                .enumerate()
                .map(move |(row, n)| (n, wide.value(row).len()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(
        rows,
        (0..10).map(|row| (row, 10_000 + row as usize)).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn an_absent_file_and_a_broken_one_are_told_apart() {
    let store = memory();
    let columns = schema(vec![("n", DataType::Int64)]);
    let absent = DataReader::open(&store, &Path::from("absent"), 1000, &columns)
        .await
        .unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound, "{absent}");
    store
        .put(&Path::from("broken"), Bytes::from(vec![7; 1000]))
        .await
        .unwrap();
    let broken = DataReader::open(&store, &Path::from("broken"), 1000, &columns)
        .await
        .unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::Data, "{broken}");
}

#[test]
fn a_batch_that_fits_is_not_copied() {
    let rows = batch(vec![("n", Arc::new(Int64Array::from_iter_values(0..3)))]);
    let same = adapt(&rows, &rows.schema()).unwrap();
    assert!(Arc::ptr_eq(rows.column(0), same.column(0)));
    let fewer = schema(vec![("m", DataType::Utf8), ("n", DataType::Int64)]);
    assert!(Arc::ptr_eq(rows.column(0), adapt(&rows, &fewer).unwrap().column(1)));
}

#[test]
fn structs_are_filled_at_any_depth() {
    let point = |fields: Vec<&str>| {
        DataType::Struct(
            fields
                .into_iter()
                .map(|name| Field::new(name, DataType::Int32, true))
                .collect::<Vec<_>>()
                .into(),
        )
    };
    let list = |item: DataType| DataType::List(Arc::new(Field::new("item", item, true)));
    let DataType::Struct(old) = point(vec!["x", "dropped"]) else {
        unreachable!()
    };
    let ints: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let points = StructArray::new(old, vec![ints.clone(), ints], Some(vec![true, false, true].into()));
    let points = ListArray::new(
        Arc::new(Field::new("element", points.data_type().clone(), true)),
        OffsetBuffer::from_lengths([2, 0, 1]),
        Arc::new(points),
        Some(vec![true, false, true].into()),
    );
    let rows = batch(vec![("points", Arc::new(points))]);
    let wanted = schema(vec![("points", list(point(vec!["y", "x"])))]);
    let adapted = adapt(&rows, &wanted).unwrap();
    assert_eq!(adapted.schema(), wanted);
    let points = adapted.column(0).as_list::<i32>();
    assert!(points.is_null(1));
    let inner = points.values().as_struct();
    assert!(inner.is_null(1));
    assert_eq!(inner.column(0).null_count(), 3);
    assert_eq!(
        inner.column(1).as_primitive::<arrow::datatypes::Int32Type>().value(2),
        3
    );
}

#[test]
fn spellings_of_a_type_are_converted_and_other_types_are_not() {
    let rows = batch(vec![("s", Arc::new(StringViewArray::from(vec!["a", "b"])))]);
    assert_eq!(
        adapt(&rows, &schema(vec![("s", DataType::Utf8)]))
            .unwrap()
            .column(0)
            .as_string::<i32>()
            .value(1),
        "b"
    );
    let error = adapt(&rows, &schema(vec![("s", DataType::Int64)])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("`s`"), "{error}");
}

#[test]
fn maps_with_other_field_names_fit() {
    let mut headers = anabranch_model::RawBatchBuilder::new();
    headers.push(0, None, None, None, [("trace", Some(b"1".as_slice()))]);
    let range = anabranch_model::OffsetRange::new(anabranch_model::Offset(0), anabranch_model::Offset(1));
    let map = headers.finish(anabranch_model::PartitionId(0), range).headers.unwrap();
    let entry = |name: &str| Field::new(name, DataType::Utf8, false);
    let other = DataType::Map(
        Arc::new(Field::new(
            "entries",
            DataType::Struct(vec![entry("keys"), Field::new("values", DataType::Binary, true)].into()),
            false,
        )),
        false,
    );
    let there = adapt(&batch(vec![("h", map.clone())]), &schema(vec![("h", other)])).unwrap();
    let back = adapt(&there, &schema(vec![("h", map.data_type().clone())])).unwrap();
    assert_eq!(back.column(0), &map);
}

#[test]
fn bytes_that_were_not_fetched_are_an_error_and_no_panic() {
    let chunks = Chunks {
        chunks: vec![(10, Bytes::from_static(b"abc"))],
        file_bytes: 100,
    };
    assert_eq!(&chunks.get_bytes(11, 2).unwrap()[..], b"bc");
    assert!(chunks.get_bytes(11, 3).is_err());
    assert!(chunks.get_bytes(9, 1).is_err());
    assert!(chunks.get_bytes(14, 1).is_err());
    let nothing: BTreeMap<u64, Bytes> = BTreeMap::new();
    assert!(
        Chunks {
            chunks: nothing.into_iter().collect(),
            file_bytes: 0
        }
        .get_read(0)
        .is_err()
    );
}
