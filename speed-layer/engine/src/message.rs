//! What travels through a source's topology. One tuple is one micro-batch of one partition.

use std::sync::Arc;
use std::time::Instant;

use anabranch_model::{Offset, OffsetRange, PartitionId, RawBatch};
use anabranch_topology::BoxError;
use anabranch_view::Prepared;
use arrow::array::RecordBatch;

use crate::program::Program;
use crate::state::PartitionState;

#[derive(Clone)]
pub(crate) enum Message {
    /// Spout → DecodeBolt.
    Raw(Box<Raw>),
    /// DecodeBolt → ViewBolts: prepared rows, one entry per view of the source.
    Prepared(PreparedRange),
    /// DecodeBolt → LandBolt.
    Decoded(DecodedRange),
    /// Spout → DecodeBolt → LandBolt: land this partition's events now, it is about to move.
    Flush(PartitionId),
    /// Spout → DecodeBolt → ViewBolts: from here on, another program.
    Adopt(Adopt),
}

#[derive(Clone)]
pub(crate) struct Adopt {
    pub(crate) state: Arc<PartitionState>,
    /// Where in the partition it begins.
    pub(crate) at: Offset,
    pub(crate) program: Arc<Program>,
}

#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) state: Arc<PartitionState>,
    pub(crate) program: Arc<Program>,
    pub(crate) batch: RawBatch,
    pub(crate) consumed_at: Instant,
}

#[derive(Clone)]
pub(crate) struct PreparedRange {
    pub(crate) state: Arc<PartitionState>,
    pub(crate) range: OffsetRange,
    pub(crate) program: Arc<Program>,
    /// In the order of the program's views.
    pub(crate) views: Vec<Arc<Prepared>>,
    pub(crate) consumed_at: Instant,
}

#[derive(Clone)]
pub(crate) struct DecodedRange {
    pub(crate) state: Arc<PartitionState>,
    pub(crate) range: OffsetRange,
    pub(crate) events: RecordBatch,
    pub(crate) dead: RecordBatch,
    /// Heap bytes of both.
    pub(crate) bytes: usize,
}

/// The stream that goes to the LandBolt.
pub(crate) const LAND_STREAM: &str = "land";

impl Message {
    pub(crate) fn partition(&self) -> PartitionId {
        match self {
            Self::Raw(raw) => raw.state.partition,
            Self::Prepared(prepared) => prepared.state.partition,
            Self::Decoded(decoded) => decoded.state.partition,
            Self::Flush(partition) => *partition,
            Self::Adopt(adopt) => adopt.state.partition,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Raw(_) => "raw",
            Self::Prepared(_) => "prepared",
            Self::Decoded(_) => "decoded",
            Self::Flush(_) => "flush",
            Self::Adopt(_) => "adopt",
        }
    }
}

/// Fields grouping on the group key: gives each of `n` ViewBolts the rows of its keys. Every one gets the range, also
/// with no rows.
pub(crate) fn split_by_key(message: Message, n: usize) -> Result<Vec<Message>, BoxError> {
    let prepared = match message {
        Message::Prepared(prepared) => prepared,
        // Everybody is told.
        Message::Adopt(adopt) => return Ok(vec![Message::Adopt(adopt); n]),
        other => return Err(format!("a {} tuple cannot be grouped by key", other.kind()).into()),
    };
    if n == 1 {
        return Ok(vec![Message::Prepared(prepared)]);
    }
    let PreparedRange {
        state,
        range,
        program,
        views: rows,
        consumed_at,
    } = prepared;
    let mut parts: Vec<Vec<Arc<Prepared>>> = (0..n).map(|_| Vec::with_capacity(rows.len())).collect();
    for (live, rows) in program.views.iter().zip(rows) {
        for (part, rows) in parts.iter_mut().zip(live.view.split(Arc::unwrap_or_clone(rows), n)?) {
            part.push(Arc::new(rows));
        }
    }
    let part = |views| {
        Message::Prepared(PreparedRange {
            state: Arc::clone(&state),
            range,
            program: Arc::clone(&program),
            views,
            consumed_at,
        })
    };
    Ok(parts.into_iter().map(part).collect())
}
