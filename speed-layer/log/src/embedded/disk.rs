//! How much room there is on a disk, and how much of it appends leave alone.

use std::path::Path;

/// Most bytes that appends leave free, for flushes and compactions of what is written already.
const LARGEST_RESERVE_BYTES: u64 = 256 << 20;
/// On a small disk they leave this part of it free.
const RESERVE_PART: u64 = 10;

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// What unprivileged writers may still use.
    pub free_bytes: u64,
    /// Size of the whole disk.
    pub total_bytes: u64,
}

impl DiskSpace {
    /// What appends leave free.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        LARGEST_RESERVE_BYTES.min(self.total_bytes / RESERVE_PART)
    }

    /// Whether `bytes` more can be written and the reserve is still there.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        self.free_bytes >= self.reserve_bytes().saturating_add(bytes)
    }
}

/// Asks the file system.
#[cfg(unix)]
pub(crate) fn space(folder: &Path) -> Option<DiskSpace> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(DiskSpace {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

/// Elsewhere it is not known, and a full disk is noticed when a write fails.
#[cfg(not(unix))]
pub(crate) fn space(_folder: &Path) -> Option<DiskSpace> {
    None
}

#[cfg(test)]
mod tests;
