use anabranch_catalog::Diagnostic;
use anabranch_model::ErrorKind;

use crate::Change;

/// Why definitions were not applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text does not compile.
    #[error("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid { found: Vec<Diagnostic> },
    /// The text compiles, but contradicts what was landed or what runs.
    #[error("{}", change.refusals())]
    Refused { change: Change },
    /// The text was replaced by a newer one before.
    #[error(
        "this text was applied before as number {earlier}, and number {newest} has replaced it since: it looks like an old \
         copy. Apply it with force to go back to it on purpose"
    )]
    Stale { earlier: u64, newest: u64 },
    /// An entry of the log that this version of Anabranch cannot compile.
    #[error("definitions number {number} cannot be compiled: {reason}")]
    Entry { number: u64, reason: String },
    #[error(transparent)]
    Dataset(#[from] anabranch_dataset::Error),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::Refused { .. } => ErrorKind::Invalid,
            Self::Stale { .. } => ErrorKind::Conflict,
            Self::Entry { .. } => ErrorKind::Data,
            Self::Dataset(error) => error.kind(),
        }
    }
}
