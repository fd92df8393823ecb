use anabranch_model::{ErrorKind, Offset};
use arrow::error::ArrowError;

/// Why pieces make no answer. The offset errors mean that a worker broke the protocol: refusing is the point of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Events between the batch view and the realtime piece would be counted nowhere.
    #[error(
        "view {view}: worker {worker} holds {partition} from {start}, but the batch view ends at {cut}: events between are in neither"
    )]
    Gap {
        view: String,
        partition: String,
        worker: String,
        cut: Offset,
        start: Offset,
    },
    /// Events would be counted twice.
    #[error(
        "view {view}: worker {worker} holds {partition} from {start}, but the batch view reaches to {cut}: events between are in both"
    )]
    Overlap {
        view: String,
        partition: String,
        worker: String,
        cut: Offset,
        start: Offset,
    },
    /// A piece that ends before it starts.
    #[error("view {view}: worker {worker} offers a piece of {partition} that runs backwards: {start} to {end}")]
    Backwards {
        view: String,
        partition: String,
        worker: String,
        start: Offset,
        end: Offset,
    },
    /// An answer to a question that serving never asks.
    #[error("view {view}: worker {worker} answers {partition} as if an end had been asked for")]
    NotAsked {
        view: String,
        partition: String,
        worker: String,
    },
    /// Two views of one source would be answered for different prefixes of the log.
    #[error(
        "worker {worker} froze {partition} at {end} for view {view}, but at {other_end} for view {other_view}: one snapshot has one prefix"
    )]
    TwoPrefixes {
        worker: String,
        partition: String,
        view: String,
        end: Offset,
        other_view: String,
        other_end: Offset,
    },
    /// A batch file or a worker sent state that is not the view's.
    #[error("view {view}: {what} state has columns ({found}), the view's are ({expected})")]
    Schema {
        view: String,
        what: &'static str,
        found: String,
        expected: String,
    },
    #[error("view {view}: {source}")]
    View {
        view: String,
        source: anabranch_view::Error,
    },
    #[error("view {view}: {source}")]
    Arrow { view: String, source: ArrowError },
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Gap { .. } | Self::Overlap { .. } | Self::Backwards { .. } | Self::TwoPrefixes { .. } => {
                ErrorKind::Data
            }
            Self::Schema { .. } => ErrorKind::Data,
            Self::NotAsked { .. } => ErrorKind::Internal,
            Self::View { source, .. } => source.kind(),
            Self::Arrow { .. } => ErrorKind::Internal,
        }
    }
}
