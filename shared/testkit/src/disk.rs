//! A disk small enough to be filled.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip;

/// A disk mounted over a folder; gone with this value, and what was on it too.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk of `bytes` over `folder`, which must exist. `None`, with the reason printed, where this user may not.
    pub fn mount(folder: &Path, bytes: u64) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "anabranch-test"])
            .arg(folder)
            .output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            skip("a small disk can be mounted by root on Linux only");
            return None;
        }
        Some(Self {
            folder: folder.to_owned(),
        })
    }

    /// Fills it to the last byte with a file; removing that makes room again.
    ///
    /// # Errors
    /// Anything but a full disk.
    pub fn fill(&self) -> io::Result<PathBuf> {
        let ballast = self.folder.join("ballast");
        let mut file = File::create(&ballast)?;
        // In ever smaller pieces.
        for piece in [1 << 20, 4096, 1] {
            let bytes = vec![b'x'; piece];
            loop {
                match file.write(&bytes) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(ballast)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Files may still be open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}
