use anabranch_model::ErrorKind;

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the collector's address {endpoint:?} cannot be used: {source}; write it like http://collector:4317")]
    Endpoint {
        endpoint: String,
        source: tonic::transport::Error,
    },
    #[error(
        "the collector's address {endpoint:?} does not begin with http://; write it like http://collector:4317, and let a collector nearby \
         speak TLS to one far away"
    )]
    Scheme { endpoint: String },
    #[error("traces cannot be sent: {0}; see to the OTEL_* variables of the environment")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("traces are sent to a collector already")]
    Installed,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Endpoint { .. } | Self::Scheme { .. } | Self::Exporter(_) => ErrorKind::Invalid,
            Self::Installed => ErrorKind::Conflict,
        }
    }
}
