use anabranch_front::{Cause, QueryError};
use anabranch_model::ErrorKind;
use tonic::{Code, Status};

/// What ends the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Flight SQL cannot be served: {0}")]
    Io(#[from] std::io::Error),
    #[error("cannot tell clients what this server can do: {0}")]
    Info(#[from] arrow_flight::error::FlightError),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(_) => ErrorKind::Unavailable,
            Self::Info(_) => ErrorKind::Internal,
        }
    }
}

/// An error of the query engine as gRPC has it; the hint follows the message.
pub(crate) fn status(error: QueryError) -> Status {
    let code = match error.cause {
        Cause::Syntax | Cause::UnknownColumn | Cause::UnknownFunction | Cause::Invalid => Code::InvalidArgument,
        Cause::UnknownRelation => Code::NotFound,
        Cause::NotReadOnly | Cause::Denied => Code::PermissionDenied,
        Cause::Unsupported => Code::Unimplemented,
        Cause::Timeout => Code::DeadlineExceeded,
        Cause::TooLarge | Cause::Busy => Code::ResourceExhausted,
        Cause::Demand => Code::FailedPrecondition,
        Cause::Unavailable => Code::Unavailable,
        Cause::Changed => Code::Aborted,
        Cause::Internal => Code::Internal,
    };
    let message = match &error.hint {
        Some(hint) => format!("{} ({hint})", error.message),
        None => error.message,
    };
    Status::new(code, message)
}
