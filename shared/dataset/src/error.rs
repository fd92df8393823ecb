use anabranch_model::{ErrorKind, Offset, PartitionId};
use arrow::error::ArrowError;
use delta_kernel::KernelError;
use parquet::errors::ParquetError;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between Anabranch and its object store. Messages include their causes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configured storage cannot be opened.
    #[error("storage `{url}` cannot be opened: {reason}")]
    Url { url: String, reason: String },

    /// The store lets two writers create the same object.
    #[error(
        "storage `{url}` must not be used: {reason}. Anabranch needs atomic create-if-absent (S3: `If-None-Match: *`); \
         use a store, or a release of it, that has it"
    )]
    NotAtomic { url: String, reason: String },

    /// The store does not let this service in.
    #[error(
        "storage `{url}` refuses this service ({answer}). Check aws_access_key_id and aws_secret_access_key in \
         [storage.options] (or AWS_* in the environment), and that they may read, list, write and delete there"
    )]
    Credentials { url: String, answer: String },

    /// There is no such bucket.
    #[error("storage `{url}`: there is no such bucket. Create it, or correct `url` in [storage] ({answer})")]
    NoBucket { url: String, answer: String },

    /// A request to the store failed, after its own retries.
    #[error("cannot {operation} `{path}`: {source}")]
    Store {
        operation: &'static str,
        path: String,
        source: object_store::Error,
    },

    /// The table belongs to another log.
    #[error(
        "table `{table}` holds events of `{recorded}` but is now connected to `{found}`: connect it to the former log \
         again, or give the table another name in views.sql so that a new master dataset begins"
    )]
    Identity {
        table: String,
        recorded: String,
        found: String,
    },

    /// A declared column has another type than the landed one.
    #[error(
        "column `{column}` of table `{table}` is declared {declared} but was landed as {landed}: declare the landed type, or \
         add a column of another name"
    )]
    ColumnType {
        table: String,
        column: String,
        declared: String,
        landed: String,
    },

    /// A Delta protocol feature this crate neither reads nor writes.
    #[error(
        "master dataset `{table}` needs Delta reader version {reader} and writer version {writer}; another tool raised them"
    )]
    Protocol { table: String, reader: i32, writer: i32 },

    /// The Delta kernel could not read or checkpoint a table.
    #[error("master dataset `{table}` cannot be read: {source}")]
    Delta { table: String, source: Box<KernelError> },

    /// Files wait to be committed for so long that they may have been taken for left behind.
    #[error("`{path}` was uploaded {age:?} ago and must be uploaded again before it is committed")]
    StaleUpload { path: String, age: std::time::Duration },

    /// The asked-for version does not exist (any more).
    #[error("master dataset `{table}` has no version {version}")]
    NoVersion { table: String, version: u64 },

    /// Something stored contradicts itself.
    #[error("`{path}` cannot be used: {reason}")]
    Corrupt { path: String, reason: String },

    /// A Parquet file cannot be written or read.
    #[error("Parquet file `{path}`: {source}")]
    Parquet { path: String, source: ParquetError },

    /// Rows do not fit the schema they are wanted in.
    #[error("column `{column}` does not fit: {source}")]
    Arrow { column: String, source: ArrowError },

    /// A call that contradicts itself.
    #[error("{0}")]
    Invalid(String),

    /// Other writers committed first, every time.
    #[error("gave up on committing to `{table}` after {attempts} attempts: other writers were always first")]
    Contended { table: String, attempts: u32 },

    /// The store did not say whether a commit exists, and went on not saying it.
    #[error("gave up on committing to `{table}` after {attempts} unclear answers of the store: {source}")]
    Unclear {
        table: String,
        attempts: u32,
        source: Box<Error>,
    },

    /// Another run published first.
    #[error("publication {} was to follow {based_on}, but {latest} is there already", based_on + 1)]
    Published { based_on: u64, latest: u64 },

    /// Somebody else applied definitions first.
    #[error("other definitions were applied at the same time, as number {number}: look at them and apply yours again")]
    DefinitionsApplied { number: u64 },

    /// Somebody else asked for a redrive first.
    #[error("another redrive of table `{table}` was asked for at the same time, as number {number}: ask again")]
    RedriveAsked { table: String, number: u64 },

    /// A publication would take back what an earlier one covers.
    #[error(
        "publishing would lower the cut of `{table}/{partition}` from {from} to {to}: only a rollback may do that; start a new run"
    )]
    CutLowered {
        table: String,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    },

    /// A publication that does not exist.
    #[error("there is no publication {number}")]
    NoPublication { number: u64 },

    /// An exclusion that does not exist.
    #[error("table `{table}` has no exclusion {id}")]
    NoExclusion { table: String, id: u64 },

    /// A publication whose results were removed since.
    #[error(
        "publication {number} cannot be served again: its state files are cleaned away. `[maintenance] keep_publications` says \
         how many publications keep theirs"
    )]
    CleanedAway { number: u64 },

    /// A background computation died.
    #[error("{task} did not finish: {source}")]
    Task {
        task: &'static str,
        source: tokio::task::JoinError,
    },
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Url { .. }
            | Self::NotAtomic { .. }
            | Self::Credentials { .. }
            | Self::NoBucket { .. }
            | Self::Identity { .. }
            | Self::ColumnType { .. }
            | Self::Protocol { .. }
            | Self::Invalid(_)
            | Self::CleanedAway { .. }
            | Self::CutLowered { .. } => ErrorKind::Invalid,
            Self::Store { source, .. } => store_kind(source),
            Self::Delta { source, .. } => match &**source {
                KernelError::ObjectStore(source) => store_kind(source),
                KernelError::IOError(_) | KernelError::Reqwest(_) => ErrorKind::Unavailable,
                KernelError::JoinFailure(_) => ErrorKind::Internal,
                // While it reads a checkpoint, the store's error comes out of the Parquet reader.
                other if is_store_away(other) => ErrorKind::Unavailable,
                _ => ErrorKind::Data,
            },
            Self::NoVersion { .. } | Self::NoPublication { .. } | Self::NoExclusion { .. } => ErrorKind::NotFound,
            Self::Corrupt { .. } | Self::Arrow { .. } => ErrorKind::Data,
            Self::Parquet { source, .. } => match source {
                // The reader reports what its fetcher reported.
                ParquetError::External(source) => match source.downcast_ref::<Self>() {
                    Some(error) => error.kind(),
                    None if is_store_away(&**source) => ErrorKind::Unavailable,
                    None => ErrorKind::Data,
                },
                _ => ErrorKind::Data,
            },
            Self::Contended { .. } | Self::Unclear { .. } => ErrorKind::Unavailable,
            Self::Published { .. }
            | Self::DefinitionsApplied { .. }
            | Self::RedriveAsked { .. }
            | Self::StaleUpload { .. } => ErrorKind::Conflict,
            Self::Task { .. } => ErrorKind::Internal,
        }
    }

    /// For `map_err` on a request to the store.
    pub(crate) fn store(
        operation: &'static str,
        path: &object_store::path::Path,
    ) -> impl FnOnce(object_store::Error) -> Self {
        let path = path.to_string();
        move |source| Self::Store {
            operation,
            path,
            source,
        }
    }

    pub(crate) fn corrupt(path: &impl ToString, reason: impl ToString) -> Self {
        Self::Corrupt {
            path: path.to_string(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn parquet(path: &object_store::path::Path) -> impl Fn(ParquetError) -> Self {
        let path = path.to_string();
        move |source| Self::Parquet {
            path: path.clone(),
            source,
        }
    }
}

fn store_kind(error: &object_store::Error) -> ErrorKind {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => ErrorKind::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } => ErrorKind::Conflict,
        E::InvalidPath { .. }
        | E::PermissionDenied { .. }
        | E::Unauthenticated { .. }
        | E::UnknownConfigurationKey { .. }
        | E::NotSupported { .. }
        | E::NotImplemented { .. } => ErrorKind::Invalid,
        E::JoinError { .. } => ErrorKind::Internal,
        _ => ErrorKind::Unavailable,
    }
}

/// Whether the store did not answer, whoever passed that on.
fn is_store_away(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<object_store::Error>())
        .any(|error| store_kind(error) == ErrorKind::Unavailable)
}

#[cfg(test)]
mod tests;
