use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::Error;

/// Holds a directory for this process. The operating system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// # Errors
    /// [`Error::Locked`], naming the process that holds the directory.
    pub(crate) fn acquire(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("LOCK");
        let io = |action: &'static str| {
            let path = path.clone();
            move |source| Error::Io { action, path, source }
        };
        fs::create_dir_all(dir).map_err(|source| Error::Io {
            action: "create",
            path: dir.into(),
            source,
        })?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is a courtesy; that it is held is certain.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_string(),
                    pid if pid == std::process::id().to_string() => format!("this process ({pid})"),
                    pid => format!("process {pid}"),
                };
                return Err(Error::Locked {
                    dir: dir.into(),
                    holder,
                });
            }
            Err(TryLockError::Error(source)) => return Err(io("lock")(source)),
        }
        file.set_len(0).map_err(io("write"))?;
        file.rewind().map_err(io("write"))?;
        writeln!(file, "{}", std::process::id()).map_err(io("write"))?;
        Ok(Self { _file: file })
    }
}
