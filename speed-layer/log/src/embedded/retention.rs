use std::time::Duration;

use super::store::IndexEntry;

#[cfg(test)]
mod tests;

/// How much of a topic is kept. Whole blocks are deleted, oldest first, and never the last one.
///
/// What has not been read when it expires is lost to readers, so keep more than the longest stop of the speed layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Most bytes kept per partition; `None` keeps all.
    pub bytes: Option<u64>,
    /// How long a record is kept after its timestamp; `None` keeps it for ever.
    pub age: Option<Duration>,
}

impl Retention {
    /// Whether the oldest block goes, when `held_bytes` are held with it.
    pub(crate) fn expires(&self, oldest: &IndexEntry, held_bytes: u64, is_last: bool, now_ms: i64) -> bool {
        if is_last {
            return false;
        }
        let too_much = self.bytes.is_some_and(|limit| held_bytes > limit);
        let too_old = self.age.is_some_and(|age| {
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            oldest.max_timestamp_ms < now_ms.saturating_sub(age_ms)
        });
        too_much || too_old
    }
}
