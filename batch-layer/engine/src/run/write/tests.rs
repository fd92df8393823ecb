use std::sync::Arc;

use anabranch_compute::{Control, InputFile, Kernel, Options, Plan};
use anabranch_dataset::StateFiles;
use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use parquet::arrow::ArrowWriter;

use super::*;
use crate::testing::{SQL, compiled};

/// `per_page` over one click on each of `pages` pages.
fn state(pages: i64) -> ViewState {
    let (_, views) = compiled(SQL);
    let view = views.iter().find(|view| view.name() == "per_page").unwrap().clone();
    let page: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..pages).rev().map(|n| format!("/{n:06}")),
    ));
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values((0..pages).rev()));
    let batch = RecordBatch::try_from_iter([("page", page), ("n", n)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let file = InputFile::whole("a", writer.into_inner().unwrap().into());
    let kernel = Kernel::new(&Options {
        threads: 1,
        ..Options::default()
    })
    .unwrap();
    kernel
        .fold(&Plan::new(vec![view], 1).unwrap(), [Ok(file)], &Control::new())
        .unwrap()
        .remove(0)
}

#[tokio::test]
async fn a_large_view_is_written_in_parts_whose_keys_follow_each_other() {
    let store = Store::open("memory://", &Default::default()).unwrap();
    let state = state(20_000);
    let view = state.view().clone();
    let written = write_view(&store, "r", state, 8192).await.unwrap();
    let paths: Vec<&str> = written.files.iter().map(|file| file.path.as_str()).collect();
    let expected = [0, 1, 2].map(|part| format!("runs/r/per_page/part-{part:05}.parquet"));
    assert_eq!(paths, expected);
    assert_eq!(
        written.files.iter().map(|file| file.rows).collect::<Vec<_>>(),
        [8192, 8192, 3616]
    );
    assert_eq!((written.groups, written.rows), (20_000, 20_000));
    assert_eq!((&written.hash, written.source.as_str()), (view.hash(), "clicks"));

    let schema = batch_view_schema(&view);
    let all = concat_batches(&schema, &StateFiles::read(&store, &written, &schema).await.unwrap()).unwrap();
    let totals = all.column_by_name("total").unwrap().as_primitive::<Int64Type>();
    assert!(
        totals.values().iter().copied().eq(0..20_000),
        "sorted by page across parts, with finalised columns"
    );
}

#[tokio::test]
async fn a_view_without_groups_has_no_files() {
    let store = Store::open("memory://", &Default::default()).unwrap();
    let written = write_view(&store, "r", state(0), 8192).await.unwrap();
    assert_eq!((written.files.len(), written.groups), (0, 0));
}
