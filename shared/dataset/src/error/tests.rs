use super::*;

fn delta(source: KernelError) -> Error {
    Error::Delta {
        table: "clicks".into(),
        source: Box::new(source),
    }
}

/// What reading a Parquet file meets in the store.
fn met(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

#[test]
fn a_store_that_is_away_while_a_checkpoint_is_read_is_waited_for() {
    let away = || object_store::Error::Generic {
        store: "S3",
        source: "error sending request".into(),
    };
    let denied = || object_store::Error::PermissionDenied {
        path: "a".into(),
        source: "no".into(),
    };
    assert_eq!(delta(KernelError::Parquet(met(away()))).kind(), ErrorKind::Unavailable);
    assert_eq!(delta(KernelError::ObjectStore(away())).kind(), ErrorKind::Unavailable);
    let parquet = |source| Error::Parquet {
        path: "a".into(),
        source,
    };
    assert_eq!(parquet(met(away())).kind(), ErrorKind::Unavailable);
    // Waiting mends neither of these.
    assert_eq!(delta(KernelError::Parquet(met(denied()))).kind(), ErrorKind::Data);
    let torn = || ParquetError::General("it ends too soon".into());
    assert_eq!(delta(KernelError::Parquet(torn())).kind(), ErrorKind::Data);
    assert_eq!(parquet(torn()).kind(), ErrorKind::Data);
}
