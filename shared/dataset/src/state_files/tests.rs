use std::sync::Arc;

use anabranch_model::ErrorKind;
use arrow::array::{ArrayRef, AsArray, Int64Array, ListArray, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::*;
use crate::testing::{local, memory};

/// Keys `from..to` with a list as state.
fn state(from: i64, to: i64) -> RecordBatch {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(
        (from..to).map(|key| format!("page {key:07}")),
    ));
    let sums: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
    let lists = (from..to).map(|key| (key % 3 != 0).then(|| vec![Some(key); (key % 4) as usize]));
    let sets: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists));
    RecordBatch::try_from_iter_with_nullable([("page", keys, true), ("sum", sums, true), ("set", sets, true)]).unwrap()
}

fn view(files: Vec<StateFile>) -> BatchView {
    BatchView {
        hash: "h".into(),
        source: "clicks".into(),
        files,
        groups: 0,
        rows: 0,
    }
}

#[tokio::test]
async fn state_comes_back_in_order_and_whole() {
    let store = memory();
    let parts = [state(0, 1000), state(1000, 1001), state(1001, 300_000)];
    let first = StateFiles::write(&store, &Path::from("runs/1/v/part-0.parquet"), parts.to_vec())
        .await
        .unwrap();
    assert_eq!(first.rows, 300_000);
    let second = StateFiles::write(
        &store,
        &Path::from("runs/1/v/part-1.parquet"),
        vec![state(300_000, 300_010)],
    )
    .await
    .unwrap();
    let read = StateFiles::read(&store, &view(vec![first, second]), &parts[0].schema())
        .await
        .unwrap();
    assert_eq!(concat_batches(&parts[0].schema(), &read).unwrap(), state(0, 300_010));
}

#[tokio::test]
async fn only_the_columns_asked_for_are_read() {
    let store = memory();
    let file = StateFiles::write(&store, &Path::from("f"), vec![state(0, 10)])
        .await
        .unwrap();
    let columns = Arc::new(state(0, 0).schema().project(&[1]).unwrap());
    let read = StateFiles::read(&store, &view(vec![file]), &columns).await.unwrap();
    assert_eq!(read[0].schema(), columns);
    assert_eq!(
        read[0].column(0).as_primitive::<Int64Type>().values()[..],
        (0..10).collect::<Vec<i64>>()[..]
    );
}

#[tokio::test]
async fn the_same_state_gives_the_same_bytes() {
    let (store, folder) = local();
    for name in ["one", "two"] {
        let mut writer = StateFileWriter::new(&store, &Path::from(name), &state(0, 0).schema()).unwrap();
        for from in (0..400_000).step_by(50_000) {
            writer.write(state(from, from + 50_000)).await.unwrap();
        }
        assert_eq!(writer.rows(), 400_000);
        assert!(!folder.path().join(name).exists(), "not visible before it is whole");
        let file = writer.finish().await.unwrap();
        assert_eq!(file.bytes, std::fs::metadata(folder.path().join(name)).unwrap().len());
    }
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(bytes("one") == bytes("two"));
}

#[tokio::test]
async fn a_view_without_groups_is_a_file_without_rows() {
    let store = memory();
    let file = StateFiles::write(&store, &Path::from("f"), vec![state(0, 0)])
        .await
        .unwrap();
    assert_eq!(file.rows, 0);
    assert!(
        StateFiles::read(&store, &view(vec![file]), &state(0, 0).schema())
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        StateFiles::write(&store, &Path::from("g"), vec![])
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Invalid
    );
}

#[tokio::test]
async fn files_that_are_not_what_the_manifest_says_are_refused() {
    let store = memory();
    let schema = state(0, 0).schema();
    let file = StateFiles::write(&store, &Path::from("f"), vec![state(0, 10)])
        .await
        .unwrap();
    let read = async |file: StateFile, columns: &SchemaRef| StateFiles::read(&store, &view(vec![file]), columns).await;

    let fewer = read(
        StateFile {
            rows: 11,
            ..file.clone()
        },
        &schema,
    )
    .await
    .unwrap_err();
    assert_eq!(fewer.kind(), ErrorKind::Data, "{fewer}");
    let lacking = Arc::new(Schema::new(vec![Field::new("count", DataType::Int64, true)]));
    let lacking = read(file.clone(), &lacking).await.unwrap_err();
    assert!(lacking.to_string().contains("`count`"), "{lacking}");
    let absent = read(
        StateFile {
            path: "absent".into(),
            ..file
        },
        &schema,
    )
    .await
    .unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound, "{absent}");
}

#[tokio::test]
async fn a_batch_of_another_schema_is_refused() {
    let store = memory();
    let mut writer = StateFileWriter::new(&store, &Path::from("f"), &state(0, 0).schema()).unwrap();
    let other = state(0, 3).project(&[0]).unwrap();
    assert_eq!(writer.write(other).await.unwrap_err().kind(), ErrorKind::Data);
    assert!(writer.write(state(0, 3)).await.is_err(), "of no use after an error");
    assert!(store.read(&Path::from("f")).await.unwrap().is_none());
}
