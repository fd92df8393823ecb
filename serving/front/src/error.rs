use anabranch_model::ErrorKind;

/// Why a query has no answer. Front ends turn [`Cause`] into the codes of their protocol.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    pub cause: Cause,
    pub message: String,
    /// What to do instead.
    pub hint: Option<String>,
    /// The name in the query that the error is about.
    pub about: Option<String>,
}

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The text is no SQL.
    Syntax,
    /// There is no such relation, or the principal may not read it.
    UnknownRelation,
    UnknownColumn,
    UnknownFunction,
    /// A statement that would change something.
    NotReadOnly,
    /// The query contradicts itself, or a value cannot be used as asked.
    Invalid,
    Unsupported,
    /// The query took longer than it may.
    Timeout,
    /// The query needs more memory than it may use, or its answer is too large.
    TooLarge,
    /// Too many queries are running.
    Busy,
    /// The answer would not be exact, or not reach what was asked for, in time.
    Demand,
    /// A service that the answer needs is not there.
    Unavailable,
    /// A relation has other columns than when the query was prepared: prepare it again.
    Changed,
    /// The principal may not do this.
    Denied,
    /// A defect, or data that cannot be read.
    Internal,
}

impl QueryError {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            message: message.into(),
            hint: None,
            about: None,
        }
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn about(mut self, name: impl Into<String>) -> Self {
        self.about = Some(name.into());
        self
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self.cause {
            Cause::Syntax
            | Cause::UnknownColumn
            | Cause::UnknownFunction
            | Cause::NotReadOnly
            | Cause::Invalid
            | Cause::Unsupported
            | Cause::TooLarge
            | Cause::Denied => ErrorKind::Invalid,
            Cause::UnknownRelation => ErrorKind::NotFound,
            Cause::Timeout | Cause::Busy | Cause::Demand | Cause::Unavailable => ErrorKind::Unavailable,
            Cause::Changed => ErrorKind::Conflict,
            Cause::Internal => ErrorKind::Internal,
        }
    }
}

/// What the planner says of arguments that a function does not take, if `internal` is such an error: it calls some of these
/// defects of its own.
pub fn mismatch(internal: &str) -> Option<String> {
    let (said, _) = internal
        .split_once("\nThis issue was likely caused")
        .unwrap_or((internal, ""));
    said.contains("failed to match any signature").then(|| said.to_owned())
}
