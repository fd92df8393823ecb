//! What this service follows: publications of the batch layer, whose batch views it adopts; leases of the other services, and
//! what these report when they are asked; and the master datasets, as far as coverage needs them.

pub(crate) mod adoption;
pub(crate) mod batch_view;
pub(crate) mod directory;
pub(crate) mod masters;
pub(crate) mod reports;
mod versions;

use anabranch_dataset::Notes;
use anabranch_merge::Noted;

/// Notes in the words of the merge.
fn noted(notes: &Notes) -> Noted {
    Noted {
        excluded: notes.excluded(),
        gaps: notes.gaps.clone(),
        since: notes.since.clone(),
    }
}
