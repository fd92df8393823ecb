use std::path::PathBuf;

use anabranch_model::ErrorKind;

/// What went wrong while folding or merging.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller cancelled; nothing was produced.
    #[error("cancelled")]
    Cancelled,
    /// Settings that cannot work.
    #[error("{0}")]
    Invalid(String),
    /// The input could not be delivered (for example, a fetch failed).
    #[error("input: {source}")]
    Input {
        /// What the caller can do about it.
        kind: ErrorKind,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A Parquet file of the master dataset could not be read.
    #[error("cannot read {path}: {source}")]
    Parquet {
        path: String,
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// A column of a file does not fit the source's declaration.
    #[error("column `{column}` of {path} does not fit the source: {source}")]
    Column {
        path: String,
        column: String,
        #[source]
        source: arrow::error::ArrowError,
    },
    /// Files must come in path order, since the order of merging hangs on it.
    #[error("input file {path} comes after {previous}, out of path order")]
    OutOfOrder { path: String, previous: String },
    /// The view refused rows or state.
    #[error("view {view}: {source}")]
    View {
        view: String,
        #[source]
        source: anabranch_view::Error,
    },
    /// State batches could not be gathered.
    #[error("view {view}: {source}")]
    Arrow {
        view: String,
        #[source]
        source: arrow::error::ArrowError,
    },
    /// State that should be sorted by key, each group once, is not.
    #[error("state of view {view} is not sorted by key: its files are damaged")]
    Unsorted { view: String },
    /// A spill file could not be written or read back.
    #[error("spill file {path}: {source}")]
    Spill {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A fold panicked; the message is the panic's.
    #[error("a fold panicked: {0}")]
    Panicked(String),
    /// The thread pool could not be built.
    #[error("cannot build the compute pool: {0}")]
    Pool(#[from] rayon::ThreadPoolBuildError),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cancelled => ErrorKind::Unavailable,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Input { kind, .. } => *kind,
            Self::Parquet { .. } | Self::Column { .. } | Self::Unsorted { .. } => ErrorKind::Data,
            Self::Spill { .. } => ErrorKind::Unavailable,
            Self::OutOfOrder { .. } | Self::View { .. } | Self::Arrow { .. } | Self::Panicked(_) | Self::Pool(_) => {
                ErrorKind::Internal
            }
        }
    }

    pub(crate) fn view(view: &anabranch_view::View) -> impl FnOnce(anabranch_view::Error) -> Self + '_ {
        move |source| Self::View {
            view: view.name().to_owned(),
            source,
        }
    }

    pub(crate) fn arrow(view: &anabranch_view::View) -> impl FnOnce(arrow::error::ArrowError) -> Self + '_ {
        move |source| Self::Arrow {
            view: view.name().to_owned(),
            source,
        }
    }
}
