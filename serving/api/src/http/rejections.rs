//! What axum refuses by itself, in the words of this API.

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};

use crate::Error;

/// Largest body but that of an ingestion, in bytes (axum's own default).
pub(crate) const BODY_BYTES: u64 = 2 << 20;

impl From<BytesRejection> for Error {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status().as_u16() == 413 {
            return Self::BodyTooLarge {
                limit_bytes: BODY_BYTES,
            };
        }
        Self::Request {
            message: rejection.body_text(),
            hint: None,
        }
    }
}

impl From<PathRejection> for Error {
    fn from(rejection: PathRejection) -> Self {
        Self::Request {
            message: rejection.body_text(),
            hint: None,
        }
    }
}

impl From<QueryRejection> for Error {
    fn from(rejection: QueryRejection) -> Self {
        Self::Request {
            message: rejection.body_text(),
            hint: Some("write name=value pairs, percent-encoded".into()),
        }
    }
}
