use std::fs::File;
use std::io::{BufWriter, Cursor, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch_dataset::Environment;
use anabranch_merge::Block;
use anabranch_view::View;
use arrow::array::RecordBatch;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use super::cache::BlockCache;
use crate::Error;

/// Files of this process are told apart by number.
static FILES: AtomicU64 = AtomicU64::new(0);

/// Blocks of one batch view in a local file.
pub(crate) struct Stored {
    file: Arc<File>,
    number: u64,
    places: Vec<Place>,
    cache: Arc<BlockCache>,
    environment: Environment,
    bytes: u64,
}

/// Where a block lies in its file, and the checksum (CRC-32) of its bytes.
#[derive(Clone, Copy)]
struct Place {
    start: u64,
    bytes: usize,
    checksum: u32,
}

fn failed(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { what, source }
}

impl Stored {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Heap bytes that tell where blocks are.
    pub(crate) fn index_bytes(&self) -> usize {
        self.places.len() * size_of::<Place>()
    }

    /// # Errors
    /// When the file cannot be read, or does not hold what was written.
    pub(crate) async fn block(&self, view: &View, number: usize) -> Result<Arc<Block>, Error> {
        let key = (self.number, number);
        if let Some(block) = self.cache.get(key) {
            return Ok(block);
        }
        let (file, place, view) = (Arc::clone(&self.file), self.places[number], view.clone());
        let read = move || read(&file, place, &view);
        let block = self
            .environment
            .offload(read)
            .await
            .map_err(|join| Error::Internal(format!("reading a batch view failed: {join}")))??;
        let block = Arc::new(block);
        self.cache.put(key, &block);
        Ok(block)
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.cache.forget(self.number);
    }
}

fn read(file: &File, place: Place, view: &View) -> Result<Block, Error> {
    let mut bytes = vec![0; place.bytes];
    file.read_exact_at(&mut bytes, place.start)
        .map_err(failed("cannot read the local file of a batch view"))?;
    if crc32fast::hash(&bytes) != place.checksum {
        return Err(Error::LocalState {
            view: view.name().to_owned(),
        });
    }
    let mut batches = StreamReader::try_new(Cursor::new(bytes), None)?;
    let state = match batches.next() {
        Some(state) => state?,
        None => RecordBatch::new_empty(view.state_schema()),
    };
    Ok(Block::new(view, state)?)
}

/// Writes the blocks of one batch view to a local file without a name.
pub(crate) struct Storing {
    file: BufWriter<File>,
    places: Vec<Place>,
    end: u64,
}

impl Storing {
    /// # Errors
    /// When there cannot be a file in the folder; it is made if it is not there.
    pub(crate) fn begin(folder: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(folder)
            .map_err(failed("cannot make the folder for local state ([serving] state_dir)"))?;
        let file = tempfile::tempfile_in(folder).map_err(failed("cannot write local state ([serving] state_dir)"))?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 20, file),
            places: Vec::new(),
            end: 0,
        })
    }

    /// Appends a block.
    ///
    /// # Errors
    /// When the disk is full, or does not take it.
    pub(crate) fn push(&mut self, block: &Block) -> Result<(), Error> {
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), &block.state().schema(), options)?;
        writer.write(block.state())?;
        let bytes = writer.into_inner()?;
        self.file
            .write_all(&bytes)
            .map_err(failed("cannot write local state ([serving] state_dir)"))?;
        self.places.push(Place {
            start: self.end,
            bytes: bytes.len(),
            checksum: crc32fast::hash(&bytes),
        });
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// # Errors
    /// As [`push`](Self::push).
    pub(crate) fn finish(self, cache: &Arc<BlockCache>, environment: &Environment) -> Result<Stored, Error> {
        let file = self
            .file
            .into_inner()
            .map_err(|error| failed("cannot write local state ([serving] state_dir)")(error.into_error()))?;
        Ok(Stored {
            file: Arc::new(file),
            number: FILES.fetch_add(1, Ordering::Relaxed),
            places: self.places,
            cache: Arc::clone(cache),
            environment: environment.clone(),
            bytes: self.end,
        })
    }
}
