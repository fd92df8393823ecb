use std::path::PathBuf;

use anabranch_model::ErrorKind;

/// What went wrong with access control itself. That somebody may not do something is [`Denied`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the system gives no random bytes")]
    NoRandomness,
    #[error("`{name}` cannot name a token; use up to 64 letters, digits and . _ - @")]
    Name { name: String },
    #[error("there is a token called `{name}` already; revoke it, or choose another name")]
    NameTaken { name: String },
    #[error("the id {id} is taken; try again")]
    IdTaken { id: String },
    #[error("there is no token `{which}` that counts; `anabranch token list` lists them")]
    NoToken { which: String },
    #[error("`access.service_key` is too short; give it at least {least} characters that nobody can guess")]
    ShortKey { least: usize },
    #[error("access/site-key.json in the object store is no key; remove it, and restart all services")]
    NoKey,
    #[error(transparent)]
    Dataset(#[from] anabranch_dataset::Error),
    #[error(transparent)]
    Tls(#[from] anabranch_runtime::tls::Error),
    /// Settings that do not go together; says what to change.
    #[error("{0}")]
    Settings(String),
    #[error("{path}: the keys of the identity provider cannot be read: {reason}", path = path.display())]
    Keys { path: PathBuf, reason: String },
    #[error("the audit log cannot be written: {0}")]
    Audit(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A client for calls to other services cannot be built.
    #[error("no client: {0}")]
    Client(String),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRandomness | Self::Client(_) => ErrorKind::Internal,
            Self::Name { .. } | Self::ShortKey { .. } | Self::Settings(_) | Self::Keys { .. } => ErrorKind::Invalid,
            Self::NameTaken { .. } | Self::IdTaken { .. } => ErrorKind::Conflict,
            Self::NoToken { .. } => ErrorKind::NotFound,
            Self::NoKey => ErrorKind::Data,
            Self::Audit(_) | Self::Io(_) => ErrorKind::Unavailable,
            Self::Dataset(error) => error.kind(),
            Self::Tls(error) => error.kind(),
        }
    }
}

/// Why somebody was not let in. What a stranger is told is the same for all of them but [`Denied::Unavailable`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Neither a token of ours nor one of the identity provider's.
    #[error("the credential is not known")]
    Unknown,
    #[error("the token has expired")]
    Expired,
    #[error("the token was revoked")]
    Revoked,
    /// Genuine, but it grants nothing here.
    #[error("the identity provider's token grants no role: {reason}")]
    NoRole { reason: String },
    /// Whether it is genuine cannot be found out at the moment.
    #[error("credentials cannot be checked at the moment: {reason}")]
    Unavailable { reason: String },
}
