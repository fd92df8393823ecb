//! A local folder whose writes survive a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};
use std::{fmt, ops::Range};

use anabranch_model::crash_point;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// [`LocalFileSystem`] that counts a put only when file and folder are on disk: bytes are written to a staging file and
/// synced, linked (create) or renamed (overwrite) into place, and the folder is synced. The order matters for creates: a
/// name that can be seen always has its bytes, even after a power cut, so nobody builds on a commit that then is lost.
///
/// Listings are sorted by path, as the Delta kernel expects of any store that is not `file://`.
#[derive(Debug)]
pub struct DurableLocal {
    inner: LocalFileSystem,
}

impl DurableLocal {
    /// Creates the folder if need be.
    ///
    /// # Errors
    /// When it cannot be created or is not a folder.
    pub fn open(folder: &FsPath) -> Result<Self> {
        create_folder(folder).map_err(|e| generic(folder, e))?;
        Ok(Self {
            inner: LocalFileSystem::new_with_prefix(folder)?,
        })
    }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableLocal({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.inner.put_opts(location, payload, opts).await,
        };
        let target = self.inner.path_to_filesystem(location)?;
        blocking(move || put(&target, &payload, create)).await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let target = self.inner.path_to_filesystem(location)?;
        let folder = parent(&target).to_owned();
        blocking(move || create_folder(&folder).map_err(|e| generic(&folder, e))).await?;
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(DurableUpload { inner, target }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        let target = self.inner.path_to_filesystem(to)?;
        blocking(move || sync(&target)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        let target = self.inner.path_to_filesystem(to)?;
        blocking(move || sync(&target)).await
    }
}

/// Syncs what the inner upload moved into place. Nothing refers to such an object before `complete` returns, so here it
/// may be seen before it is durable.
#[derive(Debug)]
struct DurableUpload {
    inner: Box<dyn MultipartUpload>,
    target: PathBuf,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.inner.complete().await?;
        let target = self.target.clone();
        blocking(move || sync(&target)).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

fn put(target: &FsPath, payload: &PutPayload, create: bool) -> Result<()> {
    create_folder(parent(target)).map_err(|e| generic(target, e))?;
    let (mut file, staging) = staging_file(target).map_err(|e| generic(target, e))?;
    let written = payload
        .iter()
        .try_for_each(|bytes| file.write_all(bytes))
        .and_then(|()| file.sync_all());
    drop(file);
    crash_point!("local.place.before");
    let placed = written.and_then(|()| match create {
        true => fs::hard_link(&staging, target),
        false => fs::rename(&staging, target),
    });
    crash_point!("local.place.after");
    if create || placed.is_err() {
        // A staging file that stays behind is never listed: its name ends in `#digits`.
        let _ = fs::remove_file(&staging);
    }
    match placed {
        Ok(()) => sync_folder(parent(target)).map_err(|e| generic(target, e)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(object_store::Error::AlreadyExists {
            path: target.display().to_string(),
            source: error.into(),
        }),
        Err(error) => Err(generic(target, error)),
    }
}

/// A new file beside `target`, named as [`LocalFileSystem`] names its own, which listings leave out.
fn staging_file(target: &FsPath) -> io::Result<(File, PathBuf)> {
    loop {
        let mut name = target.as_os_str().to_owned();
        name.push(format!("#{}", rand::random::<u64>()));
        let staging = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).open(&staging) {
            Ok(file) => return Ok((file, staging)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Creates a folder and what is missing above it, and syncs each folder that gained an entry.
fn create_folder(folder: &FsPath) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    create_folder(parent(folder))?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ if folder.is_dir() => sync_folder(parent(folder)),
        _ => Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{} is not a folder", folder.display()),
        )),
    }
}

fn sync(target: &FsPath) -> Result<()> {
    File::open(target)
        .and_then(|file| file.sync_all())
        .and_then(|()| sync_folder(parent(target)))
        .map_err(|e| generic(target, e))
}

#[cfg(unix)]
fn sync_folder(folder: &FsPath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Only Unix can sync a folder; elsewhere the file system orders names and bytes by itself or not at all.
#[cfg(not(unix))]
fn sync_folder(_folder: &FsPath) -> io::Result<()> {
    Ok(())
}

fn parent(path: &FsPath) -> &FsPath {
    path.parent().unwrap_or(FsPath::new("/"))
}

fn sorted(listing: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
    stream::once(async move {
        let mut found: Vec<ObjectMeta> = listing.try_collect().await?;
        found.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok::<_, object_store::Error>(stream::iter(found.into_iter().map(Ok)))
    })
    .try_flatten()
    .boxed()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

fn generic(path: &FsPath, source: io::Error) -> object_store::Error {
    let help = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full; free some space: ",
        _ => "",
    };
    let source = io::Error::new(source.kind(), format!("{}: {help}{source}", path.display()));
    object_store::Error::Generic {
        store: "DurableLocal",
        source: source.into(),
    }
}

#[cfg(test)]
mod tests;
