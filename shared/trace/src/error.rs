use anabranch_model::ErrorKind;

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the collector's address {endpoint:?} cannot be used: {source}; write it like http://collector:4317")]
    Endpoint {
        endpoint: String,
        source: tonic::transport::Error,
    },
    #[error("traces are sent to a collector already")]
    Installed,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Endpoint { .. } => ErrorKind::Invalid,
            Self::Installed => ErrorKind::Conflict,
        }
    }
}
