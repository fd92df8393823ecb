//! What serving and the speed layer say to each other over Arrow Flight.
//!
//! Serving first calls the action [`SNAPSHOT_ACTION`] with a [`SnapshotRequest`] (JSON): the worker freezes one prefix of
//! the log per partition for all the views asked for, and answers a [`SnapshotReply`]. It then reads each view's partial
//! state with `DoGet` and a [`StateTicket`]; batches have the view's state schema. A snapshot expires after
//! [`SNAPSHOT_TTL_SECONDS`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Offset, OffsetRange, OffsetVector, PartitionId, RangeSet};

/// Name of the Flight action that freezes a snapshot.
pub const SNAPSHOT_ACTION: &str = "snapshot";
/// How long a worker keeps a frozen snapshot for its reader, in seconds.
pub const SNAPSHOT_TTL_SECONDS: u64 = 30;

/// Asks a worker for one consistent snapshot of several views.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRequest {
    pub views: Vec<ViewCut>,
}

/// A view, and the cut from which its realtime state is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewCut {
    pub view: String,
    /// The view's hash; a worker that runs another definition answers that the view is missing.
    pub hash: String,
    /// Next offsets of the batch view. A partition that is absent is wanted from its start.
    pub cut: OffsetVector,
    /// Asks for exactly `[cut, until)` of each partition, rather than for all there is: what was served at an earlier
    /// version. Of a partition that is absent here nothing is wanted, since at that version it had not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<OffsetVector>,
}

/// One frozen snapshot: per source and partition one prefix of the log, the same for all its views.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReply {
    /// Names the snapshot in a [`StateTicket`].
    pub id: u64,
    /// Worker id, as in its lease.
    pub worker: String,
    /// View name → what the worker holds of it.
    pub views: BTreeMap<String, ViewPieces>,
}

/// What a worker holds of one view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewPieces {
    pub partitions: BTreeMap<PartitionId, Piece>,
    /// What the pieces that are ready leave out, being excluded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub excluded: BTreeMap<PartitionId, RangeSet>,
    /// Offsets, inside the pieces that are ready, before which events have expired and are left out.
    #[serde(default, skip_serializing_if = "OffsetVector::is_empty")]
    pub since: OffsetVector,
}

/// A worker's part of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Piece {
    /// Realtime state for exactly `range` is in the snapshot; `range.start` is the cut that was asked for, or the start
    /// of the partition.
    Ready { epoch: i64, range: OffsetRange },
    /// The partition is owned but its state is still being folded from landed rows.
    Rebuilding { epoch: i64, through: Offset },
    /// The state no longer reaches back to the cut that was asked for: a newer publication has replaced it.
    /// Reload the publication and ask again.
    CutTooOld { epoch: i64, held_from: Offset },
    /// The cut, or the end that was asked for, lies beyond what this worker has consumed yet; ask again.
    CutAhead { epoch: i64, through: Offset },
    /// An end was asked for, but it lies before the cut, or state has been merged across one of the two.
    NoBoundary { epoch: i64 },
}

impl Piece {
    /// The ownership epoch under which the worker holds the partition.
    pub fn epoch(&self) -> i64 {
        match self {
            Self::Ready { epoch, .. }
            | Self::Rebuilding { epoch, .. }
            | Self::CutTooOld { epoch, .. }
            | Self::CutAhead { epoch, .. }
            | Self::NoBoundary { epoch } => *epoch,
        }
    }
}

/// Who owns a partition, as a lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Worker id.
    pub worker: String,
    /// Ownership epoch; of two owners the one of the higher epoch counts.
    pub epoch: i64,
}

/// Reads one view's partial state out of a frozen snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateTicket {
    pub snapshot: u64,
    pub view: String,
    /// Only these partitions' state; empty means all `Ready` ones. Serving leaves out what a higher epoch owns.
    #[serde(default)]
    pub partitions: Vec<PartitionId>,
    /// SQL predicate over the view's key columns; state of other groups need not be sent.
    #[serde(default)]
    pub filter: Option<String>,
}
