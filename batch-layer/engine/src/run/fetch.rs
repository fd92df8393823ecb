//! Reads files of the master dataset ahead of the kernel, in path order, with a bound on the bytes in flight.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch_compute::{FileBytes, InputError, InputFile, RowSelection, projected_ranges};
use anabranch_dataset::{DataFile, Environment, RowFilter};
use anabranch_runtime::Shutdown;
use arrow::array::RecordBatch;
use arrow::datatypes::Fields;
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::Error;

/// Files of up to this size are read whole: a second request costs more than the bytes it would save.
const WHOLE_FILE_BYTES: u64 = 2 << 20;
/// Bytes read from the end of a larger file in the hope that its footer is among them.
const FOOTER_BYTES: u64 = 64 << 10;
/// A file is read whole when at least this share of it is wanted, in percent.
const WHOLE_FILE_PERCENT: u64 = 70;
/// Requests in flight at the same time.
const CONCURRENT_FILES: usize = 8;
/// A permit of the read-ahead budget stands for this many bytes.
const PERMIT_BYTES: u64 = 64 << 10;
/// Files that wait for the kernel, already in memory (and within the budget).
const CHANNEL_FILES: usize = 4;

/// How one file is going to be read.
struct Planned {
    file: DataFile,
    /// `None` when every row counts.
    selection: Option<Arc<dyn RowSelection>>,
    metadata: Option<Arc<ParquetMetaData>>,
    /// `None`: the whole file.
    ranges: Option<Vec<Range<u64>>>,
}

impl Planned {
    fn bytes(&self) -> u64 {
        self.ranges.as_deref().map_or(self.file.bytes, total_bytes)
    }
}

/// The kernel's view of a row filter.
struct Selection(Arc<RowFilter>);

impl RowSelection for Selection {
    fn columns(&self) -> Fields {
        RowFilter::columns()
    }

    fn select(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        self.0
            .apply(batch)
            .map_err(|error| ArrowError::ExternalError(Box::new(error)))
    }
}

fn total_bytes(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// Travels with a file's bytes until the kernel has folded them.
struct InFlight {
    _permit: OwnedSemaphorePermit,
    file_bytes: u64,
    folded_bytes: Arc<AtomicU64>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.folded_bytes.fetch_add(self.file_bytes, Ordering::Relaxed);
    }
}

/// Which top-level columns to read of a file with this footer.
pub(crate) type ColumnsOf = Arc<dyn Fn(&ParquetMetaData) -> Result<Vec<String>, ParquetError> + Send + Sync>;

/// What to fetch, and how much of it may be in memory.
pub(crate) struct Fetch {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// In path order.
    pub(crate) files: Vec<DataFile>,
    pub(crate) columns: ColumnsOf,
    /// Which rows count.
    pub(crate) filter: Arc<RowFilter>,
    pub(crate) read_ahead_bytes: u64,
    /// Grows by a file's size when the kernel is done with it.
    pub(crate) folded_bytes: Arc<AtomicU64>,
    /// Ends the reading, and with it the wait of whoever reads the receiver.
    pub(crate) shutdown: Shutdown,
    pub(crate) environment: Environment,
}

impl Fetch {
    /// Starts reading. The receiver yields files in path order, or the first error; dropping it stops the reading.
    pub(crate) fn start(self) -> mpsc::Receiver<Result<InputFile, InputError>> {
        let (sender, receiver) = mpsc::channel(CHANNEL_FILES);
        let (closed, shutdown) = (sender.clone(), self.shutdown.clone());
        let environment = self.environment.clone();
        environment.spawn(async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = closed.closed() => {}
                () = self.run(sender) => {}
            }
        });
        receiver
    }

    async fn run(self, sender: mpsc::Sender<Result<InputFile, InputError>>) {
        let Self {
            objects,
            files,
            columns,
            filter,
            read_ahead_bytes,
            folded_bytes,
            ..
        } = self;
        let permits = u32::try_from(read_ahead_bytes.div_ceil(PERMIT_BYTES).max(1)).unwrap_or(u32::MAX);
        let budget = Arc::new(Semaphore::new(permits as usize));
        let plan = |file: DataFile| {
            let (objects, columns, filter) = (objects.clone(), columns.clone(), filter.clone());
            async move { plan_file(&*objects, file, &*columns, filter).await }
        };
        let read = |planned: Planned, in_flight: InFlight| {
            let objects = objects.clone();
            async move { read_file(&*objects, planned, in_flight).await }
        };
        let delivered = stream::iter(files)
            .map(plan)
            .buffered(CONCURRENT_FILES)
            // One after the other, so that permits go to files in the order in which the kernel gives them back.
            .and_then(|planned| {
                let wanted = u32::try_from(planned.bytes().div_ceil(PERMIT_BYTES))
                    .unwrap_or(u32::MAX)
                    .clamp(1, permits);
                let (budget, folded_bytes) = (budget.clone(), folded_bytes.clone());
                async move {
                    let permit = budget
                        .acquire_many_owned(wanted)
                        .await
                        .expect("this semaphore is never closed");
                    let in_flight = InFlight {
                        _permit: permit,
                        file_bytes: planned.file.bytes,
                        folded_bytes,
                    };
                    Ok((planned, in_flight))
                }
            })
            .map_ok(|(planned, in_flight)| read(planned, in_flight))
            .try_buffered(CONCURRENT_FILES);
        let mut delivered = pin!(delivered);
        while let Some(file) = delivered.next().await {
            let file = file.map_err(|error| InputError {
                kind: error.kind(),
                source: error.into(),
            });
            let failed = file.is_err();
            if sender.send(file).await.is_err() || failed {
                return;
            }
        }
    }
}

