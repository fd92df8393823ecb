//! Spill files: partial state on local disk, split by hash of the key.

use std::fs::{File, TryLockError};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use tempfile::TempDir;

use crate::Error;

/// Hash partitions of spilled state. Each must fit into memory on its own, so state may grow to this many budgets.
pub(crate) const SPILL_PARTITIONS: usize = 64;
const DIR_PREFIX: &str = "anabranch-spill-";
const LOCK_FILE: &str = "lock";

/// A folder of spill files, removed on drop. Folders that a killed process left behind are removed on the next
/// [`open`](Self::open): each living one holds a lock.
#[derive(Clone)]
pub(crate) struct SpillArea {
    inner: Arc<Inner>,
}

struct Inner {
    next: AtomicU64,
    // Declared before the folder: the lock is let go before the folder is removed.
    _lock: File,
    dir: TempDir,
}

impl SpillArea {
    pub(crate) fn open(parent: &Path) -> Result<Self, Error> {
        let failed = |source: std::io::Error| Error::Spill {
            path: parent.to_owned(),
            source: source.into(),
        };
        std::fs::create_dir_all(parent).map_err(failed)?;
        remove_abandoned(parent);
        let dir = tempfile::Builder::new()
            .prefix(DIR_PREFIX)
            .tempdir_in(parent)
            .map_err(failed)?;
        // Locked before it gets its name: whoever finds it by name finds it locked.
        let unnamed = dir.path().join("lock.new");
        let lock = File::create(&unnamed).map_err(failed)?;
        lock.lock().map_err(failed)?;
        std::fs::rename(unnamed, dir.path().join(LOCK_FILE)).map_err(failed)?;
        Ok(Self {
            inner: Arc::new(Inner {
                next: AtomicU64::new(0),
                _lock: lock,
                dir,
            }),
        })
    }

    /// Writes batches to a new file.
    pub(crate) fn write(&self, schema: &Schema, batches: &[RecordBatch]) -> Result<SpillFile, Error> {
        let mut writer = self.writer(schema)?;
        for batch in batches {
            writer.write(batch)?;
        }
        writer.finish()
    }

    pub(crate) fn writer(&self, schema: &Schema) -> Result<SpillWriter, Error> {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.dir.path().join(format!("{number:08}.arrow"));
        let file = File::create(&path).map_err(|source| Error::Spill {
            path: path.clone(),
            source: source.into(),
        })?;
        let options = IpcWriteOptions::default()
            .try_with_compression(Some(CompressionType::LZ4_FRAME))
            .expect("lz4 is a feature this crate turns on");
        let writer =
            FileWriter::try_new_with_options(BufWriter::new(file), schema, options).map_err(|source| Error::Spill {
                path: path.clone(),
                source: source.into(),
            })?;
        Ok(SpillWriter {
            area: self.clone(),
            path,
            writer,
            batch_bytes: 0,
        })
    }
}

/// Removes spill folders whose owner is gone. Failures are left to the operating system's own cleaning.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(DIR_PREFIX) {
            continue;
        }
        // Without its lock file a folder is being created or removed by somebody else right now.
        let Ok(lock) = File::open(entry.path().join(LOCK_FILE)) else {
            continue;
        };
        match lock.try_lock() {
            Ok(()) => {
                tracing::info!(folder = %entry.path().display(), "removing an abandoned spill folder");
                let _ = std::fs::remove_dir_all(entry.path());
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

/// Writes one spill file batch by batch.
pub(crate) struct SpillWriter {
    area: SpillArea,
    path: PathBuf,
    writer: FileWriter<BufWriter<File>>,
    batch_bytes: u64,
}

impl SpillWriter {
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.batch_bytes += batch.get_array_memory_size() as u64;
        self.writer
            .write(batch)
            .map_err(|source| spill_error(&self.path, source))
    }

    pub(crate) fn finish(mut self) -> Result<SpillFile, Error> {
        self.writer.finish().map_err(|source| spill_error(&self.path, source))?;
        let file_bytes = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        Ok(SpillFile {
            _area: self.area,
            path: self.path,
            batch_bytes: self.batch_bytes,
            file_bytes,
        })
    }
}

/// One finished spill file; removed on drop.
pub(crate) struct SpillFile {
    _area: SpillArea,
    path: PathBuf,
    /// Size of its batches in memory.
    pub(crate) batch_bytes: u64,
    /// Size on disk.
    pub(crate) file_bytes: u64,
}

impl SpillFile {
    pub(crate) fn reader(&self) -> Result<SpillReader, Error> {
        let file = File::open(&self.path).map_err(|source| Error::Spill {
            path: self.path.clone(),
            source: source.into(),
        })?;
        let reader =
            FileReader::try_new(BufReader::new(file), None).map_err(|source| spill_error(&self.path, source))?;
        Ok(SpillReader {
            path: self.path.clone(),
            reader,
        })
    }

    /// Reads the batch at `index` only.
    pub(crate) fn read(&self, index: usize) -> Result<RecordBatch, Error> {
        let mut reader = self.reader()?;
        reader
            .reader
            .set_index(index)
            .map_err(|source| spill_error(&self.path, source))?;
        reader.next().unwrap_or_else(|| {
            Err(spill_error(
                &self.path,
                ArrowError::IpcError(format!("no batch {index}")),
            ))
        })
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Reads the batches of a spill file in the order they were written.
pub(crate) struct SpillReader {
    path: PathBuf,
    reader: FileReader<BufReader<File>>,
}

impl Iterator for SpillReader {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.reader
            .next()
            .map(|batch| batch.map_err(|source| spill_error(&self.path, source)))
    }
}

fn spill_error(path: &Path, source: ArrowError) -> Error {
    Error::Spill {
        path: path.to_owned(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests;
