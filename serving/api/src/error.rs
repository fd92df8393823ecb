use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_front::mismatch;
use anabranch_model::{ErrorKind, with_causes};
use anabranch_runtime::http::ApiError;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use datafusion::error::DataFusionError;

use crate::admission::RETRY_AFTER_SECONDS;

/// What went wrong in the serving layer. Each request error becomes one `{"error": …}` answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no view {name}")]
    UnknownView { name: String, hint: Option<String> },
    /// The view's definition changed while the request began: begin again with the new one.
    #[error("the definition of a view changed at this moment")]
    Superseded,
    #[error("view {view} has no column {column}")]
    UnknownColumn {
        view: String,
        column: String,
        hint: Option<String>,
    },
    #[error("there is no table {name}")]
    UnknownTable { name: String, hint: Option<String> },
    #[error("nothing of table {table} was ever landed")]
    NothingLanded { table: String },
    #[error("offset {offset} of partition {partition} of table {table} is no dead letter")]
    NoDeadLetter { table: String, partition: i32, offset: i64 },
    #[error("table {table} has no redrive {number}")]
    NoRedrive { table: String, number: u64 },
    /// The query itself is wrong or not allowed.
    #[error("{message}")]
    Sql { message: String, hint: Option<String> },
    /// A parameter, header or body that cannot be used.
    #[error("{message}")]
    Request { message: String, hint: Option<String> },
    /// Whoever asked counts no more.
    #[error(transparent)]
    Ended(anabranch_access::Denied),
    /// `require=exact`, and the answer would not be.
    #[error("no exact answer within {waited:?}: {}", list(missing))]
    Inexact {
        waited: Duration,
        missing: BTreeMap<String, String>,
    },
    /// `at_least`, and the answer would not cover it.
    #[error(
        "the answer does not reach what at_least asks for within {waited:?}: {}",
        list(lacking)
    )]
    Behind {
        waited: Duration,
        lacking: BTreeMap<String, String>,
    },
    #[error("the query did not finish within {after:?}")]
    Timeout { after: Duration },
    /// As many queries as may compute and wait do so already.
    #[error("overloaded: {running} queries are running and {waiting} are waiting, which is as many as may")]
    Overloaded { running: usize, waiting: usize },
    /// All queries together use as much memory as they may.
    #[error("overloaded: the queries that are running use all of the {limit_bytes} bytes of memory that they may")]
    MemoryBusy { limit_bytes: usize },
    #[error("the answer is larger than {limit_bytes} bytes")]
    AnswerTooLarge { limit_bytes: usize },
    #[error("the body is larger than {limit_bytes} bytes")]
    BodyTooLarge { limit_bytes: u64 },
    /// A live query that is larger than what is followed at once.
    #[error("the live query has at least {found} {unit}, more than {limit}")]
    LiveTooLarge {
        /// So many were read.
        found: usize,
        /// `rows` or `bytes`.
        unit: &'static str,
        limit: usize,
    },
    /// As many live readers as are allowed are there already.
    #[error("{limit} readers follow live queries already")]
    TooManyReaders { limit: usize },
    /// A speed worker stopped answering in the middle of a read.
    #[error("speed worker {worker} failed while its state was read: {message}")]
    WorkerFailed { worker: String, message: String },
    /// The service that a request is forwarded to is not there.
    #[error("{message}")]
    NoService { message: String, hint: String },
    /// The service that a command was passed on to has it, or may have it, and did not answer.
    #[error("the service at {address} does not answer, and the command may still take effect: {why}")]
    Unclear {
        address: String,
        why: String,
        /// How to find out.
        look: &'static str,
    },
    #[error(transparent)]
    Merge(#[from] anabranch_merge::Error),
    #[error(transparent)]
    View(#[from] anabranch_view::Error),
    #[error(transparent)]
    Dataset(#[from] anabranch_dataset::Error),
    #[error(transparent)]
    Definitions(#[from] anabranch_definitions::Error),
    #[error(transparent)]
    Access(#[from] anabranch_access::Error),
    #[error(transparent)]
    Query(DataFusionError),
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// What was read is not what was written.
    #[error("the local file of the batch view {view} is damaged")]
    LocalState { view: String },
    #[error(transparent)]
    Postgres(#[from] anabranch_postgres::Error),
    #[error(transparent)]
    FlightSql(#[from] anabranch_flight_sql::Error),
    /// The service itself cannot start or go on.
    #[error("{what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
    /// A background task that the service needs has failed.
    #[error("{0}")]
    Task(String),
    #[error("{0}")]
    Internal(String),
}

impl From<anabranch_realtime::Error> for Error {
    fn from(error: anabranch_realtime::Error) -> Self {
        match error {
            anabranch_realtime::Error::WorkerFailed { worker, message } => Self::WorkerFailed { worker, message },
            anabranch_realtime::Error::Dataset(error) => Self::Dataset(error),
        }
    }
}

fn list(entries: &BTreeMap<String, String>) -> String {
    entries
        .iter()
        .map(|(name, why)| format!("{name} ({why})"))
        .collect::<Vec<_>>()
        .join(", ")
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownView { .. }
            | Self::UnknownTable { .. }
            | Self::NothingLanded { .. }
            | Self::NoDeadLetter { .. }
            | Self::NoRedrive { .. } => ErrorKind::NotFound,
            Self::UnknownColumn { .. } | Self::Sql { .. } | Self::Request { .. } | Self::Ended(_) => ErrorKind::Invalid,
            Self::AnswerTooLarge { .. } | Self::BodyTooLarge { .. } | Self::LiveTooLarge { .. } => ErrorKind::Invalid,
            Self::TooManyReaders { .. } => ErrorKind::Unavailable,
            Self::Inexact { .. } | Self::Behind { .. } | Self::Timeout { .. } => ErrorKind::Unavailable,
            Self::WorkerFailed { .. } | Self::NoService { .. } | Self::Unclear { .. } | Self::Superseded => {
                ErrorKind::Unavailable
            }
            Self::Overloaded { .. } | Self::MemoryBusy { .. } => ErrorKind::Unavailable,
            Self::LocalState { .. } => ErrorKind::Data,
            Self::Merge(error) => error.kind(),
            Self::Dataset(error) => error.kind(),
            Self::Definitions(error) => error.kind(),
            Self::Access(error) => error.kind(),
            Self::Query(error) => query_kind(error),
            Self::View(error) => error.kind(),
            Self::Postgres(error) => error.kind(),
            Self::FlightSql(error) => error.kind(),
            Self::Arrow(_) | Self::Io { .. } | Self::Task(_) | Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// Whether the same request may succeed once others are done.
    pub fn is_overload(&self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::MemoryBusy { .. })
    }

    /// What to do about it, in words.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownView { hint, .. } | Self::UnknownColumn { hint, .. } | Self::UnknownTable { hint, .. } => {
                hint.clone()
            }
            Self::Sql { hint, .. } | Self::Request { hint, .. } => hint.clone(),
            Self::Inexact { .. } => {
                Some("leave out require=exact to see what is there, or wait longer with timeout".into())
            }
            Self::Behind { .. } => Some("wait longer with timeout; /v1/status shows each partition's lag".into()),
            Self::Timeout { .. } => Some("narrow the query, or raise [serving] query_timeout".into()),
            Self::Overloaded { .. } => Some(
                "try again shortly, with fewer queries at a time; [serving] max_queries and max_waiting_queries are the limits"
                    .into(),
            ),
            Self::MemoryBusy { .. } => {
                Some("try again shortly, or narrow the query; [serving] total_query_memory is the limit".into())
            }
            Self::AnswerTooLarge { .. } => Some("add a LIMIT or a filter, or aggregate in the query".into()),
            Self::BodyTooLarge { .. } => Some("send it in several requests".into()),
            Self::LiveTooLarge { .. } => Some("add a filter or limit, or raise [serving] live_max_rows".into()),
            Self::TooManyReaders { .. } => Some("try again later, or raise [serving] live_max_readers".into()),
            Self::WorkerFailed { .. } | Self::Superseded => Some("try again".into()),
            Self::NoService { hint, .. } => Some(hint.clone()),
            Self::Unclear { look, .. } => Some((*look).into()),
            Self::Query(error) if is_out_of_memory(error) => Some("narrow the query: it needs too much memory; [serving] query_memory is the limit".into()),
            _ => None,
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Ended(_) => 401,
            Self::Behind { .. } | Self::Timeout { .. } | Self::Unclear { .. } => 504,
            Self::AnswerTooLarge { .. } | Self::BodyTooLarge { .. } | Self::LiveTooLarge { .. } => 413,
            other => other.kind().http_status(),
        }
    }

    /// Gives DataFusion's errors back the type they had before they went through a table scan.
    pub(crate) fn from_query(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(error) => *error,
                Err(inner) => Self::Query(DataFusionError::External(inner)),
            },
            DataFusionError::Context(context, inner) => match Self::from_query(*inner) {
                Self::Query(inner) => Self::Query(DataFusionError::Context(context, Box::new(inner))),
                other => other,
            },
            DataFusionError::Diagnostic(_, inner) => Self::from_query(*inner),
            // Operators share an error among their outputs; nothing else holds it by then.
            DataFusionError::Shared(inner) => match Arc::try_unwrap(inner) {
                Ok(inner) => Self::from_query(inner),
                Err(inner) => Self::Query(DataFusionError::Shared(inner)),
            },
            DataFusionError::Internal(message) => Self::Query(match mismatch(&message) {
                Some(said) => DataFusionError::Plan(said),
                None => DataFusionError::Internal(message),
            }),
            other => Self::Query(other),
        }
    }

    /// Whether a new snapshot may cure it.
    pub(crate) fn is_lost_worker(&self) -> bool {
        matches!(self, Self::WorkerFailed { .. } | Self::Superseded)
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

fn query_kind(error: &DataFusionError) -> ErrorKind {
    match error.find_root() {
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Execution(_)
        | DataFusionError::ArrowError(..)
        | DataFusionError::Collection(_)
        | DataFusionError::ResourcesExhausted(_)
        | DataFusionError::Configuration(_)
        // What a function met in its arguments, such as a pattern that is none: errors of ours are not among these.
        | DataFusionError::External(_) => ErrorKind::Invalid,
        _ => ErrorKind::Internal,
    }
}

fn is_out_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let message = match &error {
            // DataFusion's own prefix ("Error during planning: ") says nothing that the status does not.
            Error::Query(inner) => match inner.find_root() {
                DataFusionError::SQL(parser, _) => parser.to_string(),
                DataFusionError::Plan(message) => message.clone(),
                _ => inner.strip_backtrace(),
            },
            other => with_causes(other),
        };
        let mut answer = Self::new(error.kind(), message).with_status(error.status());
        if error.is_overload() {
            answer.code = "overloaded".into();
        }
        if let Error::Ended(_) = error {
            answer.code = "unauthorized".into();
        }
        match error.hint() {
            Some(hint) => answer.with_hint(hint),
            None => answer,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let overload = self.is_overload();
        let mut response = ApiError::from(self).into_response();
        if overload {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        response
    }
}