/// Decides which parts of a file to read; reads its footer for that when the file is large.
async fn plan_file(
    objects: &dyn ObjectStore,
    file: DataFile,
    columns: &(dyn Fn(&ParquetMetaData) -> Result<Vec<String>, ParquetError> + Send + Sync),
    filter: Arc<RowFilter>,
) -> Result<Planned, Error> {
    let selection: Option<Arc<dyn RowSelection>> = if filter.is_all(&file) {
        None
    } else {
        Some(Arc::new(Selection(filter)))
    };
    if file.bytes <= WHOLE_FILE_BYTES {
        return Ok(Planned {
            file,
            selection,
            metadata: None,
            ranges: None,
        });
    }
    let metadata = Arc::new(read_footer(objects, &file).await?);
    // Possibly none: `count(*)` alone reads no column, and the footer has the row counts.
    let footer = |source| Error::Footer {
        path: file.path.to_string(),
        source,
    };
    let mut wanted = columns(&metadata).map_err(footer)?;
    if let Some(selection) = &selection {
        wanted.extend(selection.columns().iter().map(|field| field.name().clone()));
    }
    let ranges = projected_ranges(&metadata, &wanted).map_err(footer)?;
    let whole = total_bytes(&ranges) * 100 >= file.bytes * WHOLE_FILE_PERCENT;
    Ok(Planned {
        file,
        selection,
        metadata: Some(metadata),
        ranges: (!whole).then_some(ranges),
    })
}

async fn read_footer(objects: &dyn ObjectStore, file: &DataFile) -> Result<ParquetMetaData, Error> {
    let fetch = |source| Error::Fetch {
        path: file.path.to_string(),
        source,
    };
    let footer = |source| Error::Footer {
        path: file.path.to_string(),
        source,
    };
    let mut tail_bytes = FOOTER_BYTES.min(file.bytes);
    loop {
        let tail = objects
            .get_range(&file.path, file.bytes - tail_bytes..file.bytes)
            .await
            .map_err(fetch)?;
        match ParquetMetaDataReader::new().parse_and_finish(&tail) {
            Ok(metadata) => return Ok(metadata),
            Err(ParquetError::NeedMoreData(needed))
                if (tail_bytes..file.bytes).contains(&(needed as u64 - 1)) && needed as u64 > tail_bytes =>
            {
                tail_bytes = needed as u64;
            }
            Err(source) => return Err(footer(source)),
        }
    }
}

async fn read_file(objects: &dyn ObjectStore, planned: Planned, in_flight: InFlight) -> Result<InputFile, Error> {
    let Planned {
        file,
        selection,
        metadata,
        ranges,
    } = planned;
    let fetch = |source| Error::Fetch {
        path: file.path.to_string(),
        source,
    };
    let bytes = match ranges {
        None => {
            let whole = objects.get(&file.path).await.map_err(fetch)?;
            FileBytes::Whole(whole.bytes().await.map_err(fetch)?)
        }
        Some(ranges) => {
            let parts = objects.get_ranges(&file.path, &ranges).await.map_err(fetch)?;
            FileBytes::sparse(file.bytes, ranges.iter().map(|range| range.start).zip(parts).collect())
        }
    };
    Ok(InputFile {
        path: file.path.to_string(),
        bytes,
        metadata,
        selection,
        guard: Some(Box::new(in_flight)),
    })
}

#[cfg(test)]
mod tests;
