use std::sync::Arc;

use anabranch_model::ErrorKind;
use datafusion::error::DataFusionError;

/// What can go wrong with a compiled view. A bad event is never among it: it becomes NULL and is counted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A predicate over key columns does not parse, or reads something that is not a key.
    #[error("view `{view}`: {message}")]
    Filter { view: Arc<str>, message: String },
    /// A batch of events lacks a column that the view reads, or has it in a type that cannot be read.
    #[error("view `{view}`: events have no usable column `{column}`: {reason}")]
    Events {
        view: Arc<str>,
        column: String,
        reason: String,
    },
    /// A batch that claims to be the view's state has another schema.
    #[error("view `{view}`: not a state of this view: {reason}")]
    State { view: Arc<str>, reason: String },
    /// The engine refused what should always work.
    #[error("view `{view}`: {doing} failed")]
    Engine {
        view: Arc<str>,
        doing: &'static str,
        #[source]
        source: Box<DataFusionError>,
    },
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Filter { .. } => ErrorKind::Invalid,
            Self::Events { .. } | Self::State { .. } => ErrorKind::Data,
            Self::Engine { .. } => ErrorKind::Internal,
        }
    }
}

/// Names the view and the step in which the engine failed.
pub(crate) trait During<T> {
    fn during(self, view: &Arc<str>, doing: &'static str) -> Result<T, Error>;
}

impl<T, E: Into<DataFusionError>> During<T> for Result<T, E> {
    fn during(self, view: &Arc<str>, doing: &'static str) -> Result<T, Error> {
        self.map_err(|e| Error::Engine {
            view: Arc::clone(view),
            doing,
            source: Box::new(e.into()),
        })
    }
}
