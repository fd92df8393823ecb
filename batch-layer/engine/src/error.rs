use anabranch_model::ErrorKind;
use anabranch_runtime::http::ApiError;

/// What went wrong in the batch layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Definitions(#[from] anabranch_definitions::Error),
    /// A setting cannot be used.
    #[error("{key}: {message}")]
    Setting { key: &'static str, message: String },
    /// The object store, master dataset or publication log.
    #[error(transparent)]
    Dataset(#[from] anabranch_dataset::Error),
    #[error(transparent)]
    Access(#[from] anabranch_access::Error),
    /// Folding or merging.
    #[error(transparent)]
    Compute(#[from] anabranch_compute::Error),
    /// An object could not be read.
    #[error("cannot read {path}: {source}")]
    Fetch {
        path: String,
        #[source]
        source: object_store::Error,
    },
    /// A file of the master dataset is not readable Parquet.
    #[error("{path} is not a readable Parquet file: {source}")]
    Footer {
        path: String,
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// The store did not say whether the publication was created; it may appear yet.
    #[error("whether the run was published is not known: {0}")]
    PublicationUnclear(#[source] anabranch_dataset::Error),
    /// No such run.
    #[error("there is no run `{0}`")]
    UnknownRun(String),
    /// No such table.
    #[error("there is no table `{table}`; views.sql declares {}", tables.join(", "))]
    UnknownTable { table: String, tables: Vec<String> },
    /// The run is not held.
    #[error("run {run_id} is {state:?}, not held")]
    NotHeld {
        run_id: String,
        state: anabranch_dataset::RunState,
    },
    /// What was asked for cannot be done as things are; the message says why.
    #[error("{0}")]
    Refused(String),
    /// A file that a manifest names is not there any more.
    #[error("not there any more: {0}")]
    Gone(String),
    /// There is no such view.
    #[error("there is no view `{0}`")]
    UnknownView(String),
    /// Leases or speed workers cannot be asked.
    #[error(transparent)]
    Realtime(#[from] anabranch_realtime::Error),
    /// Another batch service leads now.
    #[error("another batch service has taken over")]
    LostLeadership,
    /// The service is shutting down.
    #[error("shut down")]
    ShutDown,
    /// A background task failed.
    #[error("{0}")]
    Task(String),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Definitions(error) => error.kind(),
            Self::Setting { .. } => ErrorKind::Invalid,
            Self::Dataset(error) => error.kind(),
            Self::Access(error) => error.kind(),
            Self::Compute(error) => error.kind(),
            // What a snapshot lists must be there.
            Self::Fetch {
                source: object_store::Error::NotFound { .. },
                ..
            } => ErrorKind::Data,
            Self::Fetch { .. } | Self::PublicationUnclear(_) | Self::ShutDown | Self::LostLeadership => {
                ErrorKind::Unavailable
            }
            Self::Footer { .. } => ErrorKind::Data,
            Self::UnknownRun(_) | Self::UnknownView(_) | Self::UnknownTable { .. } => ErrorKind::NotFound,
            Self::NotHeld { .. } | Self::Refused(_) => ErrorKind::Conflict,
            Self::Gone(_) => ErrorKind::Data,
            Self::Realtime(error) => error.kind(),
            Self::Task(_) => ErrorKind::Internal,
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let answer = Self::new(error.kind(), error.to_string());
        match error {
            Error::UnknownRun(_) => answer.with_hint("GET /v1/batch/runs lists the runs"),
            Error::UnknownView(_) => answer.with_hint("`anabranch views` lists the views"),
            Error::LostLeadership => answer.with_hint("try again in a moment: requests are passed on to the new one"),
            _ => answer,
        }
    }
}
