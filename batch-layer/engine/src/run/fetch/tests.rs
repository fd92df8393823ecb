use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::*;

/// A file of two columns that do not compress, `a` much smaller than `b`.
async fn put(objects: &InMemory, name: &str, rows: i64) -> DataFile {
    let spread = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
    let a: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|n| n % 4)));
    let b: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(spread)));
    let batch = RecordBatch::try_from_iter([("a", a), ("b", b)]).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(100_000))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let bytes = Bytes::from(writer.into_inner().unwrap());
    let path = Path::from(name);
    objects.put(&path, bytes.clone().into()).await.unwrap();
    DataFile::of_batches(path, bytes.len() as u64, false, &[batch])
}

fn fetch(objects: &Arc<InMemory>, files: Vec<DataFile>, columns: &[&str], read_ahead_bytes: u64) -> Fetch {
    Fetch {
        objects: objects.clone(),
        files,
        columns: {
            let names: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
            Arc::new(move |_| Ok(names.clone()))
        },
        filter: Arc::default(),
        read_ahead_bytes,
        folded_bytes: Arc::default(),
        shutdown: Shutdown::new(),
        environment: anabranch_dataset::Environment::default(),
    }
}

#[tokio::test]
async fn of_large_files_only_the_wanted_columns_are_read() {
    let objects = Arc::new(InMemory::new());
    let large = put(&objects, "1-large", 300_000).await;
    let small = put(&objects, "2-small", 100).await;
    assert!(large.bytes > WHOLE_FILE_BYTES);
    let mut files = fetch(&objects, vec![large.clone(), small.clone()], &["a"], 64 << 20).start();
    let file = files.recv().await.unwrap().unwrap();
    assert_eq!(file.path, "1-large");
    let half = large.bytes / 2;
    assert!(
        (half - 100_000..half + 100_000).contains(&file.bytes.held_bytes()),
        "{}",
        file.bytes.held_bytes()
    );
    // What was read is enough to decode them.
    let metadata =
        parquet::arrow::arrow_reader::ArrowReaderMetadata::try_new(file.metadata.clone().unwrap(), Default::default())
            .unwrap();
    let mask = parquet::arrow::ProjectionMask::roots(metadata.parquet_schema(), [0]);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file.bytes.clone(), metadata);
    let rows: usize = reader
        .with_projection(mask)
        .build()
        .unwrap()
        .map(|batch| batch.unwrap().num_rows())
        .sum();
    assert_eq!(rows, 300_000);
    let file = files.recv().await.unwrap().unwrap();
    assert_eq!((file.path.as_str(), file.bytes.held_bytes()), ("2-small", small.bytes));
    assert!(files.recv().await.is_none());

    let whole = fetch(&objects, vec![large.clone()], &["a", "b"], 64 << 20)
        .start()
        .recv()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        whole.bytes.held_bytes(),
        large.bytes,
        "both columns are nearly the whole file"
    );
    let none = fetch(&objects, vec![large], &[], 64 << 20)
        .start()
        .recv()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(none.bytes.held_bytes(), 0, "the footer has the row counts");
}

#[tokio::test]
async fn read_ahead_is_bounded_and_in_order() {
    let objects = Arc::new(InMemory::new());
    let mut files = Vec::new();
    for number in 0..12 {
        files.push(put(&objects, &format!("{number:02}"), 20_000).await);
    }
    let total: u64 = files.iter().map(|file| file.bytes).sum();
    let each = files[0].bytes;
    // Room for two files and a bit.
    let fetch = fetch(&objects, files, &["a"], each * 2 + PERMIT_BYTES * 2);
    let folded = fetch.folded_bytes.clone();
    let mut receiver = fetch.start();
    let first = receiver.recv().await.unwrap().unwrap();
    let second = receiver.recv().await.unwrap().unwrap();
    let third = tokio::time::timeout(Duration::from_millis(100), receiver.recv()).await;
    assert!(third.is_err(), "a third file needs the memory of one of the first two");
    assert_eq!(folded.load(Ordering::Relaxed), 0);
    drop(first);
    let mut paths = vec![second.path.clone()];
    drop(second);
    while let Some(file) = receiver.recv().await {
        paths.push(file.unwrap().path);
    }
    let expected: Vec<String> = (1..12).map(|number| format!("{number:02}")).collect();
    assert_eq!(paths, expected);
    assert_eq!(folded.load(Ordering::Relaxed), total);
}

#[tokio::test]
async fn a_file_larger_than_the_budget_still_passes() {
    let objects = Arc::new(InMemory::new());
    let file = put(&objects, "huge", 200_000).await;
    let mut receiver = fetch(&objects, vec![file.clone(), file], &["a", "b"], 1).start();
    for _ in 0..2 {
        drop(receiver.recv().await.unwrap().unwrap());
    }
    assert!(receiver.recv().await.is_none());
}

#[tokio::test]
async fn the_first_error_is_the_last_word() {
    let objects = Arc::new(InMemory::new());
    let there = put(&objects, "1", 10).await;
    let gone = DataFile {
        path: Path::from("2"),
        ..there.clone()
    };
    let mut receiver = fetch(&objects, vec![there.clone(), gone, there], &["a"], 1 << 20).start();
    assert!(receiver.recv().await.unwrap().is_ok());
    let error = receiver.recv().await.unwrap().err().unwrap();
    assert_eq!(error.kind, anabranch_model::ErrorKind::Data);
    assert!(error.source.to_string().contains("cannot read 2"), "{}", error.source);
    assert!(receiver.recv().await.is_none());
}

#[tokio::test]
async fn shutdown_ends_the_reading() {
    let objects = Arc::new(InMemory::new());
    let file = put(&objects, "1", 20_000).await;
    // The second file waits for the memory of the first, which is not given back.
    let fetch = fetch(&objects, vec![file.clone(), file], &["a"], 1);
    let shutdown = fetch.shutdown.clone();
    let mut receiver = fetch.start();
    let _held = receiver.recv().await.unwrap().unwrap();
    shutdown.cancel();
    assert!(receiver.recv().await.is_none());
}
