use std::error::Error;

use serde::{Deserialize, Serialize};

/// What a caller can do about an error. Every crate's `Error` has a `kind()` that returns one of these; HTTP status and
/// exit codes derive from it in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request, definition or setting is wrong; the message says what to change.
    Invalid,
    /// The named thing does not exist.
    NotFound,
    /// Somebody else changed the state this was based on; reload and decide again.
    Conflict,
    /// A dependency did not answer; the same call may succeed later.
    Unavailable,
    /// Stored data contradicts itself or cannot be read.
    Data,
    /// A defect in Anabranch.
    Internal,
}

impl ErrorKind {
    /// The HTTP status that belongs to this kind.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Unavailable => 503,
            Self::Data | Self::Internal => 500,
        }
    }

    /// A stable code for the `error.code` field of an HTTP answer.
    pub fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Data => "data",
            Self::Internal => "internal",
        }
    }
}

/// An error and what caused it, in one line. Causes that a message quotes already are not repeated.
pub fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !message.contains(&said) {
            message.push_str(": ");
            message.push_str(&said);
        }
        cause = error.source();
    }
    message
}

#[cfg(test)]
mod tests;
