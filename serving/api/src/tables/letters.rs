//! Searching the dead letters of a table.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

use anabranch_dataset::{DeadLetter, MasterDataset, WhichLetters, dead_letters};
use anabranch_decode::Decoder;
use anabranch_model::{Offset, PartitionId};
use futures::TryStreamExt;

use super::exclusions::offsets;
use crate::Error;

/// Bytes of a letter shown in a list.
const PREVIEW_BYTES: usize = 200;
/// Different reasons counted one by one.
const REASONS: usize = 100;
/// What a search has found: the newest letters, and how many there are for which reason.
#[derive(Default)]
pub(super) struct Found {
    pub(super) matched: u64,
    pub(super) reasons: BTreeMap<String, u64>,
    /// Letters whose reason is not among those.
    pub(super) other_reasons: u64,
    pub(super) newest: Vec<Shown>,
}

/// A letter of a list, ordered by its age: by the log's time, then by its place.
pub(crate) struct Shown {
    /// With the beginning of its payload.
    pub(crate) letter: DeadLetter,
    /// Of its whole payload, if it has one.
    pub(crate) bytes: Option<usize>,
}

/// The newest dead letters of a source, newest first.
///
/// # Errors
/// When they cannot be read.
pub(crate) async fn newest(dataset: &MasterDataset, limit: usize) -> Result<Vec<Shown>, Error> {
    Ok(find(dataset, WhichLetters::default(), limit).await?.newest)
}

impl Shown {
    fn key(&self) -> (Option<i64>, Offset, PartitionId) {
        (self.letter.timestamp_us, self.letter.offset, self.letter.partition)
    }
}

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Shown {}
impl PartialOrd for Shown {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Shown {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// The newest letters of those that are meant, and how many there are for which reason.
pub(super) async fn find(dataset: &MasterDataset, which: WhichLetters, limit: usize) -> Result<Found, Error> {
    let snapshot = dataset.snapshot(None).await?;
    let mut letters = Box::pin(dead_letters(dataset.store(), &snapshot, which));
    let (mut found, mut newest) = (Found::default(), BinaryHeap::new());
    while let Some(some) = letters.try_next().await? {
        for mut letter in some {
            found.matched += 1;
            let known = found.reasons.len();
            match found.reasons.get_mut(&letter.reason) {
                Some(count) => *count += 1,
                None if known < REASONS => {
                    found.reasons.insert(letter.reason.clone(), 1);
                }
                None => found.other_reasons += 1,
            }
            // Large ones must not add up.
            let bytes = letter.record.payload.as_ref().map(Vec::len);
            if let Some(payload) = &mut letter.record.payload {
                payload.truncate(PREVIEW_BYTES);
                payload.shrink_to_fit();
            }
            newest.push(Reverse(Shown { letter, bytes }));
            if newest.len() > limit {
                newest.pop();
            }
        }
    }
    found.newest = newest
        .into_sorted_vec()
        .into_iter()
        .map(|Reverse(shown)| shown)
        .collect();
    Ok(found)
}

/// Those that a request means.
pub(super) fn which(partition: Option<i32>, range: Option<&str>, reason: Option<&str>) -> Result<WhichLetters, Error> {
    Ok(WhichLetters {
        partition: partition.map(PartitionId),
        offsets: range.map(offsets).transpose()?,
        reason: reason.map(str::to_owned),
        only: None,
    })
}

/// Whether a letter decodes with the present definition of its table; why not, if it does not.
pub(super) fn check(decoder: &mut Decoder, letter: &DeadLetter) -> Result<(), String> {
    match &letter.record.payload {
        Some(payload) => decoder.check(payload),
        None => Err("a record without a value".to_owned()),
    }
}
