use anabranch_front::{Cause, QueryError};
use anabranch_model::ErrorKind;

/// What ends the server or one of its connections.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client sent something that is not the protocol.
    #[error("protocol violation: {0}")]
    Protocol(&'static str),
    #[error("{what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
    /// The catalog cannot be set up.
    #[error("the PostgreSQL catalog cannot be set up: {0}")]
    Catalog(datafusion::error::DataFusionError),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Protocol(_) => ErrorKind::Invalid,
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Catalog(_) => ErrorKind::Internal,
        }
    }

    /// For `map_err`.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// How bad an error is for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    /// The connection ends.
    Fatal,
}

/// An error as a client sees it (PostgreSQL documentation, "Error and Notice Message Fields").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgError {
    pub severity: Severity,
    /// SQLSTATE (PostgreSQL documentation, appendix A).
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
    /// Where in the statement, counted in characters from 1.
    pub position: Option<usize>,
}

impl PgError {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            hint: None,
            position: None,
        }
    }

    pub fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Fatal,
            ..Self::new(code, message)
        }
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new("0A000", message)
    }

    /// An error of the query engine; `sql` tells the position.
    pub fn of_query(error: QueryError, sql: &str) -> Self {
        let code = match error.cause {
            Cause::Syntax => "42601",
            Cause::UnknownRelation => "42P01",
            Cause::UnknownColumn => "42703",
            Cause::UnknownFunction => "42883",
            Cause::NotReadOnly => "25006",
            Cause::Invalid => "22023",
            Cause::Unsupported => "0A000",
            Cause::Timeout => "57014",
            Cause::TooLarge => "54000",
            Cause::Busy => "53300",
            Cause::Demand => "55000",
            Cause::Unavailable => "57P03",
            // As PostgreSQL: drivers know it, and prepare again.
            Cause::Changed => "0A000",
            Cause::Denied => "42501",
            Cause::Internal => "XX000",
        };
        let position = match (&error.about, error.cause) {
            (Some(name), _) => position_of(sql, name),
            (None, Cause::Syntax) => position_in_message(sql, &error.message),
            _ => None,
        };
        Self {
            severity: Severity::Error,
            code,
            message: error.message,
            hint: error.hint,
            position,
        }
    }
}

/// The place of the first occurrence of a name that is not part of a longer one.
pub(crate) fn position_of(sql: &str, name: &str) -> Option<usize> {
    let bare = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
    if bare.is_empty() {
        return None;
    }
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (haystack, needle) = (sql.to_ascii_lowercase(), bare.to_ascii_lowercase());
    let found = haystack.match_indices(&needle).find(|(at, found)| {
        let before = haystack[..*at].chars().next_back();
        let after = haystack[at + found.len()..].chars().next();
        !before.is_some_and(word) && !after.is_some_and(word)
    });
    found.map(|(at, _)| sql[..at].chars().count() + 1)
}

/// The place that the parser names in its messages: `… at Line: 1, Column: 8`.
pub(crate) fn position_in_message(sql: &str, message: &str) -> Option<usize> {
    let (_, place) = message.rsplit_once("at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    let column: usize = column
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
        .filter(|column| *column > 0)?;
    let line: usize = line.parse().ok().filter(|line| *line > 0)?;
    let before: usize = sql
        .split('\n')
        .take(line - 1)
        .map(|line| line.chars().count() + 1)
        .sum();
    Some(before + column)
}

#[cfg(test)]
mod tests;
