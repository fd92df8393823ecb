use anabranch_model::ErrorKind;

/// What went wrong while realtime state was read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A speed worker cannot be reached, or stopped answering.
    #[error("speed worker {worker} failed while its state was read: {message}")]
    WorkerFailed { worker: String, message: String },
    /// The leases cannot be read.
    #[error(transparent)]
    Dataset(#[from] anabranch_dataset::Error),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::WorkerFailed { .. } => ErrorKind::Unavailable,
            Self::Dataset(error) => error.kind(),
        }
    }
}
